"""Find close vectors where all pairs are too many: only neighbours are compared, by an IVF index.

Each vector belongs to the inverted list of its nearest centroid. A vector is compared with those in
the `nprobe` lists nearest to it, by the prefixes of the exact search. So every pair found is one
that the exact search finds. A pair is missed if neither vector has the other's list among its
nearest. The same centroids serve for vectors that come later, so shard after shard gives the same
pairs as all at once.

Measured in CPU-seconds with embeddings of sentences (384 dimensions; beyond 50,000 of them mixes of
two and noise, 0.7 pairs from 0.9 on per vector), nprobe 6, mapped from a file from 200,000 on:

    vectors    all pairs   training   searching   recall   a tenth new   placing alone
     50,000          2.0        0.8         0.6   0.9999           0.4             0.3
    100,000          8.0        1.3         1.3   0.9990           0.8             0.6
    200,000           28        2.1         3.7   0.9995           1.8             1.2
    500,000          185        5.8          14   0.9993           6.2             3.6
  1,000,000                     7.8          31                     13             6.6

A tenth of new vectors costs a third of training and searching all: a fifth of the comparing, and
all of the placing, since nothing about a known vector is stored but itself.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from persona_pipeline.dedup import kernels
from persona_pipeline.dedup.vectors.bounds import (
    LONG_PREFIX,
    bounded_prefix,
    evenly_spaced,
    find_directions,
    prefix_bounds,
)
from persona_pipeline.dedup.vectors.pairs import (
    Pairs,
    join_pairs,
    make_room,
    no_limit,
    sort_pairs,
    take_pairs,
)
from persona_pipeline.dedup.vectors.quantizer import (
    BLOCK,
    Columns,
    Projection,
    Usable,
    multiply_all,
    normalize,
    pad,
    to_grid,
)

_LISTS_PER_ROOT = 0.7
"""Lists, by the root of the number of vectors. At a million 0.5, 0.7 and 1 cost 36, 31 and 27
CPU-seconds to search, and with a tenth of new vectors 14, 13 and 14: fewer lists take more
comparing, more lists more placing."""
_TRAINED_PER_LIST = 64
_ROUNDS = 6
"""Rounds of k-means, on `_TRAINED_PER_LIST` vectors per list: a fifth of what training costs."""
_SAMPLED_ROWS = 2000
_RANKED_PAIRS = 100_000
"""Rows whose close pairs with all rows are searched for, and how many of these are ranked."""
_MISSED_IN = 1000
"""One close pair in so many may be missed."""
_LEAST_NPROBE = 6
"""A sample has some thousand pairs, and is lucky at times: with 4 it showed 0.9996 where 0.9978 of
all pairs of 50,000 sentences were found; with 6 it was 0.9990 to 0.9999 at the sizes measured."""

_PREFIX = 32
"""Dimensions, a multiple of 8. Neighbours are nearer than any two rows: of 1.1 billion pairs in
lists 24 dimensions propose 4.3 %, 32 propose 0.6 %, 48 propose 0.13 %; 32 cost least."""
_TILE = 256
"""Columns per tile, a multiple of 8: 32 KiB."""
_QUERIES = 4096
_ROOM = 1 << 18
"""Queries per task, and pairs that a kernel finds before it returns: 6 MiB; not below a tile."""


@dataclass(frozen=True, slots=True)
class IvfIndex:
    """Centroids, and how many of their lists are searched for each vector."""

    centroids: NDArray[np.float32]
    """(list, dimension): unit rows."""
    nprobe: int
    recall: float
    """The share of the close pairs of a sample that `nprobe` lists find."""

    def check_dimensions(self, count: int) -> None:
        """Check that vectors have as many dimensions as those the index was trained on.

        Raises:
            ValueError: they have not.
        """
        own = self.centroids.shape[1]
        if count != own:
            message = (
                f"vectors have {count} dimensions, and the index has {own}: train an index on"
                " vectors of the same model"
            )
            raise ValueError(message)


def train_ivf(vectors: NDArray[np.float32], min_cosine: float) -> IvfIndex:
    """Train an index on (row, dimension) vectors; the same vectors give the same index.

    `nprobe` is as small as finds 99.9 % of the close pairs of a sample of rows with all rows.
    """
    usable = Usable.of(vectors)
    if not len(usable.rows):
        return IvfIndex(np.eye(1, vectors.shape[1], dtype=np.float32), 1, 1.0)
    centroids = _find_centroids(usable)
    projection = Projection.build(usable, centroids)
    ranks = np.sort(_rank_pairs(usable, projection, min_cosine))
    nprobe = _LEAST_NPROBE
    if len(ranks):
        nprobe = max(nprobe, int(ranks[-1 - len(ranks) // _MISSED_IN]) + 1)
    recall = float((ranks < nprobe).mean()) if len(ranks) else 1.0
    return IvfIndex(centroids, min(nprobe, len(centroids)), recall)


def ivf_pairs(  # noqa: PLR0913
    vectors: NDArray[np.float32],
    min_cosine: float,
    index: IvfIndex,
    *,
    known: int = 0,
    early: NDArray[np.bool_] | None = None,
    threads: int = 2,
    check: Callable[[int], None] = no_limit,
) -> Pairs:
    """Return the pairs of rows with at least this cosine that the index finds.

    A pair is found if the list of one row is among the `nprobe` lists nearest to the other. That
    depends on the two vectors and the index only: not on other rows, nor on which are known.

    Memory: 450 bytes per vector and 8 per probed list, 64 bytes per pair, and 8 MiB per thread. The
    vectors are read twice in blocks, and one by one where a pair is decided: they may lie in a
    mapped file. Without main directions the prefixes propose more: the pairs are the same, the
    cost is not.

    Args:
        vectors: (row, dimension), rows of any length. A row that is zero, empty or not finite is
            in no pair.
        min_cosine: the least cosine; the caller has subtracted what rounding may take.
        index: trained at this cosine or a lower one.
        known: pairs of two of the first `known` rows are left out, and not compared.
        early: (row): pairs of two rows that are marked here are left out as well.
        threads: tasks at a time; the pairs are the same with any number.
        check: called with the number of pairs so far; may raise an error.

    Returns:
        Earlier rows (int64), later rows (int64) and cosines (float64), one of each per pair. Each
        pair comes once, sorted by the earlier row, then the later one.

    Raises:
        ValueError: the index was trained on vectors of another length.
    """
    index.check_dimensions(vectors.shape[1])
    usable = Usable.of(vectors)
    groups = (usable.rows < known).astype(np.uint8)
    if early is not None:
        groups += np.uint8(2) * early[usable.rows]
    if not len(usable.rows):
        return join_pairs([])
    projection = Projection.build(usable, index.centroids)
    search = _IvfSearch.build(usable, projection, index.nprobe, groups, min_cosine, threads)
    return sort_pairs(join_pairs(search.iter_pairs(threads, check), check), len(vectors))


def _find_centroids(usable: Usable) -> NDArray[np.float32]:
    """Find centroids by spherical k-means on a sample, in the space of its main directions."""
    basis = pad(find_directions(usable.sample()).T)
    wanted = max(1, round(_LISTS_PER_ROOT * len(usable.rows) ** 0.5))
    trained = evenly_spaced(len(usable.rows), wanted * _TRAINED_PER_LIST)
    blocks = (trained[start : start + BLOCK] for start in range(0, len(trained), BLOCK))
    points = normalize(np.concatenate([usable.project(block, basis) for block in blocks]))
    centroids = points[evenly_spaced(len(points), wanted)]
    for _ in range(_ROUNDS):
        centroids = _average(points, Columns.of(centroids).nearest(points, 1)[:, 0])
    return normalize(centroids @ basis).astype(np.float32)


def _average(points: NDArray[np.float64], lists: NDArray[np.int32]) -> NDArray[np.float64]:
    """Return the direction of each list's sum; an empty list is dropped."""
    order = np.argsort(lists, kind="stable")
    starts = np.flatnonzero(np.diff(lists[order], prepend=-1))
    return normalize(np.add.reduceat(points[order], starts, axis=0))


