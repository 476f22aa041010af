"""Limit the calls to one model at one provider. The limit is learned from the answers.

A limiter is used from one event loop at a time, but kept over several loops (one per stage). An
`enter` with its `leave` takes 2.2 us of CPU (4.0 with both quotas; 4 to 6 when it must wait), so
1,000 calls a second take half a percent of a core.

Simulated with 20 seeds each and lognormal service times (sigma 0.5): behind 8, 40 or 100 workers
that queue, the median is 1.25 slots per worker (0.96 to 1.66) and 93 to 97 % of the throughput
(worst 87 %), including the search. With a provider that refuses above 40: 40 to 41 slots, 7 to 11 %
refused.
"""

import asyncio
import math
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable

from persona_pipeline.llm.gateway.concurrency import (
    INSTANT,
    LONGEST_PAUSE,
    AdaptiveConcurrency,
    Outcome,
    Permit,
)

FIRST_PAUSE, JITTER = 2.0, 0.1
"""Seconds of an outage's first pause, and its random spread: other processes wait for the same
server."""
OUTAGE_FAILURES = 10
"""Shortest streak of failures taken for an outage. With 5 % of failures it occurs once in 10^13
calls."""
PROBES = 4
"""Calls sent to see whether an outage is over. A single one could fail by itself."""
BURST_SECONDS = 1.0
"""Seconds of quota that may be saved while idle: 1.7 % of a provider's minute."""


