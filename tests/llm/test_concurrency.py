"""Test the limiter's outages, quotas and waiters."""

import asyncio
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from persona_pipeline.llm.gateway.concurrency import Outcome, Permit
from persona_pipeline.llm.gateway.limiter import RateLimiter
from tests.support.limiter_simulation import (
    ANSWERED,
    REFUSED,
    TROUBLE,
    answer,
    break_down,
    make_limiter,
    now,
    run,
    run_stage,
    serve_noisily,
    simulate,
)


def test_an_outage_costs_few_probes_and_no_row() -> None:
    server = serve_noisily(0.3)

    def is_down() -> bool:
        return 1010 <= now() < 1022

    async def failing() -> Outcome:
        if is_down():
            await asyncio.sleep(0.01)
            return TROUBLE
        outcome = await server()
        return TROUBLE if is_down() else outcome

    report = simulate(failing, 3000, ceiling=64)

    assert report.outcomes[ANSWERED] == 3000
    assert report.outcomes[TROUBLE] <= 64 + 32 + 4 * 4
    assert report.outage_calls <= 5 * 4
    assert report.seconds < 3000 / 64 + 12 + 20
    assert not report.limiter.is_outage
    assert report.limiter.silent_seconds == 0


def test_the_pauses_of_an_outage_double_up_to_a_minute() -> None:
    async def main() -> list[float]:
        limiter = make_limiter(8)
        await break_down(limiter)
        pauses = []
        for _ in range(7):
            began = now()
            permit = await limiter.enter()
            pauses.append(now() - began)
            limiter.leave(permit, TROUBLE)
        return pauses

    for pause, least in zip(run(main()), [2, 4, 8, 16, 32, 60, 60], strict=True):
        assert least <= pause <= 1.1 * least + 1e-6


def test_an_outage_lets_four_probes_through_and_ends_with_the_first_answer() -> None:
    async def main() -> None:
        limiter = make_limiter(64, start=64)
        await break_down(limiter)
        probes = [await limiter.enter() for _ in range(4)]
        fifth = asyncio.create_task(limiter.enter())
        await asyncio.sleep(100)
        assert not fifth.done()
        assert limiter.silent_seconds > 100

        limiter.leave(probes[0], Outcome.OTHER)  # says nothing: another probe in its place
        await asyncio.sleep(0)
        assert fifth.done()
        assert limiter.is_outage

        limiter.leave(probes[1], ANSWERED)
        assert (limiter.is_outage, limiter.silent_seconds, limiter.limit) == (False, 0, 32)
        for permit in [*probes[2:], fifth.result()]:
            limiter.leave(permit, TROUBLE)
        assert not limiter.is_outage
        await answer(limiter, *[ANSWERED] * 32)
        assert limiter.limit == 64  # slow start

    run(main())


def test_calls_from_before_an_outage_do_not_prolong_it() -> None:
    async def main() -> float:
        limiter = make_limiter(64, start=64)
        old = [await limiter.enter() for _ in range(64)]
        for permit in old:
            limiter.leave(permit, TROUBLE)
        began = now()
        await limiter.enter()
        return now() - began

    assert 2 <= run(main()) <= 2.2 + 1e-6


def test_an_answer_from_before_an_outage_ends_its_pause() -> None:
    async def main() -> None:
        limiter = make_limiter(64)
        old = await limiter.enter()
        await break_down(limiter)
        waiting = asyncio.create_task(limiter.enter())
        await asyncio.sleep(0)
        began = now()
        limiter.leave(old, ANSWERED)
        await waiting
        assert now() == began

    run(main())


def test_the_time_without_an_answer_does_not_count_idle_time() -> None:
    async def main() -> list[float]:
        limiter = make_limiter(8)
        seen = []
        limiter.leave(await limiter.enter(), ANSWERED)
        await asyncio.sleep(3600)
        seen.append(limiter.silent_seconds)
        permit = await limiter.enter()
        await asyncio.sleep(5)
        limiter.leave(permit, REFUSED)
        seen.append(limiter.silent_seconds)
        await asyncio.sleep(5)
        seen.append(limiter.silent_seconds)
        limiter.begin_stage()
        seen.append(limiter.silent_seconds)
        return seen

    assert run(main()) == pytest.approx([0, 5, 10, 0])


