"""What a window of answers says about how many calls at once are right.

A refusal (429, time-out) shrinks the limit, an answer lets it grow for as long as growing pays: a
server that queues instead of refusing shows by its throughput.
"""

import math
from dataclasses import dataclass
from enum import StrEnum

WINDOW = 16
"""Fewest outcomes a decision needs: one refusal in fewer would pass for more than 6 %."""
TOLERATED = 0.10
"""Share of refusals we live with: a refused row is asked again, an idle slot earns nothing."""
CHANCE = 0.3
"""Times the root of the outcomes: standard error of the tolerated share. Without it, 5 % of
refusals at random wear a limit down from 32 to 2: a window of 16 has over 10 % in 1 of 5."""
LOCKED_OUT = 0.5
"""Share of refused slots above which more calls only prolong the lockout: everybody pauses."""
LEAST_CUT, MOST_CUT = 0.05, 0.5
"""A cut must end the refusals soon; a single bad window must not end the work."""
BUSY = 0.8
"""Share of the slots in use from which on it is the limit that keeps us, not a lack of rows."""
DOUBLE, PROBE, CREEP = 2.0, 1.25, 1.05
"""Growth: in slow start; where only more answers show that it pays; where refusals show it."""
PAYING = 1 / 3
"""Share of a growth that must come back as throughput; a growth that only queues brings none."""
STILL_PAYING = 0.9
"""Throughput that half the slots must keep for half to be enough: noise is some 7 %."""
HEADROOM = 1.25
"""Slots per busy worker, so that none waits for us between two answers."""
MEASURED = 64
"""Answers behind a throughput after slow start: a lognormal latency (sigma 0.5) errs by 7 %."""
SMOOTHING = 0.3
"""Weight of the newest throughput in the one a growth is compared with."""
HOLD, LONGEST_HOLD = 8, 64
"""Windows between a probe that did not pay and the next; doubled every time."""
LOCKOUT_SECONDS, LONGEST_PAUSE = 1.0, 60.0
"""A lockout without Retry-After; the longest pause: quotas count by the minute."""
INSTANT = 1e-6
"""A wait shorter than any clock tells is none."""


class Outcome(StrEnum):
    """What a call says about the load of its server."""

    ANSWERED = "answered"
    REFUSED = "refused"
    """Too many requests (429)."""
    TROUBLE = "trouble"
    """5xx, connection reset or refused."""
    TIMED_OUT = "timed_out"
    """Counts as a refusal (an overloaded server) and as trouble."""
    OTHER = "other"
    """Nothing: a permanent error, a cancelled call."""


@dataclass(frozen=True, slots=True)
class Permit:
    """The right to one call; goes back with `Gate.leave`."""

    started: float
    tokens: int
    epoch: int
    """Which limit it was started under."""


@dataclass(slots=True)
class _Window:
    """Sums over the outcomes of one decision."""

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
        """Share of the slots that only met refusals: a quick 429 frees its slot for the next."""
        slots = self.in_flight / self.seen * (now - self.began)
        share = self.refused / self.seen
        return min(share, self.refused_seconds / slots) if slots > INSTANT else share

    @property
    def throughput(self) -> float:
        """Answers per second by Little's law: slots in use / slot seconds per answer.

        At least one answer, since it is divided by; an instant, since a fake takes none.
        """
        return self.in_flight / self.seen * max(1, self.answered) / max(self.seconds, INSTANT)


@dataclass(frozen=True, slots=True)
class _Throughput:
    """Answers per second under a limit."""

    limit: int
    rate: float


class AdaptiveConcurrency:
    """The limit, decided once per window of calls started since it last changed."""

    def __init__(self, ceiling: int, start: int) -> None:
        """Begin at `start`, never go above `ceiling`."""
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
        """Of the calls in this window and the one before."""
        seen = self._window.seen + self._last.seen
        return (self._window.refused + self._last.refused) / seen if seen else 0.0

    def begin_stage(self) -> None:
        """Keep the limit, forget rates: another stage's answers take another time."""
        limit = max(self.limit, self._before.limit) if self._before else self.limit
        self._hold, self._next_hold = 0, HOLD
        self._move(limit, is_settling=self._step != DOUBLE)

    def recover(self) -> None:
        """After an outage: half of the former limit, and slow start."""
        self._step, self._hold = DOUBLE, 0
        self._move(self.limit // 2, is_settling=False)

    def restart(self) -> None:
        """Calls started until now say nothing any more."""
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
        """Seconds for which everybody must pause, if anybody."""
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
        """Give up the slots that only met refusals; a pause if they are the most."""
        share = window.refused_slots(now)
        self._step = CREEP
        self._hold = HOLD
        kept = 1 - min(MOST_CUT, max(LEAST_CUT, share))
        self._move(min(self.limit - 1, round(self.limit * kept)))
        seconds = LOCKOUT_SECONDS if window.retry_after is None else window.retry_after
        return min(seconds, LONGEST_PAUSE) if share > LOCKED_OUT else 0.0

    def _measure(self, window: _Window) -> None:
        """Take in a full window without too many refusals; decide when it tells enough."""
        if self._is_settling:
            self._is_settling = False
            return
        self._hold = max(0, self._hold - 1)
        self._refused_windows = self._refused_windows + 1 if window.refused else 0
        self._measured.merge(window)
        if self._measured.seen >= self._needed():
            rate, self._measured = self._measured.throughput, _Window()
            is_refused = 0 < self._refused_windows <= HOLD  # for longer: it is not our doing
            self._weigh(rate, may_grow=not self._hold and not is_refused)

    def _needed(self) -> int:
        """Outcomes that tell: half the throughput, or none to be judged, shows in a window."""
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
        """Did the growth pay? If not, back to what the throughput needs; would half do, too?"""
        gain = rate / before.rate
        needed = round(before.limit * max(1.0, gain))
        was_doubled, self._before, self._rate = self._step == DOUBLE, None, rate
        if gain >= 1 + (self.limit / before.limit - 1) * PAYING:
            self._next_hold = HOLD
            if may_grow:
                self._grow()
            return
        self._step = PROBE
        if was_doubled:  # the rates of slow start are rough: look again before holding
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
        """Another limit, to be compared with `before`; what was measured is void."""
        self.limit = max(1, min(self._ceiling, round(limit)))
        self._before, self._rate, self._is_settling = before, 0.0, is_settling
        self.restart()