def _rank_pairs(usable: Usable, projection: Projection, min_cosine: float) -> NDArray[np.int64]:
    """Return, per close pair of some rows with all rows, how many lists are nearer than its list.

    Putting all rows into one list finds all pairs.
    """
    groups = np.ones(len(usable.rows), np.uint8)
    groups[evenly_spaced(len(groups), _SAMPLED_ROWS)] = 0
    one_list = replace(projection, centroids=projection.centroids[:1])
    search = _IvfSearch.build(usable, one_list, 1, groups, min_cosine, 2)
    pairs = sort_pairs(join_pairs(search.iter_pairs(2, no_limit)), len(usable.vectors.rows))
    some = evenly_spaced(len(pairs[0]), _RANKED_PAIRS)
    rows, ends = np.unique(np.stack([pairs[0][some], pairs[1][some]]), return_inverse=True)
    left, right = ends.reshape(2, -1)
    places = replace(usable, rows=rows).project(slice(None), projection.basis)
    lists = Columns.of(projection.centroids).nearest(places, 1)[:, 0]
    on_grid = to_grid(places[:, : projection.centroids.shape[1]]), to_grid(projection.centroids)
    return np.minimum(
        _rank(*on_grid, left, lists[right]),
        _rank(*on_grid, right, lists[left]),
    )