@pytest.mark.parametrize("per_minute", [30, 600, 6000])
def test_requests_per_minute_are_kept(per_minute: int) -> None:
    async def main() -> int:
        limiter = make_limiter(1000, requests_per_minute=per_minute)
        report = asyncio.create_task(run_stage(limiter, serve_noisily(0.1), 10**6))
        await asyncio.sleep(60)
        report.cancel()
        return limiter.answered + limiter.in_flight

    assert run(main()) == pytest.approx(per_minute, rel=0.05, abs=1)


@pytest.mark.parametrize("error", [0.5, 1.0, 2.0])
def test_tokens_per_minute_are_kept_whatever_was_estimated(error: float) -> None:
    async def main() -> float:
        limiter = make_limiter(100, tokens_per_minute=60_000)
        used = 0

        async def work() -> None:
            nonlocal used
            while True:
                permit = await limiter.enter(int(100 * error))
                await asyncio.sleep(0.2)
                used += 100
                limiter.leave(permit, ANSWERED, tokens=100)

        workers = [asyncio.create_task(work()) for _ in range(20)]
        await asyncio.sleep(60)
        for worker in workers:
            worker.cancel()
        return used

    assert run(main()) == pytest.approx(60_000, rel=0.05)


def test_a_request_bigger_than_the_burst_is_admitted_and_paid_for_afterwards() -> None:
    async def main() -> list[float]:
        limiter, began, entered = make_limiter(8, tokens_per_minute=600), now(), []
        for _ in range(3):
            limiter.leave(await limiter.enter(100), ANSWERED)
            entered.append(now() - began)
        return entered

    assert run(main()) == pytest.approx([0, 10, 20])


def test_waiters_behind_a_pause_enter_when_the_quota_allows_not_when_the_pause_would_end() -> None:
    async def main() -> float:
        limiter = make_limiter(64, requests_per_minute=600)
        old = await limiter.enter()
        await break_down(limiter)
        waiting = [asyncio.create_task(limiter.enter()) for _ in range(30)]
        await asyncio.sleep(0)
        limiter.leave(old, ANSWERED)
        began = now()
        for task in waiting:
            limiter.leave(await task, ANSWERED)
        return now() - began

    assert run(main()) == pytest.approx(3, abs=0.2)


def test_waiters_are_served_in_order() -> None:
    async def main() -> list[int]:
        limiter, served = make_limiter(3), []

        async def call(number: int) -> None:
            permit = await limiter.enter()
            served.append(number)
            await asyncio.sleep(random.Random(number).random())
            limiter.leave(permit, ANSWERED)

        await asyncio.gather(*map(call, range(100)))
        return served

    assert run(main()) == list(range(100))


