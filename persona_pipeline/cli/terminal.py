"""Show a model's texts in a terminal, harmless and short, and the progress of the stages."""

import logging
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from rich.console import (
    Console,
    ConsoleOptions,
    ConsoleRenderable,
    RenderableType,
    RenderHook,
    RenderResult,
)
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
from rich.segment import Segment
from rich.text import Text

from persona_pipeline.control_characters import escape_control
from persona_pipeline.llm.progress import StageProgress, describe, describe_cost, describe_pace

if TYPE_CHECKING:
    from persona_pipeline.dedup.words.diff import Piece

ONLY_FIRST, ONLY_SECOND = ("[-", "-]", "bold red"), ("{+", "+}", "bold green")
"""Marks and style of the words that only the first, or only the second, of two texts has."""
LONGEST = 240
"""Most characters of a text in a list."""
NAMED = 5
"""Most names that a sentence lists."""


def open_console(*, stderr: bool = False) -> Console:
    """Open a console that prints control characters as escapes: models and servers send them."""
    console = Console(stderr=stderr)
    console.push_render_hook(_EscapingHook())
    return console


class _WarningPrinter(logging.Handler):
    """Print warnings of the library, above the bars of progress."""

    def __init__(self, console: Console) -> None:
        super().__init__(logging.WARNING)
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        warn(self._console, record.getMessage())


@contextmanager
def showing_warnings(console: Console) -> Iterator[None]:
    """Print what the library warns of. While Dagster runs, its logs alone would have it."""
    logger, handler = logging.getLogger("persona_pipeline"), _WarningPrinter(console)
    logger.addHandler(handler)
    propagated, logger.propagate = logger.propagate, False
    try:
        yield
    finally:
        logger.propagate = propagated
        logger.removeHandler(handler)


@dataclass(frozen=True, slots=True)
class _Escaped:
    """Print what `content` prints, with escapes where its texts have control characters."""

    content: RenderableType

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for segment in console.render(self.content, options):
            if segment.control:  # rich's own, such as a move of its progress bars
                yield segment
            else:
                yield Segment(escape_control(segment.text), segment.style)


class _EscapingHook(RenderHook):
    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        return [_Escaped(renderable) for renderable in renderables]


def mark_pieces(pieces: Sequence["Piece"], before: str, after: str, style: str) -> Text:
    """Return the text with what differs between marks, which also show without colour."""
    text = Text()
    for piece in pieces:
        if piece.is_different:
            text.append(f"{before}{piece.text}{after}", style)
        else:
            text.append(piece.text)
    return text


def cut_text(text: Text) -> Text:
    """Cut the text to LONGEST characters, in place, and return it."""
    text.truncate(LONGEST, overflow="ellipsis")
    return text


def plain(text: str) -> str:
    """Replace the characters that would move the cursor by spaces: a model wrote the text."""
    return "".join(sign if sign.isprintable() else " " for sign in text)


def warn(console: Console, message: str) -> None:
    """Print a message that needs the user's attention."""
    console.print(f"[yellow]{escape(message)}[/]", highlight=False, soft_wrap=True)


def count_of(count: int, thing: str) -> str:
    """Return a count with its noun, such as '1 call' or '2,000 calls'."""
    return f"{count:,} {thing}{'' if count == 1 else 's'}"


def some_of(names: Sequence[str]) -> str:
    """Return the first of the names, and how many more there are."""
    rest = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {rest:,} more" if rest > 0 else "")


PLAIN_EVERY = 5.0
"""Seconds between two log lines of one stage when the output is not a terminal."""


class _TimeLeft(ProgressColumn):
    def render(self, task: Task) -> Text:
        seconds = task.fields.get("left")
        rate = task.fields.get("rate")
        return Text(describe_pace(rate, seconds) if seconds and rate else "", style="dim")


class BarReporter:
    """Show a bar per stage: calls done of all, tokens, time left."""

    def __init__(self, console: Console) -> None:
        """Prepare the bars; `console` is the terminal."""
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
        """Start to draw."""
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop to draw. The finished bars stay on the screen."""
        self._bars.stop()

    def update(self, progress: StageProgress, *, finished: bool) -> None:
        """Move the stage's bar. A stage with nothing to buy has no bar."""
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
    """Yield what a bar says after its counts, the most useful first: a terminal cuts the end."""
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
    """Print progress as plain lines, for logs and pipes."""

    def __init__(self, console: Console) -> None:
        """Prepare the reporter; `console` is where the lines are printed."""
        self._console = console
        self._next = 0.0
        self._last = ""

    def update(self, progress: StageProgress, *, finished: bool) -> None:
        """Print a line when the stage ends, or when PLAIN_EVERY seconds have passed."""
        line = describe(progress)
        is_due = finished or time.monotonic() >= self._next
        if progress.total and is_due and line != self._last:
            self._next = time.monotonic() + PLAIN_EVERY
            self._last = line
            self._console.print(line, highlight=False)


@contextmanager
def open_reporter(console: Console) -> Iterator[BarReporter | LineReporter]:
    """Open a reporter that shows bars in a terminal, and lines elsewhere."""
    if console.is_terminal and sys.stdout.isatty():
        with BarReporter(console) as bars:
            yield bars
    else:
        yield LineReporter(console)
