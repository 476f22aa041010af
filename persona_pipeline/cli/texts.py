"""How texts of a model are shown in a terminal: harmless, short, with what differs marked."""

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.text import Text

from persona_pipeline.personas.differences import Piece

ONLY_FIRST, ONLY_SECOND = ("[-", "-]", "bold red"), ("{+", "+}", "bold green")
"""What stands around the words that only the first, or the second, of two texts has."""
LONGEST = 240
"""Characters of a text in a list."""
NAMED = 5
"""Names that a line lists."""


def mark_pieces(pieces: Sequence[Piece], before: str, after: str, style: str) -> Text:
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