def test_a_cancelled_waiter_neither_takes_a_slot_nor_blocks_the_next() -> None:
    async def main() -> None:
        limiter = make_limiter(1)
        permit = await limiter.enter()
        first, second = (asyncio.create_task(limiter.enter()) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.sleep(0)
        limiter.leave(permit, ANSWERED)
        limiter.leave(await second, ANSWERED)
        assert limiter.in_flight == 0

    run(main())


@pytest.mark.parametrize("per_minute", [None, 60])
def test_a_waiter_cancelled_in_the_turn_of_its_admission_returns_its_slot(
    per_minute: int | None,
) -> None:
    async def main() -> None:
        limiter = make_limiter(1, requests_per_minute=per_minute, tokens_per_minute=per_minute)
        permit = await limiter.enter()
        await asyncio.sleep(10)  # the quota of a second is there again
        first, second = (asyncio.create_task(limiter.enter(1)) for _ in range(2))
        await asyncio.sleep(0)
        began = now()
        limiter.leave(permit, ANSWERED)
        first.cancel()
        limiter.leave(await second, ANSWERED)
        assert limiter.in_flight == 0
        assert now() == began  # nothing was sent, nothing to be paid

    run(main())


def test_a_cancelled_waiter_leaves_no_alarm() -> None:
    async def main() -> int:
        limiter = make_limiter(8)
        await break_down(limiter)
        waiting = asyncio.create_task(limiter.enter())
        await asyncio.sleep(0.1)
        assert len(asyncio.all_tasks()) == 3
        waiting.cancel()
        await asyncio.sleep(0.1)
        return len(asyncio.all_tasks())

    assert run(main()) == 1


def test_one_limiter_serves_one_event_loop_after_the_other() -> None:
    clock = {"now": 0.0}
    limiter = RateLimiter(4, requests_per_minute=60_000, clock=lambda: clock["now"])

    async def leave_in_the_middle() -> None:
        permits = [await limiter.enter() for _ in range(4)]
        waiting = [asyncio.create_task(limiter.enter()) for _ in range(5)]
        await asyncio.sleep(0)
        assert not any(task.done() for task in waiting)
        for permit in permits:
            limiter.leave(permit, Outcome.OTHER)
        for task in waiting[:4]:
            limiter.leave(await task, Outcome.OTHER)
        await waiting[4]
        limiter._closed_until = clock["now"] + 50  # noqa: SLF001 - a pause when the loop ends
        _ = [asyncio.create_task(limiter.enter()) for _ in range(5)]
        await asyncio.sleep(0)
        limiter.leave(waiting[4].result(), Outcome.OTHER)

    for _ in range(3):
        asyncio.run(leave_in_the_middle())
        assert limiter.in_flight == 0
        assert not limiter._waiters  # noqa: SLF001
        assert limiter._alarm is None  # noqa: SLF001
        clock["now"] += 60


@given(
    ceiling=st.integers(1, 20),
    start=st.integers(1, 20),
    per_minute=st.none() | st.integers(60, 60_000),
    calls=st.lists(
        st.tuples(
            st.sampled_from(Outcome),
            st.floats(0, 3),
            st.floats(0, 3),
            st.integers(0, 2000),
            st.none() | st.floats(0, 2),
        ),
        max_size=60,
    ),
)
def test_slots_are_never_oversold_and_every_waiter_is_served(
    ceiling: int,
    start: int,
    per_minute: int | None,
    calls: list[tuple[Outcome, float, float, int, float | None]],
) -> None:
    async def main() -> None:
        limiter = make_limiter(
            ceiling, start=start, requests_per_minute=per_minute, tokens_per_minute=60_000
        )
        admit = limiter._admit  # noqa: SLF001

        def admit_checked(tokens: int, now: float) -> Permit:
            permit = admit(tokens, now)
            assert 0 < limiter.in_flight <= limiter.limit <= ceiling
            return permit

        limiter._admit = admit_checked  # type: ignore[method-assign]  # noqa: SLF001

        async def call(
            outcome: Outcome, wait: float, seconds: float, tokens: int, cancel: float | None
        ) -> None:
            async def enter_and_leave() -> None:
                permit = await limiter.enter(tokens)
                result = Outcome.OTHER
                try:
                    await asyncio.sleep(seconds)
                    result = outcome
                finally:
                    limiter.leave(permit, result, tokens=tokens // 2)
                    assert limiter.in_flight >= 0

            await asyncio.sleep(wait)
            task = asyncio.create_task(enter_and_leave())
            if cancel is not None:
                await asyncio.sleep(cancel)
                task.cancel()
            await asyncio.wait([task])
            if not task.cancelled():
                task.result()

        await asyncio.gather(*(call(*each) for each in calls))
        assert limiter.in_flight == 0
        assert len(asyncio.all_tasks()) <= 2  # us, and an alarm on its way out

    run(main())
