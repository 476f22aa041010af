"""Decide from a window of outcomes how many calls may run at once.

A refusal (429, time-out) shrinks the limit. Answers let the limit grow for as long as growth pays:
a server that queues instead of refusing is recognized by its throughput.
"""

import math
from dataclasses import dataclass
from enum import StrEnum

from persona_pipeline.llm.errors import CallError, CallErrorKind

WINDOW = 16
"""The fewest outcomes of a decision. In a smaller window, one refusal would count for more than 6
%."""
TOLERATED = 0.10
"""Share of refusals that is accepted: a refused row is retried, an idle slot earns nothing."""
CHANCE = 0.3
"""Multiplied by the square root of the outcomes, this is the standard error of the tolerated share.
Without it, 5 % of random refusals wear a limit down from 32 to 2: of the windows of 16, 1 in 5 has
over 10 %."""
LOCKED_OUT = 0.5
"""Share of refused slots above which more calls only prolong the lockout, so that all calls
pause."""
LEAST_CUT, MOST_CUT = 0.05, 0.5
"""The least and the greatest share of the limit that a cut takes. A cut must end the refusals soon,
and a single bad window must not end the work."""
BUSY = 0.8
"""Share of the slots in use from which on the limit holds us back, not a lack of rows."""
DOUBLE, PROBE, CREEP = 2.0, 1.25, 1.05
"""Factors of growth: in slow start, where only more answers show that growth pays, and where
refusals show it."""
PAYING = 1 / 3
"""Share of a growth that must appear as throughput. A growth that only queues adds no
throughput."""
STILL_PAYING = 0.9
"""Share of the throughput that half the slots must keep for half to be enough. Noise is about 7
%."""
HEADROOM = 1.25
"""Slots per busy worker, so that no worker waits for us between two answers."""
MEASURED = 64
"""Answers behind a throughput after slow start. With a lognormal latency (sigma 0.5) it errs by 7
%."""
SMOOTHING = 0.3
"""Weight of the newest throughput in the one that a growth is compared with."""
HOLD, LONGEST_HOLD = 8, 64
"""Windows between a probe that did not pay and the next probe: the first and the most, doubled each
time."""
LOCKOUT_SECONDS, LONGEST_PAUSE = 1.0, 60.0
"""Seconds of a lockout without Retry-After, and of the longest pause: quotas count by the
minute."""
INSTANT = 1e-6
"""A wait of fewer seconds is shorter than any clock measures, and counts as none."""


class Outcome(StrEnum):
    """Say what a call shows about the load of its server."""

    ANSWERED = "answered"
    REFUSED = "refused"
    """Too many requests (429)."""
    TROUBLE = "trouble"
    """5xx, or a connection that was reset or refused."""
    TIMED_OUT = "timed_out"
    """Counts as a refusal (the server is overloaded) and as trouble."""
    OTHER = "other"
    """Shows nothing: a permanent error, a cancelled call."""


_OUTCOMES = {CallErrorKind.RATE: Outcome.REFUSED, CallErrorKind.TRANSIENT: Outcome.TROUBLE}


def outcome_of(error: CallError) -> Outcome:
    """Return what an error shows of the server. Most kinds show nothing."""
    return Outcome.TIMED_OUT if error.is_timeout else _OUTCOMES.get(error.kind, Outcome.OTHER)


@dataclass(frozen=True, slots=True)
class Permit:
    """Permit one call. Return it with `RateLimiter.leave`."""

    started: float
    tokens: int
    epoch: int
    """The number of the limit that the call was started under."""


@dataclass(slots=True)
class _Window:
    """Sum the outcomes of one decision."""

    seen: int = 0
    refused: int = 0
    answered: int = 0
    in_flight: int = 0
    seconds: float = 0.0
    refused_seconds: float = 0.0
    retry_after: float | None = None
    began: float = math.inf

    def add(self, outcome: Outcome, permit: Permit, in_flight: int, now: float) -> None:
        seconds = now - permit.started
        if self.began == math.inf:
            self.began = permit.started
        self.seen += 1
        self.seconds += seconds
        self.in_flight += in_flight
        if outcome is Outcome.ANSWERED:
            self.answered += 1
        elif outcome is not Outcome.TROUBLE:
            self.refused += 1
            self.refused_seconds += seconds

    def merge(self, other: "_Window") -> None:
        self.seen += other.seen
        self.answered += other.answered
        self.in_flight += other.in_flight
        self.seconds += other.seconds

    @property
    def is_refused(self) -> bool:
        return self.refused > TOLERATED * self.seen + CHANCE * math.sqrt(self.seen)

    def refused_slots(self, now: float) -> float:
        """Return the share of the slots that only met refusals.

        A quick 429 frees its slot for the next call.
        """
        slots = self.in_flight / self.seen * (now - self.began)
        share = self.refused / self.seen
        return min(share, self.refused_seconds / slots) if slots > INSTANT else share

    @property
    def throughput(self) -> float:
        """Answers per second by Little's law: slots in use / slot seconds per answer.

        The answers count as at least one, and the seconds as at least an instant, since both are
        divided by and a fake model takes no time.
        """
        return self.in_flight / self.seen * max(1, self.answered) / max(self.seconds, INSTANT)


@dataclass(frozen=True, slots=True)
class _Throughput:
    """Hold the answers per second under a limit."""

    limit: int
    rate: float


