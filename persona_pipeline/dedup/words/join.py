"""Find texts whose words are nearly the same, by an exact set-similarity join.

Prefix filtering after Chaudhuri, Ganti and Kaushik (ICDE 2006), with combinations of words instead
of single ones (`join_keys.py`), compiled (`join_kernel.py`). 200,000 personas at 0.9 take 0.2
CPU-seconds, of which the join is a tenth.
"""

import logging
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import ceil
from typing import NamedTuple, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray

from persona_pipeline.dedup import kernels
from persona_pipeline.dedup.resources import Resources
from persona_pipeline.dedup.words.join_keys import LEVEL, MAX_LEVEL, JoinKeyTable, build_key_table
from persona_pipeline.dedup.words.word_sets import EncodedTexts, WordSets, concat_sets

HOT = 10_000
"""The most sets that may share a key; more of them are joined on one word more."""
GROUP_KEYS = 8192
"""Keys joined at a time: their table stays in the L2 cache."""
KEY_BYTES = 26
"""Bytes of a key, its row and its role, before and after they are grouped."""
SLOTS = 16
"""Bits of the bitmap per group of one key or two: 3 to 6 % of other keys pass."""
UNLIMITED = 1 << 40
TIMES_FOUND = 2
"""How often a pair is counted, at most, before the pairs of a group are too many: a group finds it
once for each level that both sets have."""

PAIRS = {"first_key": pl.UInt64(), "second_key": pl.UInt64(), "similarity": pl.Float64()}
logger = logging.getLogger(__name__)


class JoinKeys(NamedTuple):
    """The keys by which sets are joined with others at one similarity."""

    min_similarity: float
    keys: NDArray[np.uint64]
    """Sorted."""
    rows: NDArray[np.int32]
    """(key): the set that has it."""
    signatures: NDArray[np.uint64]
    """(set): 64 bits, of which each word sets one."""


@dataclass(frozen=True, slots=True)
class KeyedSets:
    """Distinct word sets, none of them empty, sorted by the key of each."""

    keys: NDArray[np.uint64]
    sets: WordSets
    join_keys: JoinKeys | None = None
    """The stored join keys, if there are any."""

    def keys_at(self, min_similarity: float) -> JoinKeys:
        """Return the join keys at this similarity: the stored ones, or new ones."""
        kept = self.join_keys
        if kept and kept.min_similarity == min_similarity:
            return kept
        kernels.expect(len(self.sets.codes))
        table = build_key_table(self.sets.sizes, min_similarity)
        keys, rows, _ = _write_keys(self.sets, table, 1, 0)
        order = np.argsort(keys)
        return JoinKeys(min_similarity, keys[order], rows[order], _sign(self.sets))

    def with_join_keys(self, min_similarity: float) -> "KeyedSets":
        """Return the same sets with their join keys at this similarity."""
        return KeyedSets(self.keys, self.sets, self.keys_at(min_similarity))


def distinct_sets(texts: EncodedTexts) -> KeyedSets:
    """Return each word set of the texts once; texts without a word have none."""
    _, rows = np.unique(texts.set_keys, return_index=True)
    rows = rows[texts.sets.sizes[rows] > 0]
    return KeyedSets(texts.set_keys[rows], texts.sets.take(rows))


def no_sets() -> KeyedSets:
    """Return no word sets."""
    return KeyedSets(np.empty(0, np.uint64), concat_sets([]))


def are_shared(new: KeyedSets, known: Iterable[KeyedSets]) -> NDArray[np.bool_]:
    """Return, per new set, whether it is among the known ones."""
    matches = np.zeros(len(new.keys), np.bool_)
    for part in known:
        kernels.expect(len(part.keys))
        kernels.join.mark_common(new.keys, part.keys, matches)
    return matches


def jaccard_pairs(
    new: KeyedSets,
    known: Sequence[KeyedSets],
    min_similarity: float,
    resources: Resources | None = None,
) -> pl.DataFrame:
    """Return the pairs of sets with at least this Jaccard similarity, of which one is new.

    Known sets are compared with the new ones, not with each other. A known set with the key of a
    new one is the same set, and is left out.

    Returns:
        One row per pair: first_key < second_key (UInt64), similarity (Float64). Sorted.

    Raises:
        MemoryLimitError: there are more pairs than fit into the memory.
    """
    resources = resources or Resources()
    join = _Join(min_similarity, resources)
    similar = list(join.possibly_similar(new, known)) if known else []
    keys = np.concatenate([new.keys, *(part.keys for part in similar)])
    sets = concat_sets([new.sets, *(part.sets for part in similar)])
    is_new = np.arange(len(keys)) < len(new.keys)
    left, right, shared = join.pairs(sets, is_new, LEVEL)
    similarity = shared / (sets.sizes[left] + sets.sizes[right] - shared)
    return _sort_pairs(keys[left], keys[right], similarity)


