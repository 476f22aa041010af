"""Simulate a limiter in virtual time, with servers that refuse, queue or break down."""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar

from persona_pipeline.llm.gateway.concurrency import Outcome
from persona_pipeline.llm.gateway.limiter import RateLimiter

T = TypeVar("T")


Server = Callable[[], Awaitable[Outcome]]


ANSWERED, REFUSED, TROUBLE = Outcome.ANSWERED, Outcome.REFUSED, Outcome.TROUBLE


class VirtualLoop(asyncio.SelectorEventLoop):
    """Let time pass only by waiting, and then at once."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        selector = self._selector  # type: ignore[attr-defined]
        really_select = selector.select

        def select(timeout: float | None = None) -> list[Any]:
            assert timeout is not None, "all tasks wait for ever"
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


def make_limiter(ceiling: int, **settings: Any) -> RateLimiter:  # noqa: ANN401
    return RateLimiter(ceiling, clock=now, **settings)


@dataclass
class Report:
    """Keep what a stage observed."""

    limiter: RateLimiter
    seconds: float = 0.0
    outcomes: Counter[Outcome] = field(default_factory=Counter)
    limits: list[int] = field(default_factory=list)
    outage_calls: int = 0

    @property
    def refused_share(self) -> float:
        return self.outcomes[REFUSED] / self.outcomes.total()

    def late_limits(self) -> list[int]:
        """Return the limits after the run-in, without the last rows, for which no limit matters."""
        count = len(self.limits)
        return self.limits[count // 2 : count * 9 // 10]


async def run_stage(
    limiter: RateLimiter, server: Server, rows: int, *, workers: int = 500
) -> Report:
    """Ask for every row until it is answered. A refused row waits for a second."""
    report, began = Report(limiter), now()
    unanswered = iter(range(rows))

    async def call() -> Outcome:
        permit = await limiter.enter()
        report.outage_calls += limiter.is_outage
        outcome = await server()
        limiter.leave(permit, outcome, retry_after=1 if outcome is REFUSED else None)
        report.outcomes[outcome] += 1
        report.limits.append(limiter.limit)
        return outcome

    async def work() -> None:
        for _ in unanswered:
            while await call() is not ANSWERED:  # noqa: ASYNC110 - a row is retried
                await asyncio.sleep(1)

    await asyncio.gather(*(work() for _ in range(workers)))
    report.seconds = now() - began
    return report


def simulate(server: Server, rows: int, ceiling: int, *, start: int = 32) -> Report:
    async def main() -> Report:
        return await run_stage(make_limiter(ceiling, start=start), server, rows)

    return run(main())


def serve_noisily(sigma: float, *, refused: float = 0.0, seed: int = 0) -> Server:
    """Serve any number at a time, in one second each (lognormal)."""
    dice = random.Random(seed)

    async def server() -> Outcome:
        if dice.random() < refused:
            await asyncio.sleep(0.05)
            return REFUSED
        await asyncio.sleep(dice.lognormvariate(-(sigma**2) / 2, sigma))
        return ANSWERED

    return server


def serve_at_most(cap: int, *, refusal_seconds: float) -> Server:
    """Serve in about one second, and refuse calls over the cap."""
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
    """Serve as vLLM and llama.cpp do: further calls queue in the server."""
    server, slots = serve_noisily(sigma, seed=seed), asyncio.Semaphore(workers)

    async def queueing() -> Outcome:
        async with slots:
            return await server()

    return queueing


def serve_together(workers: int, *, sigma: float, seed: int) -> Server:
    """Share the workers: latency = service time * max(1, in flight / workers)."""
    dice, busy = random.Random(seed), 0

    async def server() -> Outcome:
        nonlocal busy
        busy += 1
        slower = max(1, busy / workers)
        await asyncio.sleep(slower * dice.lognormvariate(-(sigma**2) / 2, sigma))
        busy -= 1
        return ANSWERED

    return server


async def answer(limiter: RateLimiter, *outcomes: Outcome, is_busy: bool = True) -> None:
    """Make one call for each outcome, and further calls that show nothing."""

    async def call(outcome: Outcome) -> None:
        permit = await limiter.enter()
        await asyncio.sleep(1)
        limiter.leave(permit, outcome, retry_after=7 if outcome is REFUSED else None)

    more = [Outcome.OTHER] * limiter.limit if is_busy else []
    await asyncio.gather(*map(call, [*outcomes, *more]))


async def break_down(limiter: RateLimiter) -> None:
    while not limiter.is_outage:
        limiter.leave(await limiter.enter(), TROUBLE)
