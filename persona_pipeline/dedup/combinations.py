"""Which words of a set become its keys, so that no similar pair is missed.

Two sets of sizes a >= b with a Jaccard similarity of t share at least o = t / (1 + t) * (a + b)
words. Take the first l <= o words they share, rare first: in the set of size a, the l-th of them is
at position a - o + l at the latest, since o - l more must follow. So both sets have, among the
l-word combinations of their prefixes of that length, one in common: an equi-join on combinations
finds every pair, whatever the order of the words.
"""

from collections.abc import Iterable, Iterator
from itertools import combinations
from math import ceil, comb, floor

import polars as pl

_MAX_LEVEL = 2
"""Two words a key: measured 4.2 keys per persona at 0.9, and few false candidates."""
_MAX_COMBINATIONS = 500
"""Keys grow with the square of the prefix (11,476 for 300 words at 0.5); beyond this, one word a
key. At 0.9 that starts at some 300 words, at 0.5 at some 60."""
_ROUNDING = 1e-9
"""Float error of a bound; erring this way only adds combinations."""

_SCHEMA = {
    "size": pl.Int32(),
    "is_probe": pl.Boolean(),
    "level": pl.Int8(),
    "positions": pl.List(pl.Int32()),
}


def build_combinations(sizes: Iterable[int], min_similarity: float) -> pl.DataFrame:
    """One row per set size, role and combination of word positions (from 1) that makes a key.

    A set is a probe towards sets of its size or smaller, and in the index for sets of its size or
    larger. What a size gets depends on the size and the similarity only, not on the other sizes.
    """
    rows = [
        (size, is_probe, level, positions)
        for size in sorted(set(sizes))
        for is_probe in (True, False)
        for level, positions in _iter_positions(size, min_similarity, is_probe=is_probe)
    ]
    return pl.DataFrame(rows, schema=_SCHEMA, orient="row")


def _iter_positions(
    size: int, min_similarity: float, *, is_probe: bool
) -> Iterator[tuple[int, list[int]]]:
    partners = _partner_sizes(size, min_similarity, is_probe=is_probe)
    overlap = min(required_overlap(size, partner, min_similarity) for partner in partners)
    levels = {pair_level(size, partner, min_similarity) for partner in partners}
    for level in sorted(levels):
        prefix = range(1, min(size, size - overlap + level) + 1)
        for positions in combinations(prefix, level):
            yield level, list(positions)


def _partner_sizes(size: int, min_similarity: float, *, is_probe: bool) -> range:
    if is_probe:
        return range(max(1, ceil(min_similarity * size - _ROUNDING)), size + 1)
    return range(size, floor(size / min_similarity + _ROUNDING) + 1)


def required_overlap(size: int, partner: int, min_similarity: float) -> int:
    """How many words sets of these sizes share at least, if they are similar enough."""
    bound = min_similarity / (1 + min_similarity) * (size + partner)
    return max(1, ceil(bound - _ROUNDING))


def pair_level(size: int, partner: int, min_similarity: float) -> int:
    """How many words a key of this pair of sizes has: both roles must agree, so both ask here."""
    larger = max(size, partner)
    return min(
        _level_limit(larger, min_similarity), required_overlap(size, partner, min_similarity)
    )


def _level_limit(size: int, min_similarity: float) -> int:
    smallest = _partner_sizes(size, min_similarity, is_probe=True)[0]
    allowed_misses = size - required_overlap(size, smallest, min_similarity)
    prefix = min(size, allowed_misses + _MAX_LEVEL)
    return _MAX_LEVEL if comb(prefix, _MAX_LEVEL) <= _MAX_COMBINATIONS else 1