def _sort_pairs(
    left: NDArray[np.uint64], right: NDArray[np.uint64], similarity: NDArray[np.float64]
) -> pl.DataFrame:
    """Return each pair once, the lesser key first."""
    first, second = np.minimum(left, right), np.maximum(left, right)
    order = np.lexsort((second, first))
    first, second = first[order], second[order]
    is_new = np.ones(len(order), np.bool_)
    is_new[1:] = (first[1:] != first[:-1]) | (second[1:] != second[:-1])
    columns = (first[is_new], second[is_new], similarity[order[is_new]])
    return pl.DataFrame(dict(zip(PAIRS, columns, strict=True)), schema=PAIRS)


class JoinPairs(NamedTuple):
    """The rows of each pair, and how many words they share."""

    left: NDArray[np.int64]
    right: NDArray[np.int64]
    shared: NDArray[np.int64]


class Keys(NamedTuple):
    """Keys as columns: the hash, the set that has it, and its role."""

    keys: NDArray[np.uint64]
    rows: NDArray[np.int32]
    roles: NDArray[np.uint8]

    @classmethod
    def allocate(cls, count: int) -> Self:
        """Allocate columns to be filled."""
        return cls(np.empty(count, np.uint64), np.empty(count, np.int32), np.empty(count, np.uint8))

    def slice(self, start: int, end: int) -> "Keys":
        """Return the keys from `start` to `end`, not copied."""
        return Keys(self.keys[start:end], self.rows[start:end], self.roles[start:end])


class Compared(NamedTuple):
    """The sets of a join, in the order of their sizes."""

    codes: NDArray[np.uint64]
    starts: NDArray[np.int64]
    signatures: NDArray[np.uint64]
    is_new: NDArray[np.bool_]


class Wanted(NamedTuple):
    """The keys of new sets, found by their top bits."""

    bits: NDArray[np.uint64]
    """A bitmap of their top bits: it turns most other keys away."""
    groups: NDArray[np.int64]
    """(group): where its keys start."""
    keys: NDArray[np.uint64]
    """Sorted."""
    sizes: NDArray[np.int64]
    """(key): that of its set."""
    signatures: NDArray[np.uint64]
    """(key): that of its set."""


