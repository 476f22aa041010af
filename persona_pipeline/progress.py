"""How a stage says how far it is: the command line draws it, Dagster logs it."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

LOG_EVERY = 10.0
"""Seconds between two log lines of one stage."""


@dataclass(slots=True)
class StageProgress:
    """One stage under way."""

    stage: str
    total: int
    done: int = 0
    failed: int = 0
    tokens: int = 0
    started: float = field(default_factory=time.monotonic)

    @property
    def seconds_left(self) -> float | None:
        """At the pace so far; None before anything is done."""
        if not self.done:
            return None
        return (time.monotonic() - self.started) / self.done * (self.total - self.done)


class Reporter(Protocol):
    """Shows progress somewhere."""

    def update(self, progress: StageProgress, *, finished: bool) -> None:
        """Called at the start, after each step, and when the stage is over."""
        ...


class LogReporter:
    """A log line at the start, every ten seconds, and at the end."""

    def __init__(self, log: logging.Logger | None = None) -> None:
        """`log`: where to write; the package's own logger by default."""
        self._log = log or logging.getLogger("persona_pipeline")
        self._next = 0.0

    def update(self, progress: StageProgress, *, finished: bool) -> None:
        """Write a line when one is due."""
        now = time.monotonic()
        if finished or now >= self._next:
            self._next = now + LOG_EVERY
            self._log.info(describe(progress))


class _Current:
    reporter: Reporter | None = None


def describe(progress: StageProgress) -> str:
    """`synthetic.math: 3/6 done, 1 failed, 1,204 tokens, 12 s left`."""
    parts = [f"{progress.stage}: {progress.done}/{progress.total} done"]
    if progress.failed:
        parts.append(f"{progress.failed} failed")
    if progress.tokens:
        parts.append(f"{progress.tokens:,} tokens")
    left = progress.seconds_left
    if left and progress.done < progress.total:
        parts.append(f"{left:.0f} s left")
    return ", ".join(parts)


@contextmanager
def reporting_to(reporter: Reporter) -> Iterator[None]:
    """Send every stage's progress to `reporter` meanwhile."""
    before, _Current.reporter = _Current.reporter, reporter
    try:
        yield
    finally:
        _Current.reporter = before


@contextmanager
def stage_progress(
    stage: str, total: int, log: logging.Logger | None = None
) -> Iterator["Tracker"]:
    """Track one stage; `log` is used where no other reporter was chosen."""
    tracker = Tracker(StageProgress(stage, total), _Current.reporter or LogReporter(log))
    tracker.show()
    try:
        yield tracker
    finally:
        tracker.show(finished=True)


@dataclass(slots=True)
class Tracker:
    """Counts steps of one stage and shows them."""

    progress: StageProgress
    reporter: Reporter

    def step(self, *, tokens: int = 0, failed: bool = False) -> None:
        """One more is done."""
        self.progress.done += 1
        self.progress.failed += failed
        self.progress.tokens += tokens
        self.show()

    def reach(self, done: int) -> None:
        """So many are done by now."""
        self.progress.done = done
        self.show()

    def show(self, *, finished: bool = False) -> None:
        """Tell the reporter."""
        self.reporter.update(self.progress, finished=finished)
