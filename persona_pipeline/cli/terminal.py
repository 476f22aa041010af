"""How texts of a model are shown in a terminal: harmless, short, with what differs marked."""

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text

from persona_pipeline.llm.progress import StageProgress, describe, describe_cost

if TYPE_CHECKING:
    from persona_pipeline.dedup.words.diff import Piece

ONLY_FIRST, ONLY_SECOND = ("[-", "-]", "bold red"), ("{+", "+}", "bold green")
"""What stands around the words that only the first, or the second, of two texts has."""
LONGEST = 240
"""Characters of a text in a list."""
NAMED = 5
"""Names that a line lists."""


def mark_pieces(pieces: Sequence["Piece"], before: str, after: str, style: str) -> Text:
    """The text with what differs between marks, which are there without colour too."""
    text = Text()
    for piece in pieces:
        if piece.is_different:
            text.append(f"{before}{piece.text}{after}", style)
        else:
            text.append(piece.text)
    return text


def cut_text(text: Text) -> Text:
    """At most LONGEST characters of it."""
    text.truncate(LONGEST, overflow="ellipsis")
    return text


def plain(text: str) -> str:
    """Without what would move the cursor: a model wrote it."""
    return "".join(sign if sign.isprintable() else " " for sign in text)


def warn(console: Console, line: str) -> None:
    """Print what a user should see to."""
    console.print(f"[yellow]{escape(line)}[/]", highlight=False)


def count_of(count: int, thing: str) -> str:
    """As '1 call', '2,000 calls'."""
    return f"{count:,} {thing}{'' if count == 1 else 's'}"


def some_of(names: Sequence[str]) -> str:
    """The first of the names, and how many more there are."""
    rest = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {rest:,} more" if rest > 0 else "")


PLAIN_EVERY = 5.0
"""Seconds between two lines of one stage where the output is not a terminal."""


class _TimeLeft(ProgressColumn):
    def render(self, task: Task) -> Text:
        seconds = task.fields.get("left")
        rate = task.fields.get("rate")
        return Text(f"{rate:.1f}/s, {seconds:.0f} s left" if seconds else "", style="dim")


class BarReporter:
    """A bar per stage: done of total, tokens, time left."""

    def __init__(self, console: Console) -> None:
        """`console`: the terminal."""
        self._bars = Progress(
            TextColumn("{task.description:<28}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("[dim]{task.fields[tokens]}"),
            TimeElapsedColumn(),
            _TimeLeft(),
            console=console,
        )
        self._tasks: dict[int, TaskID] = {}

    def __enter__(self) -> Self:
        """Start drawing."""
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop drawing; the finished bars stay on the screen."""
        self._bars.stop()

    def update(self, progress: StageProgress, *, finished: bool) -> None:
        """Move the stage's bar; a stage with nothing to buy gets none."""
        if not progress.total:
            return
        key = id(progress)
        if key not in self._tasks:
            self._tasks[key] = self._bars.add_task(
                progress.stage, total=progress.total, tokens="", left=None, rate=0.0
            )
        tokens = ", ".join(_figures(progress))
        left = None if finished else progress.seconds_left
        self._bars.update(
            self._tasks[key],
            completed=progress.done,
            total=progress.total,
            tokens=tokens,
            left=left,
            rate=progress.rate,
        )
        if finished:
            del self._tasks[key]  # the next stage's progress may have the same id


def _figures(progress: StageProgress) -> Iterator[str]:
    """What a bar's line says beside done and total, the most telling first: a terminal cuts it."""
    if progress.cost_usd:
        yield describe_cost(progress)
    if progress.tokens:
        yield f"{progress.tokens:,} tokens"
    if progress.failed:
        yield f"{progress.failed:,} failed"
    if progress.in_flight:
        yield f"{progress.in_flight} in flight"
    if progress.refused_share:
        yield f"{progress.refused_share:.0%} refused for pace"


class LineReporter:
    """Plain lines, for logs and pipes."""

    def __init__(self, console: Console) -> None:
        """`console`: where the lines go."""
        self._console = console
        self._next = 0.0
        self._last = ""

    def update(self, progress: StageProgress, *, finished: bool) -> None:
        """Write a line when the stage is over, or when one is due."""
        line = describe(progress)
        is_due = finished or time.monotonic() >= self._next
        if progress.total and is_due and line != self._last:
            self._next = time.monotonic() + PLAIN_EVERY
            self._last = line
            self._console.print(line, highlight=False)


@contextmanager
def open_reporter(console: Console) -> Iterator[BarReporter | LineReporter]:
    """Bars in a terminal, lines elsewhere."""
    if console.is_terminal and sys.stdout.isatty():
        with BarReporter(console) as bars:
            yield bars
    else:
        yield LineReporter(console)
