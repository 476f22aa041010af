r"""Say which characters words are made of, in a table of our own that no upgrade changes.

The rule is `[\p{L}\p{M}\p{N}_]` over lower-case NFC text. Python, Rust and RE2 disagree on `\w` and
follow different editions of Unicode, so the rule is written out in `characters.csv`, as RE2 in
DuckDB 1.5.5 reads it. A test compares the two for every code point.

Scripts that put no spaces between words are marked: their runs are cut into pairs of characters.
Characters that only steer how their neighbours look are marked, too, and passed over, so that a
soft hyphen, a joiner or an emoji's variation selector neither splits a word nor is one (as format
characters in Unicode's word boundaries, UAX 29, WB4). The zero-width space does split words.
"""

import csv
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from persona_pipeline.sql import open_in_memory

TABLE = Path(__file__).parent / "characters.csv"
GAP, WORD, SPACELESS, IGNORED = 0, 1, 2, 3
KINDS = {WORD: "word", SPACELESS: "spaceless", IGNORED: "ignored"}
"""The kinds as the table calls them; what it does not name is a gap."""
CODE_POINTS = 0x110000
CASED = 0x20000
"""Code points from here on have one case only."""

WORD_RULE = r"[\p{L}\p{M}\p{N}_]"
SPACELESS_RULE = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}ーｰ]"
"""The marks of long vowels belong to no script, and stand inside Japanese words."""
IGNORED_RULE = (
    r"[\x{AD}\x{34F}\x{61C}\x{180B}-\x{180F}\x{200C}-\x{200F}\x{202A}-\x{202E}\x{2060}-\x{2064}"
    r"\x{2066}-\x{206F}\x{FE00}-\x{FE0F}\x{FEFF}\x{E0001}\x{E0020}-\x{E007F}\x{E0100}-\x{E01EF}]"
)
"""Invisible hyphens and joiners, directions of writing, selectors of variants, tags."""
RULES = {"spaceless": f"({SPACELESS_RULE}+)", "ignored": IGNORED_RULE}
"""The parameters of `sql/dedup/words.sql`."""
SCALARS = "range(1, 1114112) points(point) where point not between 55296 and 57343"


@cache
def load_characters() -> tuple[NDArray[np.uint8], NDArray[np.uint32]]:
    """Return (code point) its kind, and (code point below `CASED`) its lower case."""
    classes = np.full(CODE_POINTS, GAP, np.uint8)
    lower = np.arange(CASED, dtype=np.uint32)
    class_of = {kind: number for number, kind in KINDS.items()}
    with TABLE.open(encoding="ascii", newline="") as lines:
        for kind, first, last in csv.reader(lines):
            start, end = int(first, 16), int(last, 16)
            if kind == "lower":
                lower[start] = end
            else:
                classes[start : end + 1] = class_of[kind]
    return classes, lower


def write_characters(path: Path = TABLE) -> None:
    """Write the table anew from DuckDB; a change of it takes a new tokenizer version."""
    classes, lower = read_characters()
    with path.open("w", encoding="ascii", newline="") as lines:
        out = csv.writer(lines, lineterminator="\n")
        edges = np.flatnonzero(np.diff(classes)) + 1
        for start, end in zip([0, *edges], [*edges, CODE_POINTS], strict=True):
            if classes[start] != GAP:
                out.writerow([KINDS[classes[start]], f"{start:x}", f"{end - 1:x}"])
        for point in np.flatnonzero(lower != np.arange(CASED)):
            out.writerow(["lower", f"{point:x}", f"{lower[point]:x}"])


def read_characters() -> tuple[NDArray[np.uint8], NDArray[np.uint32]]:
    """Return what `load_characters` returns, as the installed DuckDB sees it."""
    classes = np.zeros(CODE_POINTS, np.uint8)
    lower = np.arange(CASED, dtype=np.uint32)
    with open_in_memory() as conn:
        for rule, kind in (
            (WORD_RULE, WORD),
            (SPACELESS_RULE, SPACELESS),
            (IGNORED_RULE, IGNORED),
        ):
            query = f"select point from {SCALARS} and regexp_matches(chr(point::int), $rule)"
            matches = conn.execute(query, {"rule": rule}).fetchnumpy()["point"]
            classes[matches if kind != SPACELESS else matches[classes[matches] == WORD]] = kind
        query = f"select point, unicode(lower(chr(point::int))) as lower from {SCALARS}"
        cases = conn.execute(f"{query} and point < {CASED}").fetchnumpy()
        lower[cases["point"]] = cases["lower"]
    return classes, lower