class RateLimiter:
    """Admit calls in order, as many at a time as the server answers well."""

    def __init__(  # noqa: PLR0913 - a quota has two sides, a test two clocks
        self,
        ceiling: int,
        *,
        start: int = 32,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        """Admit at most `ceiling` calls at a time, and `start` at first."""
        self.in_flight = 0
        self.answered = 0
        self._clock, self._sleep = clock, sleep
        self._concurrency = AdaptiveConcurrency(ceiling, start)
        self._breaker = _Breaker()
        now = clock()
        self._requests = _Bucket(requests_per_minute, now) if requests_per_minute else None
        self._tokens = _Bucket(tokens_per_minute, now) if tokens_per_minute else None
        self._closed_until = now
        self._waiters: deque[tuple[asyncio.Future[Permit], int]] = deque()
        self._alarm: asyncio.Task[None] | None = None
        self._alarm_at = 0.0

    @property
    def limit(self) -> int:
        """Calls admitted at a time. During an outage, the number before it."""
        return self._concurrency.limit

    @property
    def refused_share(self) -> float:
        """Share of refusals and time-outs among the outcomes of the last and the current window."""
        return self._concurrency.refused_share

    @property
    def is_outage(self) -> bool:
        """Whether an outage is going on, so that a failure says nothing about its row."""
        return self._breaker.pauses > 0

    @property
    def silent_seconds(self) -> float:
        """Seconds without an answer while calls fail or are refused."""
        since = self._breaker.silent_since
        return 0.0 if since is None else self._clock() - since

    def begin_stage(self) -> None:
        """Keep the limit and forget the rates: answers of another stage take another time."""
        self._concurrency.begin_stage()
        self._breaker.silent_since = None

    async def enter(self, tokens: int = 0) -> Permit:
        """Wait for earlier callers, a free slot, the quotas and the end of a pause."""
        if not self._waiters and self._has_slot():
            now = self._clock()
            if not self._delay(tokens, now):
                return self._admit(tokens, now)
        waiter: asyncio.Future[Permit] = asyncio.get_running_loop().create_future()
        self._waiters.append((waiter, tokens))
        self._serve()
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self._withdraw(waiter.result())
            self._serve()
            raise

    def leave(
        self,
        permit: Permit,
        outcome: Outcome,
        *,
        retry_after: float | None = None,
        tokens: int | None = None,
    ) -> None:
        """Give the slot back and report the outcome. `tokens`: the tokens really used."""
        now = self._clock()
        if self._tokens is not None and tokens is not None:
            self._tokens.take(tokens - permit.tokens, now)
        self.answered += outcome is Outcome.ANSWERED
        is_current = permit.epoch == self._concurrency.epoch
        if not self._track_outage(permit, outcome, now, is_current=is_current) and is_current:
            pause = self._concurrency.note(permit, outcome, self.in_flight, now, retry_after)
            if pause:
                self._closed_until = max(self._closed_until, now + pause)
        self.in_flight -= 1
        if self._waiters:
            self._serve()

    def _track_outage(
        self, permit: Permit, outcome: Outcome, now: float, *, is_current: bool
    ) -> bool:
        """Begin, prolong or end an outage. Return whether one is going on."""
        breaker = self._breaker
        was_out = self.is_outage
        pause = breaker.note(permit, outcome, now, self.limit, is_current=is_current)
        if pause:
            self._closed_until = now + pause
            self._concurrency.restart()
        elif was_out and not self.is_outage:
            self._closed_until = now
            self._concurrency.recover()
        return was_out or self.is_outage

    def _has_slot(self) -> bool:
        return self.in_flight < self._concurrency.limit and (
            not self._breaker.pauses or self._breaker.probes_left > 0
        )

    def _delay(self, tokens: int, now: float) -> float:
        """Return the seconds until the pauses and quotas admit a call."""
        delay = self._closed_until - now
        if self._requests is not None:
            delay = max(delay, self._requests.delay(1, now))
        if self._tokens is not None:
            delay = max(delay, self._tokens.delay(tokens, now))
        return delay if delay > INSTANT else 0.0

    def _admit(self, tokens: int, now: float) -> Permit:
        self.in_flight += 1
        if self._requests is not None:
            self._requests.take(1, now)
        if self._tokens is not None:
            self._tokens.take(tokens, now)
        if self._breaker.pauses:
            self._breaker.probes_left -= 1
        return Permit(now, tokens, self._concurrency.epoch)

    def _withdraw(self, permit: Permit) -> None:
        """Take back the permit of a waiter that was admitted and cancelled in one turn of the loop.

        Its call is not sent.
        """
        if self._requests is not None:
            self._requests.take(-1, self._clock())
        self.leave(permit, Outcome.OTHER, tokens=0)

    def _serve(self) -> None:
        """Admit the first waiters. If only time helps, set the alarm for the first of them."""
        while self._waiters:
            waiter, tokens = self._waiters[0]
            if not waiter.done():  # a done waiter was cancelled with its task
                if not self._has_slot():
                    return
                now = self._clock()
                if delay := self._delay(tokens, now):
                    self._set_alarm(now + delay, delay)
                    return
                waiter.set_result(self._admit(tokens, now))
            self._waiters.popleft()
        if self._alarm is not None:  # an idle limiter keeps nothing of this event loop
            self._alarm.cancel()
            self._alarm = None

    def _set_alarm(self, at: float, delay: float) -> None:
        if self._alarm is not None:
            if self._alarm_at <= at:
                return
            self._alarm.cancel()
        self._alarm_at = at
        self._alarm = asyncio.get_running_loop().create_task(self._ring(delay))

    async def _ring(self, delay: float) -> None:
        await self._sleep(delay)
        self._alarm = None
        self._serve()


class _Bucket:
    """Fill a quota per minute second by second. A big request may leave it negative."""

    def __init__(self, per_minute: float, now: float) -> None:
        self._rate = per_minute / 60
        self._size = max(1.0, self._rate * BURST_SECONDS)
        self._level, self._at = self._size, now

    def delay(self, amount: float, now: float) -> float:
        self.take(0, now)
        return (min(amount, self._size) - self._level) / self._rate

    def take(self, amount: float, now: float) -> None:
        filled = self._level + (now - self._at) * self._rate
        self._level, self._at = min(self._size, filled) - amount, now


class _Breaker:
    """Tell an outage from single failures, and count its pauses."""

    def __init__(self) -> None:
        self.pauses = 0
        self.probes_left = 0
        self.silent_since: float | None = None
        self._streak = 0
        self._last_answer = -math.inf

    def note(
        self, permit: Permit, outcome: Outcome, now: float, limit: int, *, is_current: bool
    ) -> float:
        """Count an outcome. Return the seconds of the pause that begins with it (0: no pause)."""
        if outcome is Outcome.ANSWERED:
            self._last_answer, self.silent_since = now, None
            self._streak = self.pauses = 0
            return 0.0
        if outcome is Outcome.OTHER:
            self.probes_left += is_current
            return 0.0
        if self.silent_since is None:
            self.silent_since = max(self._last_answer, permit.started)
        self._streak += outcome is not Outcome.REFUSED
        is_lost = is_current if self.pauses else self._streak >= max(OUTAGE_FAILURES, limit / 2)
        return self._pause() if is_lost else 0.0

    def _pause(self) -> float:
        self.pauses += 1
        self.probes_left = PROBES
        seconds = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(self.pauses - 1, 9))
        return seconds * random.uniform(1, 1 + JITTER)  # noqa: S311 - spreads load, keeps no secret
