"""Report how far a stage is. The command line draws the progress, Dagster logs it."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from persona_pipeline.llm.prices import known_sum

LOG_EVERY = 10.0
"""Seconds between two log lines of one stage."""
MINUTE = 60
SHOW_EVERY = 0.1
"""Seconds between two updates of a reporter. At 1,000 calls a second, drawing must cost nothing."""


@dataclass(slots=True)
class StageProgress:
    """Hold the progress of one running stage.

    `refused_share`: the share of the last requests that the provider refused for their pace.
    `cost_usd`: None when a price is unknown.
    """

    stage: str
    total: int
    done: int = 0
    failed: int = 0
    tokens: int = 0
    cost_usd: float | None = 0.0
    in_flight: int = 0
    refused_share: float = 0.0
    started: float = field(default_factory=time.monotonic)

    @property
    def rate(self) -> float:
        """Steps done per second so far."""
        return self.done / max(time.monotonic() - self.started, 1e-9)

    @property
    def seconds_left(self) -> float | None:
        """Seconds left at the rate so far. None before the first step is done."""
        return (self.total - self.done) / self.rate if self.done else None

    @property
    def expected_usd(self) -> float | None:
        """Expected cost of the whole stage, at the cost per step so far."""
        return self.cost_usd / self.done * self.total if self.cost_usd and self.done else None


class Reporter(Protocol):
    """Show progress somewhere."""

    def update(self, progress: StageProgress, *, finished: bool) -> None:
        """Show the progress.

        This is called at the start, at most ten times a second, and when the stage is over.
        """
        ...


class LogReporter:
    """Write a log line at the start, every ten seconds, and at the end."""

    def __init__(self, log: logging.Logger | None = None) -> None:
        """Write to `log`, by default the package's own logger."""
        self._log = log or logging.getLogger("persona_pipeline")
        self._next = 0.0

    def update(self, progress: StageProgress, *, finished: bool) -> None:
        """Write a line when one is due."""
        now = time.monotonic()
        if progress.total and (finished or now >= self._next):
            self._next = now + LOG_EVERY
            self._log.info(describe(progress))


class _Current:
    reporter: Reporter | None = None


def describe(progress: StageProgress) -> str:
    """Return `synthetic.math: 3/6 done, 1 failed, 1,204 tokens, 2.1/s, 12 s left` and more."""
    parts = [f"{progress.stage}: {progress.done:,}/{progress.total:,} done"]
    if progress.failed:
        parts.append(f"{progress.failed:,} failed")
    if progress.tokens:
        parts.append(f"{progress.tokens:,} tokens")
    if progress.cost_usd:
        parts.append(describe_cost(progress))
    if progress.in_flight:
        parts.append(f"{progress.in_flight} in flight")
    if progress.refused_share:
        parts.append(f"{progress.refused_share:.0%} refused for pace")
    left = progress.seconds_left
    if left and progress.done < progress.total:
        parts.append(describe_pace(progress.rate, left))
    return ", ".join(parts)


def describe_pace(rate: float, seconds_left: float) -> str:
    """Return `12.5/s, 8 s left`, or `1 in 7.2 s, 12 min left` where steps or the stage take long.

    Args:
        rate: steps per second, above 0.
        seconds_left: as long as the stage will take.
    """
    pace = f"{rate:.1f}/s" if rate >= 1 else f"1 in {1 / rate:.1f} s"
    return f"{pace}, {describe_seconds(seconds_left)} left"


def describe_seconds(seconds: float) -> str:
    """Return `90 s`, or `12 min` of more than two minutes."""
    return f"{seconds / MINUTE:.0f} min" if seconds > 2 * MINUTE else f"{seconds:.0f} s"


def describe_cost(progress: StageProgress) -> str:
    """Return `0.0120 of about 0.0400 USD`."""
    expected = progress.expected_usd
    if expected and progress.done < progress.total:
        return f"{progress.cost_usd:.4f} of about {expected:.4f} USD"
    return f"{progress.cost_usd:.4f} USD"


@contextmanager
def reporting_to(reporter: Reporter) -> Iterator[None]:
    """Send the progress of every stage inside the block to `reporter`."""
    before, _Current.reporter = _Current.reporter, reporter
    try:
        yield
    finally:
        _Current.reporter = before


@contextmanager
def stage_progress(
    stage: str, total: int, log: logging.Logger | None = None
) -> Iterator["Tracker"]:
    """Track one stage. `log` is used unless another reporter was chosen."""
    tracker = Tracker(StageProgress(stage, total), _Current.reporter or LogReporter(log))
    tracker.show(is_due=True)
    try:
        yield tracker
    finally:
        tracker.finish()


@dataclass(slots=True)
class Tracker:
    """Count the steps of one stage and show them."""

    progress: StageProgress
    reporter: Reporter
    next_show: float = 0.0

    def expect(self, total: int) -> None:
        """Set how many steps there are, as far as is known."""
        self.progress.total = total
        self.show(is_due=True)

    def step(self, *, failed: bool = False) -> None:
        """Count one more step."""
        self.progress.done += 1
        self.progress.failed += failed
        self.show()

    def spend(self, tokens: int, cost_usd: float | None) -> None:
        """Add tokens and their cost."""
        self.progress.tokens += tokens
        self.progress.cost_usd = known_sum([self.progress.cost_usd, cost_usd])

    def load(self, in_flight: int, refused_share: float) -> None:
        """Set how busy the model is."""
        self.progress.in_flight, self.progress.refused_share = in_flight, refused_share

    def reach(self, done: int) -> None:
        """Set how many steps are done."""
        self.progress.done = done
        self.show()

    def show(self, *, is_due: bool = False) -> None:
        """Update the reporter, unless its last update was less than `SHOW_EVERY` seconds ago."""
        now = time.monotonic()
        if is_due or now >= self.next_show:
            self.next_show = now + SHOW_EVERY
            self.reporter.update(self.progress, finished=False)

    def finish(self) -> None:
        """Report that the stage is over."""
        self.progress.in_flight = 0
        self.reporter.update(self.progress, finished=True)