def _rank(
    places: NDArray[np.float32],
    centroids: NDArray[np.float32],
    which: NDArray[np.int64],
    lists: NDArray[np.int32],
) -> NDArray[np.int64]:
    """Return how many lists are nearer to each of these places than this list."""
    ranks = np.empty(len(which), np.int64)
    for start in range(0, len(which), BLOCK):
        block = slice(start, start + BLOCK)
        products = places[which[block]] @ centroids.T
        list_number = lists[block, None]
        own = np.take_along_axis(products, list_number, axis=1)
        is_lower_tie = (products == own) & (np.arange(len(centroids)) < list_number)
        ranks[block] = ((products > own) | is_lower_tie).sum(axis=1)
    return ranks


@dataclass(frozen=True, slots=True)
class _IvfSearch:
    """A search by short products of the vectors of each list with those that have it near."""

    usable: Usable
    arranged: "kernels.ivf.Arranged"
    ends: NDArray[np.int64]
    """(list + 1): where the places of each list end, after a zero."""
    queries: tuple[NDArray[np.int64], NDArray[np.int32]]
    """Where those of each list start, and all: places that have the list among their nearest."""
    bounds: "kernels.exact.Bounds"

    @classmethod
    def build(  # noqa: PLR0913, PLR0917
        cls,
        usable: Usable,
        projection: Projection,
        nprobe: int,
        groups: NDArray[np.uint8],
        min_cosine: float,
        threads: int,
    ) -> "_IvfSearch":
        prefixes, long_prefixes, nearest = _project(usable, projection, nprobe, threads)
        order = np.argsort(nearest[:, 0] * np.int64(4) - groups, kind="stable")
        for array in (prefixes, long_prefixes, nearest):
            _reorder(array, order)
        arranged = kernels.ivf.Arranged(
            usable.rows[order],
            nearest[:, 0].copy(),
            nearest,
            groups[order],
            prefixes,
            long_prefixes,
        )
        count = len(projection.centroids)
        ends = np.searchsorted(arranged.lists, np.arange(count + 1))
        queries = kernels.ivf.list_queries(nearest, count)
        return cls(usable, arranged, ends, queries, prefix_bounds(min_cosine, _PREFIX))

    def iter_pairs(self, threads: int, check: Callable[[int], None]) -> Iterator[Pairs]:
        """Search one list with up to `_QUERIES` queries per task."""
        starts = self.queries[0].tolist()
        tasks = [
            (list_number, slice(start, min(start + _QUERIES, starts[list_number + 1])))
            for list_number in range(len(starts) - 1)
            for start in range(starts[list_number], starts[list_number + 1], _QUERIES)
        ]
        with ThreadPoolExecutor(threads) as executor:
            yield from executor.map(lambda task: join_pairs(self._search(*task), check), tasks)

    def _search(self, list_number: int, which: slice) -> Iterator[Pairs]:
        queries = self.queries[1][which]
        matches = make_room(_ROOM)
        place, query, end = self.ends[list_number], 0, self.ends[list_number + 1]
        while place < end:
            count, place, query = kernels.ivf.search_list(
                queries,
                end,
                (place, query),
                _TILE,
                self.arranged,
                self.usable.vectors,
                self.bounds,
                matches,
            )
            yield take_pairs(matches, count)


def _project(
    usable: Usable, projection: Projection, nprobe: int, threads: int
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int32]]:
    """Return prefixes, longer prefixes and nearest lists of the usable rows."""
    columns = Columns.of(projection.centroids)
    count = len(usable.rows)
    prefixes = np.empty((count, _PREFIX), np.float32)
    long_prefixes = np.empty((count, LONG_PREFIX), np.float32)
    nearest = np.empty((count, min(nprobe, columns.count)), np.int32)

    def project(start: int) -> None:
        block = slice(start, start + BLOCK)
        coordinates = usable.project(block, projection.basis)
        nearest[block] = columns.nearest(coordinates, nprobe)
        rotated = multiply_all(coordinates, projection.rotation)
        prefixes[block] = bounded_prefix(rotated, _PREFIX)
        long_prefixes[block] = bounded_prefix(rotated, LONG_PREFIX)

    with ThreadPoolExecutor(threads) as executor:
        list(executor.map(project, range(0, count, BLOCK)))
    return prefixes, long_prefixes, nearest


def _reorder(array: NDArray[np.generic], order: NDArray[np.int64]) -> None:
    """Reorder eight columns at a time, so that no more of them are in memory twice."""
    for start in range(0, array.shape[1], 8):
        array[:, start : start + 8] = array[order, start : start + 8]