class _Join:
    """The self-join of sets, of which the first ones are new."""

    def __init__(self, min_similarity: float, resources: Resources) -> None:
        self._min_similarity = min_similarity
        self._resources = resources

    def possibly_similar(self, new: KeyedSets, known: Iterable[KeyedSets]) -> Iterator[KeyedSets]:
        """Return, of each part, the sets that may be similar to a new one.

        Of 1.8 million known sets, 364,000 share a key with one of 180,000 new ones; few of them are
        alike in size and signature, too. Finding these takes 0.07 CPU-seconds, and saves 0.15.
        """
        wanted = self._index(new)

        def choose(part: KeyedSets) -> KeyedSets:
            matches = np.zeros(len(part.sets), np.bool_)
            part_keys = part.keys_at(self._min_similarity)[1:]
            kernels.expect(len(part_keys[0]))
            kernels.join.find_near(
                part_keys, part.sets.starts, wanted, self._min_similarity, matches
            )
            rows = np.flatnonzero(matches)
            rows = rows[~are_among(part.keys[rows], new.keys)]
            return KeyedSets(part.keys[rows], part.sets.take(rows))

        with ThreadPoolExecutor(self._resources.threads) as pool:
            yield from pool.map(choose, known)

    def _index(self, new: KeyedSets) -> "Wanted":
        _, keys, rows, signatures = new.keys_at(self._min_similarity)
        width = max(6, len(keys).bit_length())
        bits = np.zeros(SLOTS << (width - 6), np.uint64)
        groups = np.empty((1 << width) + 1, np.int64)
        kernels.join.index_keys(keys, bits, groups)
        return Wanted(bits, groups, keys, new.sets.sizes[rows], signatures[rows])

    def pairs(self, sets: WordSets, is_new: NDArray[np.bool_], level: int) -> JoinPairs:
        """Return all similar pairs of which one is new, some of them more than once."""
        order = np.argsort(sets.sizes, kind="stable")
        ordered, hot = sets.take(order), np.zeros(len(sets), np.bool_)
        parts = list(self._limited(self._passes(ordered, is_new[order], level, hot)))
        rows = np.flatnonzero(hot)
        if len(rows):
            logger.info("a key has over %d sets: %d sets joined on %d words", HOT, len(rows), level)
            matches = self.pairs(ordered.take(rows), is_new[order][rows], level + 1)
            parts.append(JoinPairs(rows[matches.left], rows[matches.right], matches.shared))
        left, right, shared = _concat(parts)
        return JoinPairs(order[left], order[right], shared)

    def _limited(self, parts: Iterator[JoinPairs]) -> Iterator[JoinPairs]:
        """Pass the parts on as long as there is memory for them."""
        count = 0
        for part in parts:
            count += len(part.left)
            self._check(count)
            yield part

    def _check(self, count: int) -> None:
        similarity = f"word-set similarity of {self._min_similarity:.3g} and more"
        self._resources.check_pairs(count, similarity)

    def _passes(
        self, sets: WordSets, is_new: NDArray[np.bool_], level: int, hot: NDArray[np.bool_]
    ) -> Iterator[JoinPairs]:
        table = build_key_table(sets.sizes, self._min_similarity, level)
        total = kernels.join.count_keys(sets.starts, table.starts)
        keys_at_a_time = max(self._resources.memory_bytes // 4 // KEY_BYTES, GROUP_KEYS)
        passes = max(1, ceil(total / keys_at_a_time))
        limit = HOT if level < MAX_LEVEL else UNLIMITED
        compared = Compared(sets.codes, sets.starts, _sign(sets), is_new)
        for number in range(passes):
            self._resources.report(total * number // passes, total)
            keys = _write_keys(sets, table, passes, number)
            yield from self._groups(keys, compared, limit, hot)
        self._resources.report(total, total)

    def _groups(
        self,
        keys: Keys,
        compared: Compared,
        limit: int,
        hot: NDArray[np.bool_],
    ) -> Iterator[JoinPairs]:
        bits = max(1, (len(keys.keys) // GROUP_KEYS).bit_length())
        grouped = Keys.allocate(len(keys.keys))
        kernels.expect(_count_meetings(keys.keys))
        starts = kernels.join.partition_keys(*keys, bits, grouped)
        most = TIMES_FOUND * self._resources.most_pairs
        rules = (self._min_similarity, limit, most, not compared.is_new.all())

        def join(group: int) -> JoinPairs:
            columns, room = grouped.slice(starts[group], starts[group + 1]), 1024
            while True:
                pairs, shared = np.empty((room, 2), np.int32), np.empty(room, np.int32)
                matches = kernels.join.join_group(*columns, compared, rules, pairs, shared, hot)
                if matches > most:
                    self._check(matches)
                if matches <= room:
                    return _unique(pairs[:matches], shared[:matches])
                room = matches

        with ThreadPoolExecutor(self._resources.threads) as pool:
            yield from pool.map(join, range(1 << bits))


def _count_meetings(keys: NDArray[np.uint64]) -> int:
    """Return how many pairs of sets meet at a key, while that decides on compiling."""
    if kernels.is_due():
        return 0
    counts = np.unique(keys, return_counts=True)[1]
    return int(counts @ counts)


def _sign(sets: WordSets) -> NDArray[np.uint64]:
    signatures = np.empty(len(sets), np.uint64)
    kernels.join.sign_sets(sets.codes, sets.starts, signatures)
    return signatures


def _write_keys(sets: WordSets, table: JoinKeyTable, passes: int, number: int) -> Keys:
    """Return the keys of this pass, one of `passes` parts of all keys."""
    room = kernels.join.count_keys(sets.starts, table.starts)
    if passes > 1:
        room = room // passes + room // passes // 8 + 1024
    layout = (table.starts, table.places, table.levels, table.roles)
    while True:
        columns = Keys.allocate(room)
        matches = kernels.join.write_keys(
            sets.codes, sets.starts, *layout, passes, number, *columns
        )
        if matches <= room:
            return columns.slice(0, matches)
        room = matches


def are_among(keys: NDArray[np.uint64], ordered: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Return, per key, whether it is among the ordered ones."""
    if not len(ordered):
        return np.zeros(len(keys), np.bool_)
    places = np.searchsorted(ordered, keys).clip(max=len(ordered) - 1)
    return np.asarray(ordered[places] == keys)


def _unique(pairs: NDArray[np.int32], shared: NDArray[np.int32]) -> JoinPairs:
    """Return each pair once: the join finds it once per level that both sets have."""
    codes = pairs[:, 0].astype(np.int64) << 32 | pairs[:, 1]
    matches, first = np.unique(codes, return_index=True)
    return JoinPairs(matches >> 32, matches & 0xFFFFFFFF, shared[first].astype(np.int64))


def _concat(parts: list[JoinPairs]) -> JoinPairs:
    nothing = np.empty(0, np.int64)
    return JoinPairs(*(np.concatenate([nothing, *column]) for column in zip(*parts, strict=True)))
