"""Choose which words of a set become its join keys, so that no similar pair is missed.

Two sets of sizes a >= b with a Jaccard similarity of t share at least o = t / (1 + t) * (a + b)
words. Take the first l <= o words they share, rare first: in the set of size a, the l-th of them is
at position a - o + l at the latest, since o - l more must follow. So both sets have, among the
l-word combinations of their first words up to there, one in common: an equi-join on combinations
finds every pair, whatever the order of the words.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import combinations
from math import ceil, comb, floor

import numpy as np
from numpy.typing import NDArray

PROBE, INDEX = 1, 2
"""Roles of a key: it meets sets of its own size and smaller, or of its own size and larger."""
LEVEL = 2
"""Words per key: two give 3.0 keys per persona at 0.9, and 1.4 candidates per similar pair."""
MAX_LEVEL = 4
"""Words per key where two are not selective enough."""
MAX_KEYS = 500
"""The most keys per set. Keys grow with the square of its size (11,476 for 300 words at 0.5);
beyond this, a key has one word. At 0.9 that starts at some 300 words, at 0.5 at some 60."""
KEYS_VERSION = 1
"""Goes up with every change of which keys a set has: stored keys are made again."""
ROUNDING = 1e-9
"""Float error of a bound; erring this way only adds keys."""


@dataclass(frozen=True, slots=True)
class JoinKeyTable:
    """The keys of each set size: those of size n are the rows starts[n] to starts[n + 1]."""

    starts: NDArray[np.int64]
    places: NDArray[np.int32]
    """(key, word): positions in the sorted set, from 0; as many as `levels` says."""
    levels: NDArray[np.int8]
    """(key): how many words it has."""
    roles: NDArray[np.uint8]
    """(key): PROBE, INDEX, or both."""


def build_key_table(
    sizes: NDArray[np.int64], min_similarity: float, level: int = LEVEL
) -> JoinKeyTable:
    """Return the keys of each of these set sizes; those of a size depend on nothing else."""
    rows, starts, following = list[tuple[int, tuple[int, ...], int]](), list[int](), 0
    for size in map(int, np.flatnonzero(np.bincount(sizes))):
        starts += [len(rows)] * (size + 1 - following)
        following = size + 1
        rows += _of_size(size, min_similarity, level)
    starts += [len(rows)] * 2
    places = np.zeros((len(rows), max(level, 1)), np.int32)
    for number, (_, positions, _) in enumerate(rows):
        places[number, : len(positions)] = positions
    return JoinKeyTable(
        np.array(starts, np.int64),
        places,
        np.array([row[0] for row in rows], np.int8),
        np.array([row[2] for row in rows], np.uint8),
    )


@cache
def _of_size(
    size: int, min_similarity: float, level: int
) -> list[tuple[int, tuple[int, ...], int]]:
    """Return level, positions and roles of each key of one size."""
    if size == 0:
        return []
    roles = dict[tuple[int, tuple[int, ...]], int]()
    for role in (PROBE, INDEX):
        for matches in _positions(size, min_similarity, level, role):
            roles[matches] = roles.get(matches, 0) | role
    return [(words, positions, both) for (words, positions), both in roles.items()]


def _positions(
    size: int, min_similarity: float, level: int, role: int
) -> Iterator[tuple[int, tuple[int, ...]]]:
    partners = _partner_sizes(size, min_similarity, role)
    overlap = required_overlap(size, partners[0], min_similarity)
    if overlap >= level:  # the level depends on the larger of the two only
        partners = partners if role == INDEX else range(size, size + 1)
    levels = {pair_level(size, partner, min_similarity, level) for partner in partners}
    for words in sorted(levels):
        first_places = range(min(size, size - overlap + words))
        for positions in combinations(first_places, words):
            yield words, positions


def _partner_sizes(size: int, min_similarity: float, role: int) -> range:
    if role == PROBE:
        return range(max(1, ceil(min_similarity * size - ROUNDING)), size + 1)
    return range(size, floor(size / min_similarity + ROUNDING) + 1)


def required_overlap(size: int, partner: int, min_similarity: float) -> int:
    """Return how many words sets of these sizes share at least, if they are similar enough."""
    bound = min_similarity / (1 + min_similarity) * (size + partner)
    return max(1, ceil(bound - ROUNDING))


def pair_level(size: int, partner: int, min_similarity: float, level: int = LEVEL) -> int:
    """Return how many words a key of this pair of sizes has; both roles must agree on it."""
    larger = max(size, partner)
    limit = _level_limit(larger, min_similarity, level, MAX_KEYS)
    return min(limit, required_overlap(size, partner, min_similarity))


@lru_cache(maxsize=1 << 16)
def _level_limit(size: int, min_similarity: float, level: int, most: int) -> int:
    smallest = _partner_sizes(size, min_similarity, PROBE)[0]
    allowed_misses = size - required_overlap(size, smallest, min_similarity)
    for words in range(level, 1, -1):
        if comb(min(size, allowed_misses + words), words) <= most:
            return words
    return 1
