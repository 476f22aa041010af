"""Find similar word sets by MinHash, as the Persona Hub report does.

arXiv 2406.20094, section 2.3: 1-grams, signatures of 128 hashes, similarity 0.9. The report does
not say how candidates are found, nor whether they are verified; here by bands of the signature.
"""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from persona_pipeline.dedup import kernels
from persona_pipeline.dedup.resources import Resources
from persona_pipeline.dedup.words.join import PAIRS, KeyedSets, are_among
from persona_pipeline.dedup.words.word_sets import WordSets, concat_sets

FILTER_BITS = 32
"""Bits of the filter per key of the new sets; each key sets two, and 0.4 % of other keys pass."""
CHUNK = 50_000
"""Sets a thread signs at a time."""
STEPS = 1000
"""Steps of the integral on each side of the threshold; 10,000 choose the same bands."""


@lru_cache
def choose_bands(threshold: float) -> tuple[int, int]:
    """Return how many bands, of how many hashes each, err least around the threshold.

    A pair of similarity s shares a band with the probability 1 - (1 - s^hashes)^bands. Its
    integral below the threshold (false positives) and that of the rest above it (false negatives)
    have equal weight.
    """
    choices = [
        (b, r)
        for b in range(1, kernels.minhash.HASHES + 1)
        for r in range(1, kernels.minhash.HASHES // b + 1)
    ]
    bands, hashes = np.array(choices, np.float64).T[:, :, np.newaxis]
    middles = (np.arange(STEPS) + 0.5) / STEPS
    below, above = threshold * middles, threshold + (1 - threshold) * middles
    false_positives = threshold * (1 - (1 - below**hashes) ** bands).mean(axis=1)
    false_negatives = (1 - threshold) * ((1 - above**hashes) ** bands).mean(axis=1)
    return choices[int(np.argmin(false_positives + false_negatives))]


def minhash_pairs(
    new: KeyedSets,
    known: Iterable[KeyedSets],
    min_similarity: float,
    resources: Resources | None = None,
    *,
    is_verified: bool = True,
) -> pl.DataFrame:
    """Return those rows of `jaccard_pairs` whose sets share a band of their signatures.

    At 0.9 these are 59 % of all pairs of 200,000 personas, for 0.2 CPU-seconds (exact: all, 0.06).
    Unverified, `similarity` is the share of equal hashes, and 8 % of the rows are below 0.9.

    `resources` bound the pairs. A set takes 8 bytes per band, 40 at 0.9; unverified also its
    signature, 512 bytes. Of known sets, only those that share a band with a new one stay.

    Raises:
        MemoryLimitError: there are more pairs than fit into the memory.
    """
    join = _Join(min_similarity, resources or Resources())
    new_keys = join.band_keys(new.sets)
    similar = list(join.sharing_a_band(new, new_keys, known))
    keys = np.concatenate([new.keys, *(part.keys for part, _ in similar)])
    sets = concat_sets([new.sets, *(part.sets for part, _ in similar)])
    band_keys = np.concatenate([new_keys, *(part_keys for _, part_keys in similar)])
    signatures = (
        np.empty((0, kernels.minhash.HASHES), np.uint32) if is_verified else join.signatures(sets)
    )
    rows, similarity = join.pairs(sets, band_keys, signatures, len(new.keys))
    left, right = keys[rows].T
    columns = {
        "first_key": np.minimum(left, right),
        "second_key": np.maximum(left, right),
        "similarity": similarity,
    }
    pairs = pl.DataFrame(columns, schema=PAIRS).sort("first_key", "second_key")
    # a set known twice gives its pairs twice; `unique` takes 170 bytes a row: 4.5 million pairs at
    # a peak of 1,550 MB, so 670
    both = pl.col("first_key", "second_key")
    return pairs.filter(pl.any_horizontal(both.ne_missing(both.shift())))


class BandPairs(NamedTuple):
    """(pair, 2): the two rows of each pair, and (pair): their similarity."""

    rows: NDArray[np.int32]
    similarity: NDArray[np.float64]


class _Join:
    """The self-join of sets by the bands of their signatures."""

    def __init__(self, min_similarity: float, resources: Resources) -> None:
        self._min_similarity = min_similarity
        self._resources = resources
        self._bands, self._hashes = choose_bands(min_similarity)

    def band_keys(self, sets: WordSets) -> NDArray[np.uint64]:
        """Return the band keys: one row per set, one column per band."""
        keys = np.empty((len(sets), self._bands), np.uint64)

        def write(start: int) -> None:
            starts = sets.starts[start : start + CHUNK + 1]
            kernels.minhash.write_band_keys(
                sets.codes, starts, self._hashes, keys[start : start + CHUNK]
            )

        with ThreadPoolExecutor(self._resources.threads) as pool:
            list(pool.map(write, range(0, len(sets), CHUNK)))
        return keys

    def signatures(self, sets: WordSets) -> NDArray[np.uint32]:
        """Return the signatures: one row per set, one column per hash."""
        signatures = np.empty((len(sets), kernels.minhash.HASHES), np.uint32)

        def write(start: int) -> None:
            starts = sets.starts[start : start + CHUNK + 1]
            kernels.minhash.write_signatures(sets.codes, starts, signatures[start : start + CHUNK])

        with ThreadPoolExecutor(self._resources.threads) as pool:
            list(pool.map(write, range(0, len(sets), CHUNK)))
        return signatures

    def sharing_a_band(
        self, new: KeyedSets, new_keys: NDArray[np.uint64], known: Iterable[KeyedSets]
    ) -> Iterator[tuple[KeyedSets, NDArray[np.uint64]]]:
        """Return, of each part, the sets that share or seem to share a band with a new one."""
        slots = max(6, (FILTER_BITS * new_keys.size).bit_length())
        bits = np.zeros(1 << (slots - 6), np.uint64)
        kernels.join.mark_keys(new_keys.ravel(), bits)
        for part in known:
            keys = self.band_keys(part.sets)
            places = keys & np.uint64((1 << slots) - 1)
            is_marked = bits[places >> np.uint64(6)] >> (places & np.uint64(63)) & np.uint64(1)
            rows = np.flatnonzero(is_marked.any(axis=1) & ~are_among(part.keys, new.keys))
            yield KeyedSets(part.keys[rows], part.sets.take(rows)), keys[rows]

    def pairs(
        self,
        sets: WordSets,
        band_keys: NDArray[np.uint64],
        signatures: NDArray[np.uint32],
        new: int,
    ) -> BandPairs:
        """Return each similar pair once; sets of one key need no list of candidates."""
        rules = (sets.codes, sets.starts, signatures, new, self._min_similarity)

        def join(band: int) -> BandPairs:
            order = np.argsort(band_keys[:, band], kind="stable")
            rows, similarity = np.empty((len(order), 2), np.int32), np.empty(len(order), np.float64)
            parts, at, total = [BandPairs(rows[:0], similarity[:0])], 0, 0
            while at < len(order):
                at, count = kernels.minhash.join_band(
                    band_keys, band, order, at, *rules, rows, similarity
                )
                parts.append(BandPairs(rows[:count].copy(), similarity[:count].copy()))
                total += count
                self._check(total)
            return _concat(parts)

        parts, total = list[BandPairs](), 0
        with ThreadPoolExecutor(self._resources.threads) as pool:
            for part in pool.map(join, range(self._bands)):
                parts.append(part)
                total += len(part.rows)
                self._check(total)
                self._resources.report(len(parts) * len(sets), band_keys.size)
        return _concat(parts)

    def _check(self, pairs: int) -> None:
        similarity = f"word-set similarity of some {self._min_similarity:.3g} and more"
        self._resources.check_pairs(pairs, similarity)


def _concat(parts: list[BandPairs]) -> BandPairs:
    rows, similarity = zip(*parts, strict=True)
    return BandPairs(np.concatenate(rows), np.concatenate(similarity))