class AdaptiveConcurrency:
    """Decide the limit, once per window of calls started since it last changed."""

    def __init__(self, ceiling: int, start: int) -> None:
        """Begin at `start` and never exceed `ceiling`."""
        self.limit, self._ceiling = min(start, ceiling), ceiling
        self.epoch = 0
        self._step = DOUBLE
        self._last, self._window, self._measured = _Window(), _Window(), _Window()
        self._before: _Throughput | None = None
        self._rate = 0.0
        self._is_settling = False
        self._hold, self._next_hold = 0, HOLD
        self._refused_windows = 0

    @property
    def refused_share(self) -> float:
        """Share of refusals among the calls of this window and the one before."""
        seen = self._window.seen + self._last.seen
        return (self._window.refused + self._last.refused) / seen if seen else 0.0

    def begin_stage(self) -> None:
        """Keep the limit and forget the rates: answers of another stage take another time."""
        limit = max(self.limit, self._before.limit) if self._before else self.limit
        self._hold, self._next_hold = 0, HOLD
        self._move(limit, is_settling=self._step != DOUBLE)

    def recover(self) -> None:
        """Restart after an outage with half of the former limit, in slow start."""
        self._step, self._hold = DOUBLE, 0
        self._move(self.limit // 2, is_settling=False)

    def restart(self) -> None:
        """Ignore the calls that were started until now."""
        self.epoch += 1
        self._window, self._measured = _Window(), _Window()
        self._refused_windows = 0

    def note(
        self,
        permit: Permit,
        outcome: Outcome,
        in_flight: int,
        now: float,
        retry_after: float | None,
    ) -> float:
        """Count an outcome. Return the seconds for which all calls must pause (0: no pause)."""
        if outcome is Outcome.OTHER:
            return 0.0
        window = self._window
        window.add(outcome, permit, in_flight, now)
        if retry_after is not None:
            window.retry_after = retry_after
        if window.seen < max(WINDOW, self.limit):
            return 0.0
        self._last, self._window = window, _Window(began=now)
        if window.is_refused:
            return self._cut(window, now)
        if window.in_flight >= BUSY * self.limit * window.seen:
            self._measure(window)
        return 0.0

    def _cut(self, window: _Window, now: float) -> float:
        """Give up the slots that only met refusals.

        Return the seconds of a pause if they are the majority.
        """
        share = window.refused_slots(now)
        self._step = CREEP
        self._hold = HOLD
        kept = 1 - min(MOST_CUT, max(LEAST_CUT, share))
        self._move(min(self.limit - 1, round(self.limit * kept)))
        seconds = LOCKOUT_SECONDS if window.retry_after is None else window.retry_after
        return min(seconds, LONGEST_PAUSE) if share > LOCKED_OUT else 0.0

    def _measure(self, window: _Window) -> None:
        """Add a full window without too many refusals, and decide once enough is measured."""
        if self._is_settling:
            self._is_settling = False
            return
        self._hold = max(0, self._hold - 1)
        self._refused_windows = self._refused_windows + 1 if window.refused else 0
        self._measured.merge(window)
        if self._measured.seen >= self._needed():
            rate, self._measured = self._measured.throughput, _Window()
            # if refusals last longer, they are not our doing
            is_refused = 0 < self._refused_windows <= HOLD
            self._weigh(rate, may_grow=not self._hold and not is_refused)

    def _needed(self) -> int:
        """Return how many outcomes a decision needs.

        One window is enough when half the throughput would show, or when there is nothing to judge.
        """
        is_plain = self._before is not None and self.limit < self._before.limit * PROBE
        return WINDOW if is_plain or self._step == DOUBLE else MEASURED

    def _weigh(self, rate: float, *, may_grow: bool) -> None:
        before = self._before
        if before and self.limit < before.limit:
            self._judge_half(before, rate)
        elif before and self.limit >= before.limit * PROBE:
            self._judge_growth(before, rate, may_grow=may_grow)
        else:
            self._rate += (rate - self._rate) * (SMOOTHING if self._rate else 1)
            if may_grow:
                self._grow()

    def _grow(self) -> None:
        if self.limit < self._ceiling:
            before = self._before or _Throughput(self.limit, self._rate)
            limit = max(self.limit + 1, math.ceil(self.limit * self._step))
            is_judged = limit >= before.limit * PROBE
            self._move(limit, before, is_settling=is_judged and self._step != DOUBLE)

    def _judge_growth(self, before: _Throughput, rate: float, *, may_grow: bool) -> None:
        """Judge whether the growth paid.

        If not, return to the limit that the throughput needs, and try whether half of it is enough.
        """
        gain = rate / before.rate
        needed = round(before.limit * max(1.0, gain))
        was_doubled, self._before, self._rate = self._step == DOUBLE, None, rate
        if gain >= 1 + (self.limit / before.limit - 1) * PAYING:
            self._next_hold = HOLD
            if may_grow:
                self._grow()
            return
        self._step = PROBE
        if was_doubled:  # the rates of slow start are rough: measure again before holding
            self._move(needed)
        else:
            self._try_half(_Throughput(needed, max(rate, before.rate)))

    def _try_half(self, enough: _Throughput) -> None:
        if enough.limit == 1:
            self._rest(1)
        else:
            self._move(enough.limit // 2, enough)

    def _judge_half(self, before: _Throughput, rate: float) -> None:
        kept = rate / before.rate
        if kept >= STILL_PAYING:
            self._try_half(_Throughput(self.limit, max(rate, before.rate)))
        else:
            self._rest(HEADROOM * min(before.limit, self.limit / max(kept, PAYING)))

    def _rest(self, limit: float) -> None:
        self._hold, self._next_hold = self._next_hold, min(LONGEST_HOLD, 2 * self._next_hold)
        self._move(limit)

    def _move(
        self, limit: float, before: _Throughput | None = None, *, is_settling: bool = True
    ) -> None:
        """Set another limit, to be compared with `before`, and discard what was measured."""
        self.limit = max(1, min(self._ceiling, round(limit)))
        self._before, self._rate, self._is_settling = before, 0.0, is_settling
        self.restart()
