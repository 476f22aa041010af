"""The gate against simulated servers, in virtual time: an hour of calls takes a moment."""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from statistics import mean
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from persona_pipeline.llm.buying.gate import Gate
from persona_pipeline.llm.buying.throttle import Outcome, Pass

T = TypeVar("T")
Server = Callable[[], Awaitable[Outcome]]
ANSWERED, REFUSED, TROUBLE = Outcome.ANSWERED, Outcome.REFUSED, Outcome.TROUBLE


class VirtualLoop(asyncio.SelectorEventLoop):
    """Time passes only by waiting, and then at once."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        selector = self._selector  # type: ignore[attr-defined]
        really_select = selector.select

        def select(timeout: float | None = None) -> list[Any]:
            assert timeout is not None, "everybody waits for ever"
            self.now += max(0, timeout)
            return list(really_select(0))

        selector.select = select

    def time(self) -> float:
        return self.now


def run(main: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)


def now() -> float:
    return asyncio.get_running_loop().time()


def make_gate(ceiling: int, **settings: Any) -> Gate:  # noqa: ANN401
    return Gate(ceiling, clock=now, **settings)


@dataclass
class Report:
    """What a stage saw."""

    gate: Gate
    seconds: float = 0.0
    outcomes: Counter[Outcome] = field(default_factory=Counter)
    limits: list[int] = field(default_factory=list)
    outage_calls: int = 0

    @property
    def refused_share(self) -> float:
        return self.outcomes[REFUSED] / self.outcomes.total()

    def late_limits(self) -> list[int]:
        """After the run-in and before the last rows, when the limit does not matter."""
        count = len(self.limits)
        return self.limits[count // 2 : count * 9 // 10]


async def run_stage(gate: Gate, server: Server, rows: int, *, workers: int = 500) -> Report:
    """Every row is asked for until it is answered; a refused one waits for a second."""
    report, began = Report(gate), now()
    unanswered = iter(range(rows))

    async def call() -> Outcome:
        ticket = await gate.enter()
        report.outage_calls += gate.is_out
        outcome = await server()
        gate.leave(ticket, outcome, retry_after=1 if outcome is REFUSED else None)
        report.outcomes[outcome] += 1
        report.limits.append(gate.limit)
        return outcome

    async def work() -> None:
        for _ in unanswered:
            while await call() is not ANSWERED:  # noqa: ASYNC110 - a row tries again
                await asyncio.sleep(1)

    await asyncio.gather(*(work() for _ in range(workers)))
    report.seconds = now() - began
    return report


def simulate(server: Server, rows: int, ceiling: int, *, start: int = 32) -> Report:
    async def main() -> Report:
        return await run_stage(make_gate(ceiling, start=start), server, rows)

    return run(main())


def serve_noisily(sigma: float, *, refused: float = 0.0, seed: int = 0) -> Server:
    """As many at a time as wanted, a second each (lognormal)."""
    dice = random.Random(seed)

    async def server() -> Outcome:
        if dice.random() < refused:
            await asyncio.sleep(0.05)
            return REFUSED
        await asyncio.sleep(dice.lognormvariate(-(sigma**2) / 2, sigma))
        return ANSWERED

    return server


def serve_at_most(cap: int, *, refusal_seconds: float) -> Server:
    """A provider that answers in a second and refuses what is over its cap."""
    server, busy = serve_noisily(0.3), 0

    async def capped() -> Outcome:
        nonlocal busy
        if busy >= cap:
            await asyncio.sleep(refusal_seconds)
            return REFUSED
        busy += 1
        outcome = await server()
        busy -= 1
        return outcome

    return capped


def serve_in_turn(workers: int, *, sigma: float, seed: int) -> Server:
    """vLLM, llama.cpp: the others wait in the server."""
    server, slots = serve_noisily(sigma, seed=seed), asyncio.Semaphore(workers)

    async def queueing() -> Outcome:
        async with slots:
            return await server()

    return queueing


def serve_together(workers: int, *, sigma: float, seed: int) -> Server:
    """All share the workers: latency = service time * max(1, in flight / workers)."""
    dice, busy = random.Random(seed), 0

    async def server() -> Outcome:
        nonlocal busy
        busy += 1
        slower = max(1, busy / workers)
        await asyncio.sleep(slower * dice.lognormvariate(-(sigma**2) / 2, sigma))
        busy -= 1
        return ANSWERED

    return server


# ------------------------------------------------------------------------------- convergence


@pytest.mark.parametrize("refusal_seconds", [0.02, 0.1, 0.5])
def test_the_limit_finds_the_cap_of_a_provider_that_refuses(refusal_seconds: float) -> None:
    report = simulate(serve_at_most(40, refusal_seconds=refusal_seconds), 6000, ceiling=500)

    assert 35 <= min(report.late_limits()) <= max(report.late_limits()) <= 50
    assert report.refused_share < 0.15
    assert 6000 / report.seconds > 0.95 * 40 / 1.05


@pytest.mark.parametrize("seed", range(2))
def test_five_percent_of_random_refusals_leave_the_limit_near_the_ceiling(seed: int) -> None:
    server = serve_noisily(0.3, refused=0.05, seed=seed)

    report = simulate(server, 10_000, ceiling=200, start=200)

    assert min(report.limits) >= 160


@pytest.mark.parametrize("seed", range(2))
def test_five_percent_of_random_refusals_do_not_wear_down_a_small_limit(seed: int) -> None:
    report = simulate(serve_noisily(0.3, refused=0.05, seed=seed), 10_000, ceiling=200)

    assert min(report.limits) >= 24
    assert report.gate.limit >= 80


@pytest.mark.parametrize("serve", [serve_in_turn, serve_together])
@pytest.mark.parametrize(("sigma", "seed"), [(0.0, 0), (0.5, 1), (0.5, 2)])
@pytest.mark.parametrize(("workers", "rows"), [(8, 3000), (40, 4000)])
def test_the_limit_finds_the_workers_of_a_server_that_queues(
    serve: Callable[..., Server], workers: int, rows: int, sigma: float, seed: int
) -> None:
    report = simulate(serve(workers, sigma=sigma, seed=seed), rows, ceiling=256)

    assert workers <= mean(report.late_limits()) <= 2.5 * workers
    assert rows / report.seconds > 0.9 * workers


@pytest.mark.parametrize("seed", range(2))
def test_noisy_latencies_do_not_shrink_the_limit(seed: int) -> None:
    report = simulate(serve_noisily(0.5, seed=seed), 10_000, ceiling=256)

    assert min(report.limits) >= 16
    assert min(report.late_limits()) == 256


# --------------------------------------------------------------------------------- decisions


async def answer(gate: Gate, *outcomes: Outcome, is_busy: bool = True) -> None:
    """One call for each outcome, behind them more that say nothing."""

    async def call(outcome: Outcome) -> None:
        ticket = await gate.enter()
        await asyncio.sleep(1)
        gate.leave(ticket, outcome, retry_after=7 if outcome is REFUSED else None)

    more = [Outcome.OTHER] * gate.limit if is_busy else []
    await asyncio.gather(*map(call, [*outcomes, *more]))


@pytest.mark.parametrize(
    ("refused", "limit"),
    [(0, 64), (1, 32), (3, 32), (8, 24), (16, 16), (32, 16)],
)
def test_a_window_of_answers_decides_by_its_share_of_refusals(refused: int, limit: int) -> None:
    async def main() -> Gate:
        gate = make_gate(100)
        await answer(gate, *[REFUSED] * refused, *[ANSWERED] * (32 - refused))
        return gate

    gate = run(main())

    assert gate.limit == limit
    assert gate.refused_share == refused / 32
    assert gate.answered == 32 - refused
    assert gate.in_flight == 0


def test_a_timeout_counts_as_a_refusal() -> None:
    async def main() -> Gate:
        gate = make_gate(100)
        await answer(gate, *[Outcome.TIMED_OUT] * 8, *[ANSWERED] * 24)
        return gate

    assert run(main()).limit == 24


@pytest.mark.parametrize(("refused", "pause"), [(32, 7), (12, 0)])
def test_everybody_pauses_once_when_most_slots_are_refused(refused: int, pause: float) -> None:
    async def main() -> list[float]:
        gate = make_gate(100)
        outcomes = [REFUSED] * refused + [ANSWERED] * (32 - refused)
        await answer(gate, *outcomes, is_busy=False)
        began = now()
        waited = []
        for _ in range(2):
            gate.leave(await gate.enter(), ANSWERED)
            waited.append(now() - began)
        return waited

    assert run(main()) == pytest.approx([pause, pause])


def test_the_limit_does_not_grow_when_it_was_not_what_kept_us() -> None:
    async def main() -> Gate:
        gate = make_gate(100)
        for _ in range(10):
            await answer(gate, *[ANSWERED] * 16, is_busy=False)
        return gate

    assert run(main()).limit == 32


def test_calls_started_before_a_change_say_nothing_about_the_new_limit() -> None:
    async def main() -> tuple[int, float]:
        gate = make_gate(400, start=64)
        old = [await gate.enter() for _ in range(64)]
        await asyncio.sleep(1)
        for ticket in old:
            gate.leave(ticket, REFUSED)
            if gate.limit < 64:
                break
        limit = gate.limit
        for ticket in old[: gate.in_flight]:
            gate.leave(ticket, REFUSED)
        return limit, gate.limit

    assert run(main()) == (32, 32)


def test_outcomes_that_say_nothing_close_no_window() -> None:
    async def main() -> Gate:
        gate = make_gate(100)
        await answer(gate, *[Outcome.OTHER] * 500)
        return gate

    gate = run(main())

    assert (gate.limit, gate.refused_share, gate.in_flight) == (32, 0, 0)


def test_a_server_of_one_worker_is_asked_one_call_or_two_at_a_time() -> None:
    report = simulate(serve_in_turn(1, sigma=0, seed=0), 1500, ceiling=64, start=4)

    assert 1 <= mean(report.late_limits()) <= 2.5


def test_a_stage_keeps_the_limit_and_forgets_the_rates() -> None:
    async def main() -> list[int]:
        gate = make_gate(256)
        await run_stage(gate, serve_noisily(0.2), 1000)
        limits = [gate.limit]
        gate.begin_stage()  # from now on, answers take 30 times as long
        limits.append(gate.limit)

        async def server() -> Outcome:
            await asyncio.sleep(30)
            return ANSWERED

        await run_stage(gate, server, 3000)
        return [*limits, gate.limit]

    assert run(main()) == [256, 256, 256]


def test_a_stage_that_begins_while_half_is_tried_has_the_whole_limit() -> None:
    async def main() -> list[int]:
        gate = make_gate(256)
        stage = asyncio.create_task(run_stage(gate, serve_in_turn(40, sigma=0, seed=0), 10**6))
        while gate.limit >= 30:  # noqa: ASYNC110 - half of what 40 workers need
            await asyncio.sleep(0.5)
        half = gate.limit
        gate.begin_stage()
        stage.cancel()
        return [half, gate.limit]

    half, whole = run(main())

    assert 20 <= half < 30
    assert whole // 2 == half


# ----------------------------------------------------------------------------------- outages


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
    assert not report.gate.is_out
    assert report.gate.out_for == 0


async def break_down(gate: Gate) -> None:
    while not gate.is_out:
        gate.leave(await gate.enter(), TROUBLE)


def test_the_pauses_of_an_outage_double_up_to_a_minute() -> None:
    async def main() -> list[float]:
        gate = make_gate(8)
        await break_down(gate)
        pauses = []
        for _ in range(7):
            began = now()
            ticket = await gate.enter()
            pauses.append(now() - began)
            gate.leave(ticket, TROUBLE)
        return pauses

    for pause, least in zip(run(main()), [2, 4, 8, 16, 32, 60, 60], strict=True):
        assert least <= pause <= 1.1 * least + 1e-6


def test_an_outage_lets_four_probes_through_and_ends_with_the_first_answer() -> None:
    async def main() -> None:
        gate = make_gate(64, start=64)
        await break_down(gate)
        probes = [await gate.enter() for _ in range(4)]
        fifth = asyncio.create_task(gate.enter())
        await asyncio.sleep(100)
        assert not fifth.done()
        assert gate.out_for > 100

        gate.leave(probes[0], Outcome.OTHER)  # says nothing: another probe in its place
        await asyncio.sleep(0)
        assert fifth.done()
        assert gate.is_out

        gate.leave(probes[1], ANSWERED)
        assert (gate.is_out, gate.out_for, gate.limit) == (False, 0, 32)
        for ticket in [*probes[2:], fifth.result()]:
            gate.leave(ticket, TROUBLE)
        assert not gate.is_out
        await answer(gate, *[ANSWERED] * 32)
        assert gate.limit == 64  # slow start

    run(main())


def test_calls_from_before_an_outage_do_not_prolong_it() -> None:
    async def main() -> float:
        gate = make_gate(64, start=64)
        old = [await gate.enter() for _ in range(64)]
        for ticket in old:
            gate.leave(ticket, TROUBLE)
        began = now()
        await gate.enter()
        return now() - began

    assert 2 <= run(main()) <= 2.2 + 1e-6


def test_an_answer_from_before_an_outage_ends_its_pause() -> None:
    async def main() -> None:
        gate = make_gate(64)
        old = await gate.enter()
        await break_down(gate)
        waiting = asyncio.create_task(gate.enter())
        await asyncio.sleep(0)
        began = now()
        gate.leave(old, ANSWERED)
        await waiting
        assert now() == began

    run(main())


def test_the_time_without_an_answer_does_not_count_idle_time() -> None:
    async def main() -> list[float]:
        gate = make_gate(8)
        seen = []
        gate.leave(await gate.enter(), ANSWERED)
        await asyncio.sleep(3600)
        seen.append(gate.out_for)
        ticket = await gate.enter()
        await asyncio.sleep(5)
        gate.leave(ticket, REFUSED)
        seen.append(gate.out_for)
        await asyncio.sleep(5)
        seen.append(gate.out_for)
        gate.begin_stage()
        seen.append(gate.out_for)
        return seen

    assert run(main()) == pytest.approx([0, 5, 10, 0])


# -------------------------------------------------------------------------------------- pace


@pytest.mark.parametrize("per_minute", [30, 600, 6000])
def test_requests_per_minute_are_kept(per_minute: int) -> None:
    async def main() -> int:
        gate = make_gate(1000, requests_per_minute=per_minute)
        report = asyncio.create_task(run_stage(gate, serve_noisily(0.1), 10**6))
        await asyncio.sleep(60)
        report.cancel()
        return gate.answered + gate.in_flight

    assert run(main()) == pytest.approx(per_minute, rel=0.05, abs=1)


@pytest.mark.parametrize("error", [0.5, 1.0, 2.0])
def test_tokens_per_minute_are_kept_whatever_was_estimated(error: float) -> None:
    async def main() -> float:
        gate = make_gate(100, tokens_per_minute=60_000)
        used = 0

        async def work() -> None:
            nonlocal used
            while True:
                ticket = await gate.enter(int(100 * error))
                await asyncio.sleep(0.2)
                used += 100
                gate.leave(ticket, ANSWERED, tokens=100)

        workers = [asyncio.create_task(work()) for _ in range(20)]
        await asyncio.sleep(60)
        for worker in workers:
            worker.cancel()
        return used

    assert run(main()) == pytest.approx(60_000, rel=0.05)


def test_a_request_bigger_than_the_burst_is_let_through_and_paid_for_afterwards() -> None:
    async def main() -> list[float]:
        gate, began, entered = make_gate(8, tokens_per_minute=600), now(), []
        for _ in range(3):
            gate.leave(await gate.enter(100), ANSWERED)
            entered.append(now() - began)
        return entered

    assert run(main()) == pytest.approx([0, 10, 20])


def test_those_behind_a_pause_come_when_the_pace_allows_and_not_when_the_pause_would_end() -> None:
    async def main() -> float:
        gate = make_gate(64, requests_per_minute=600)
        old = await gate.enter()
        await break_down(gate)
        waiting = [asyncio.create_task(gate.enter()) for _ in range(30)]
        await asyncio.sleep(0)
        gate.leave(old, ANSWERED)
        began = now()
        for task in waiting:
            gate.leave(await task, ANSWERED)
        return now() - began

    assert run(main()) == pytest.approx(3, abs=0.2)


# ----------------------------------------------------------------------------------- waiting


def test_waiters_are_served_in_order() -> None:
    async def main() -> list[int]:
        gate, served = make_gate(3), []

        async def call(number: int) -> None:
            ticket = await gate.enter()
            served.append(number)
            await asyncio.sleep(random.Random(number).random())
            gate.leave(ticket, ANSWERED)

        await asyncio.gather(*map(call, range(100)))
        return served

    assert run(main()) == list(range(100))


def test_a_cancelled_waiter_neither_takes_a_slot_nor_blocks_the_next() -> None:
    async def main() -> None:
        gate = make_gate(1)
        ticket = await gate.enter()
        first, second = (asyncio.create_task(gate.enter()) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.sleep(0)
        gate.leave(ticket, ANSWERED)
        gate.leave(await second, ANSWERED)
        assert gate.in_flight == 0

    run(main())


@pytest.mark.parametrize("per_minute", [None, 60])
def test_a_waiter_cancelled_in_the_turn_of_its_admission_passes_its_slot_on(
    per_minute: int | None,
) -> None:
    async def main() -> None:
        gate = make_gate(1, requests_per_minute=per_minute, tokens_per_minute=per_minute)
        ticket = await gate.enter()
        await asyncio.sleep(10)  # the quota of a second is there again
        first, second = (asyncio.create_task(gate.enter(1)) for _ in range(2))
        await asyncio.sleep(0)
        began = now()
        gate.leave(ticket, ANSWERED)
        first.cancel()
        gate.leave(await second, ANSWERED)
        assert gate.in_flight == 0
        assert now() == began  # nothing was sent, nothing to be paid

    run(main())


def test_a_cancelled_waiter_leaves_no_alarm() -> None:
    async def main() -> int:
        gate = make_gate(8)
        await break_down(gate)
        waiting = asyncio.create_task(gate.enter())
        await asyncio.sleep(0.1)
        assert len(asyncio.all_tasks()) == 3
        waiting.cancel()
        await asyncio.sleep(0.1)
        return len(asyncio.all_tasks())

    assert run(main()) == 1


def test_a_gate_is_used_in_one_event_loop_after_the_other() -> None:
    clock = {"now": 0.0}
    gate = Gate(4, requests_per_minute=60_000, clock=lambda: clock["now"])

    async def leave_in_the_middle() -> None:
        tickets = [await gate.enter() for _ in range(4)]
        waiting = [asyncio.create_task(gate.enter()) for _ in range(5)]
        await asyncio.sleep(0)
        assert not any(task.done() for task in waiting)
        for ticket in tickets:
            gate.leave(ticket, Outcome.OTHER)
        for task in waiting[:4]:
            gate.leave(await task, Outcome.OTHER)
        await waiting[4]
        gate._closed_until = clock["now"] + 50  # noqa: SLF001 - a pause when the loop ends
        _ = [asyncio.create_task(gate.enter()) for _ in range(5)]
        await asyncio.sleep(0)
        gate.leave(waiting[4].result(), Outcome.OTHER)

    for _ in range(3):
        asyncio.run(leave_in_the_middle())
        assert gate.in_flight == 0
        assert not gate._waiters  # noqa: SLF001
        assert gate._alarm is None  # noqa: SLF001
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
        gate = make_gate(
            ceiling, start=start, requests_per_minute=per_minute, tokens_per_minute=60_000
        )
        admit = gate._admit  # noqa: SLF001

        def admit_checked(tokens: int, now: float) -> Pass:
            ticket = admit(tokens, now)
            assert 0 < gate.in_flight <= gate.limit <= ceiling
            return ticket

        gate._admit = admit_checked  # type: ignore[method-assign]  # noqa: SLF001

        async def call(
            outcome: Outcome, wait: float, seconds: float, tokens: int, cancel: float | None
        ) -> None:
            async def enter_and_leave() -> None:
                ticket = await gate.enter(tokens)
                result = Outcome.OTHER
                try:
                    await asyncio.sleep(seconds)
                    result = outcome
                finally:
                    gate.leave(ticket, result, tokens=tokens // 2)
                    assert gate.in_flight >= 0

            await asyncio.sleep(wait)
            task = asyncio.create_task(enter_and_leave())
            if cancel is not None:
                await asyncio.sleep(cancel)
                task.cancel()
            await asyncio.wait([task])
            if not task.cancelled():
                task.result()

        await asyncio.gather(*(call(*each) for each in calls))
        assert gate.in_flight == 0
        assert len(asyncio.all_tasks()) <= 2  # us, and an alarm on its way out

    run(main())
