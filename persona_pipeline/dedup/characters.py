r"""Which characters words are made of, in a table of our own that no library's upgrade changes.

The rule is `[\p{L}\p{M}\p{N}_]` over lower-case NFC text. Python, Rust and RE2 disagree on `\w` and
follow different editions of Unicode, so the rule is written out in `characters.csv`, as RE2 in
DuckDB 1.5.5 reads it. A test compares the two for every code point.

Scripts that put no spaces between words are marked: their runs are cut into pairs of characters.
"""

import csv
from functools import cache
from pathlib import Path

import duckdb
import numpy as np
from numpy.typing import NDArray

TABLE = Path(__file__).parent / "characters.csv"
GAP, WORD, SPACELESS = 0, 1, 2
CODE_POINTS = 0x110000
CASED = 0x20000
"""Code points from here on have one case only."""

WORD_RULE = r"[\p{L}\p{M}\p{N}_]"
SPACELESS_RULE = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}ーｰ]"
"""The marks of long vowels belong to no script, and stand inside Japanese words."""
SCALARS = "range(1, 1114112) points(point) where point not between 55296 and 57343"


@cache
def load_characters() -> tuple[NDArray[np.uint8], NDArray[np.uint32]]:
    """The class of each code point, and the lower case of each below `CASED`."""
    classes = np.zeros(CODE_POINTS, np.uint8)
    lower = np.arange(CASED, dtype=np.uint32)
    with TABLE.open(encoding="ascii", newline="") as lines:
        for kind, first, last in csv.reader(lines):
            start, end = int(first, 16), int(last, 16)
            if kind == "lower":
                lower[start] = end
            else:
                classes[start : end + 1] = SPACELESS if kind == "spaceless" else WORD
    return classes, lower


def write_characters(path: Path = TABLE) -> None:
    """Make the table anew from DuckDB: a new tokenizer version, if a text may read differently."""
    classes, lower = read_characters()
    with path.open("w", encoding="ascii", newline="") as lines:
        out = csv.writer(lines, lineterminator="\n")
        edges = np.flatnonzero(np.diff(classes)) + 1
        for start, end in zip([0, *edges], [*edges, CODE_POINTS], strict=True):
            if classes[start] != GAP:
                kind = "spaceless" if classes[start] == SPACELESS else "word"
                out.writerow([kind, f"{start:x}", f"{end - 1:x}"])
        for point in np.flatnonzero(lower != np.arange(CASED)):
            out.writerow(["lower", f"{point:x}", f"{lower[point]:x}"])


def read_characters() -> tuple[NDArray[np.uint8], NDArray[np.uint32]]:
    """What `load_characters` gives, as the DuckDB at hand sees it."""
    classes = np.zeros(CODE_POINTS, np.uint8)
    lower = np.arange(CASED, dtype=np.uint32)
    with duckdb.connect() as conn:
        for rule, kind in ((WORD_RULE, WORD), (SPACELESS_RULE, SPACELESS)):
            query = (
                f"select point from {SCALARS} and regexp_matches(chr(point::int), $word) "
                "and regexp_matches(chr(point::int), $rule)"
            )
            found = conn.execute(query, {"word": WORD_RULE, "rule": rule}).fetchnumpy()
            classes[found["point"]] = kind
        query = f"select point, unicode(lower(chr(point::int))) as lower from {SCALARS}"
        cases = conn.execute(f"{query} and point < {CASED}").fetchnumpy()
        lower[cases["point"]] = cases["lower"]
    return classes, lower
