"""Test the limiter against simulated servers in virtual time: an hour of calls takes a moment."""

import asyncio
from collections.abc import Callable
from statistics import mean

import pytest

from persona_pipeline.llm.gateway.concurrency import Outcome
from persona_pipeline.llm.gateway.limiter import RateLimiter
from tests.support.limiter_simulation import (
    ANSWERED,
    REFUSED,
    Server,
    answer,
    make_limiter,
    now,
    run,
    run_stage,
    serve_at_most,
    serve_in_turn,
    serve_noisily,
    serve_together,
    simulate,
)


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
    assert report.limiter.limit >= 80


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


@pytest.mark.parametrize(
    ("refused", "limit"),
    [(0, 64), (1, 32), (3, 32), (8, 24), (16, 16), (32, 16)],
)
def test_a_window_of_answers_decides_by_its_share_of_refusals(refused: int, limit: int) -> None:
    async def main() -> RateLimiter:
        limiter = make_limiter(100)
        await answer(limiter, *[REFUSED] * refused, *[ANSWERED] * (32 - refused))
        return limiter

    limiter = run(main())

    assert limiter.limit == limit
    assert limiter.refused_share == refused / 32
    assert limiter.answered == 32 - refused
    assert limiter.in_flight == 0


def test_a_timeout_counts_as_a_refusal() -> None:
    async def main() -> RateLimiter:
        limiter = make_limiter(100)
        await answer(limiter, *[Outcome.TIMED_OUT] * 8, *[ANSWERED] * 24)
        return limiter

    assert run(main()).limit == 24


@pytest.mark.parametrize(("refused", "pause"), [(32, 7), (12, 0)])
def test_all_calls_pause_once_when_most_slots_are_refused(refused: int, pause: float) -> None:
    async def main() -> list[float]:
        limiter = make_limiter(100)
        outcomes = [REFUSED] * refused + [ANSWERED] * (32 - refused)
        await answer(limiter, *outcomes, is_busy=False)
        began = now()
        waited = []
        for _ in range(2):
            limiter.leave(await limiter.enter(), ANSWERED)
            waited.append(now() - began)
        return waited

    assert run(main()) == pytest.approx([pause, pause])


def test_the_limit_does_not_grow_when_there_was_a_lack_of_rows() -> None:
    async def main() -> RateLimiter:
        limiter = make_limiter(100)
        for _ in range(10):
            await answer(limiter, *[ANSWERED] * 16, is_busy=False)
        return limiter

    assert run(main()).limit == 32


def test_calls_started_before_a_change_say_nothing_about_the_new_limit() -> None:
    async def main() -> tuple[int, float]:
        limiter = make_limiter(400, start=64)
        old = [await limiter.enter() for _ in range(64)]
        await asyncio.sleep(1)
        for permit in old:
            limiter.leave(permit, REFUSED)
            if limiter.limit < 64:
                break
        limit = limiter.limit
        for permit in old[: limiter.in_flight]:
            limiter.leave(permit, REFUSED)
        return limit, limiter.limit

    assert run(main()) == (32, 32)


def test_outcomes_that_say_nothing_close_no_window() -> None:
    async def main() -> RateLimiter:
        limiter = make_limiter(100)
        await answer(limiter, *[Outcome.OTHER] * 500)
        return limiter

    limiter = run(main())

    assert (limiter.limit, limiter.refused_share, limiter.in_flight) == (32, 0, 0)


def test_a_server_of_one_worker_is_asked_one_call_or_two_at_a_time() -> None:
    report = simulate(serve_in_turn(1, sigma=0, seed=0), 1500, ceiling=64, start=4)

    assert 1 <= mean(report.late_limits()) <= 2.5


def test_a_stage_keeps_the_limit_and_forgets_the_rates() -> None:
    async def main() -> list[int]:
        limiter = make_limiter(256)
        await run_stage(limiter, serve_noisily(0.2), 1000)
        limits = [limiter.limit]
        limiter.begin_stage()  # from now on, answers take 30 times as long
        limits.append(limiter.limit)

        async def server() -> Outcome:
            await asyncio.sleep(30)
            return ANSWERED

        await run_stage(limiter, server, 3000)
        return [*limits, limiter.limit]

    assert run(main()) == [256, 256, 256]


def test_a_stage_that_begins_while_half_is_tried_has_the_whole_limit() -> None:
    async def main() -> list[int]:
        limiter = make_limiter(256)
        stage = asyncio.create_task(run_stage(limiter, serve_in_turn(40, sigma=0, seed=0), 10**6))
        while limiter.limit >= 30:  # noqa: ASYNC110 - half of what 40 workers need
            await asyncio.sleep(0.5)
        half = limiter.limit
        limiter.begin_stage()
        stage.cancel()
        return [half, limiter.limit]

    half, whole = run(main())

    assert 20 <= half < 30
    assert whole // 2 == half
