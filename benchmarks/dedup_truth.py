# /// script
# requires-python = ">=3.11"
# dependencies = ["numpy==2.4.6", "scipy==1.17.1"]
# ///
"""What is true: all pairs of similar rows by brute force, and what a set of removals left undone.

Run by `dedup.py` in a virtual environment of its own; the judging below needs NumPy only.
"""

import argparse
import json
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from scipy import sparse

WORD = re.compile(r"\w+")
"""For composed Latin text the same as the project's own rule, [\\p{L}\\p{M}\\p{N}_]+."""
ROWS_A_BLOCK = 500
COSINES_A_BLOCK = 1024
ROUNDING = 1e-9
FLOAT32_ERROR = 1e-4
"""Products of float32 propose from this far below; float64 sums decide."""

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Pairs:
    """Similar rows, `first` before `second`, and how similar they are."""

    first: Rows
    second: Rows
    similarity: npt.NDArray[np.float64]

    def __len__(self) -> int:
        """The number of pairs."""
        return len(self.first)

    def above(self, threshold: float) -> "Pairs":
        """Those at or above a threshold."""
        near = self.similarity >= threshold - ROUNDING
        return Pairs(self.first[near], self.second[near], self.similarity[near])

    def save(self, path: Path) -> None:
        """Write an .npz file."""
        np.savez(path, first=self.first, second=self.second, similarity=self.similarity)


def load_pairs(path: Path) -> Pairs:
    """Read what `Pairs.save` wrote."""
    with np.load(path) as arrays:
        return Pairs(arrays["first"], arrays["second"], arrays["similarity"])


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a set of removals, and the pairs where there are some, compare with the truth."""

    left: int
    false_removals: int
    recall: float | None
    precision: float | None


def judge(truth: Pairs, removed: Rows, pairs: Rows | None, rows: int) -> Verdict:
    """Count pairs that were both kept, and removals that no kept row at the threshold explains."""
    is_kept = np.ones(rows, dtype=bool)
    is_kept[removed] = False
    left = np.count_nonzero(is_kept[truth.first] & is_kept[truth.second])
    is_explained = np.zeros(rows, dtype=bool)
    is_explained[truth.second[is_kept[truth.first]]] = True
    is_explained[truth.first[is_kept[truth.second]]] = True
    false_removals = np.count_nonzero(~is_kept & ~is_explained)
    recall, precision = (None, None) if pairs is None else rate(truth, pairs, rows)
    return Verdict(int(left), int(false_removals), recall, precision)


def rate(truth: Pairs, pairs: Rows, rows: int) -> tuple[float, float]:
    """Recall and precision of pairs, given as an array of shape (n, 2) in either order."""
    expected = truth.first * rows + truth.second
    matches = np.unique(pairs.min(axis=1) * rows + pairs.max(axis=1))
    hits = len(np.intersect1d(expected, matches, assume_unique=True))
    return hits / max(len(expected), 1), hits / max(len(matches), 1)


def keep_first(truth: Pairs, rows: int) -> Rows:
    """The rows to remove when each row, in order, stays unless one that stayed is similar."""
    is_kept = np.ones(rows, dtype=bool)
    order = np.lexsort((truth.first, truth.second))
    for first, second in zip(truth.first[order], truth.second[order], strict=True):
        if is_kept[first]:
            is_kept[second] = False
    return np.flatnonzero(~is_kept)


def words_of(text: str) -> set[str]:
    """The set that Jaccard similarity is of."""
    return set(WORD.findall(unicodedata.normalize("NFC", text.lower())))


def find_jaccard_pairs(texts: list[str], threshold: float) -> Pairs:
    """All pairs of rows, compared; rows without a word are in none."""
    from scipy import sparse  # noqa: PLC0415 - the judging runs without it

    numbers: dict[str, int] = {}
    sets = [[numbers.setdefault(word, len(numbers)) for word in words_of(text)] for text in texts]
    sizes = np.array([len(items) for items in sets], dtype=np.int64)
    starts = np.concatenate([[0], sizes.cumsum()])
    columns = np.fromiter((item for items in sets for item in items), np.int64, starts[-1])
    ones = np.ones(len(columns), dtype=np.int32)
    matrix = sparse.csr_array((ones, columns, starts), shape=(len(texts), len(numbers)))
    return concatenate(iter_jaccard_blocks(matrix, sizes, threshold))


def iter_jaccard_blocks(
    matrix: "sparse.csr_array", sizes: Rows, threshold: float
) -> Iterator[Pairs]:
    """Counts of shared words, some rows against all that are not before them."""
    for start in range(0, len(sizes), ROWS_A_BLOCK):
        shared = (matrix[start : start + ROWS_A_BLOCK] @ matrix[start:].T).tocoo()
        first, second = (places.astype(np.int64) + start for places in shared.coords)
        union = sizes[first] + sizes[second] - shared.data
        yield Pairs(first, second, shared.data / union).above(threshold)


def find_cosine_pairs(vectors: npt.NDArray[np.float32], threshold: float) -> Pairs:
    """All pairs of unit vectors, compared."""
    return concatenate(iter_cosine_blocks(vectors, threshold))


def iter_cosine_blocks(vectors: npt.NDArray[np.float32], threshold: float) -> Iterator[Pairs]:
    """Full products, some rows against all that are not before them."""
    for start in range(0, len(vectors), COSINES_A_BLOCK):
        products = vectors[start : start + COSINES_A_BLOCK] @ vectors[start:].T
        places = np.flatnonzero(products >= threshold - FLOAT32_ERROR)
        first, second = (part + start for part in np.divmod(places, products.shape[1]))
        exact = cosines(vectors, first, second)
        yield Pairs(first, second, exact).above(threshold)


def cosines(vectors: npt.NDArray[np.float32], first: Rows, second: Rows) -> npt.NDArray[np.float64]:
    """The cosine of each pair in double precision; the vectors need not be of length 1 exactly."""
    left, right = vectors[first].astype(np.float64), vectors[second].astype(np.float64)
    lengths = np.sqrt((left * left).sum(axis=1) * (right * right).sum(axis=1))
    return (left * right).sum(axis=1) / np.where(lengths == 0, 1, lengths)


def concatenate(blocks: Iterator[Pairs]) -> Pairs:
    """One list of pairs, without those of a row with itself."""
    parts = [
        Pairs(block.first[upper], block.second[upper], block.similarity[upper])
        for block in blocks
        for upper in [block.first < block.second]
    ]
    names = ("first", "second", "similarity")
    return Pairs(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def main() -> None:
    """The command line that `dedup.py` uses."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--texts", type=Path, help="one JSON string a line")
    source.add_argument("--vectors", type=Path, help=".npy of float32")
    parser.add_argument("--threshold", type=float, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    if options.texts:
        texts = [json.loads(line) for line in options.texts.open()]
        find_jaccard_pairs(texts, options.threshold).save(options.out)
    else:
        find_cosine_pairs(np.load(options.vectors), options.threshold).save(options.out)


if __name__ == "__main__":
    main()
