"""Search an IVF index: the inner loops, compiled by Numba when they are first used."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from persona_pipeline.dedup.compiling import compiled, proposing
from persona_pipeline.dedup.vectors.exact_kernel import (
    Bounds,
    Floats,
    PairBuffer,
    Vectors,
    decide,
    dot,
    dot_fast,
    next_flag,
    propose,
)

Ints = NDArray[np.int32]
Doubles = NDArray[np.float64]

_TOGETHER = 32
"""Rows multiplied at a time: at 384 dimensions 48 KiB, which stay near while columns pass."""


class Arranged(NamedTuple):
    """Vectors in the order of their lists; a place is a position in this order."""

    rows: NDArray[np.int64]
    """The row of each place."""
    lists: Ints
    """The list of each place."""
    nearest: Ints
    """(place, nprobe): the nearest lists, its own first."""
    groups: NDArray[np.uint8]
    """Pairs of two places with a common bit are left out. Each list is sorted by it."""
    prefixes: Floats
    long_prefixes: Floats


@compiled
def multiply(rows: Floats | Doubles, columns: Doubles, products: Doubles) -> None:
    """Write the float64 products of all rows with all columns, which are a multiple of four.

    As fast as BLAS, whose threads and ours would wait for each other.
    """
    for start in range(0, len(rows), _TOGETHER):
        end = min(start + _TOGETHER, len(rows))
        for column in range(0, len(columns), 4):
            for row in range(start, end, 2):
                _multiply_some(rows, columns, products, row, min(row + 1, end - 1), column)


@proposing
def _multiply_some(
    rows: Floats | Doubles,
    columns: Doubles,
    products: Doubles,
    row: int,
    next_row: int,
    column: int,
) -> None:
    """Multiply two rows with four columns: eight sums stay in registers."""
    a = b = c = d = e = f = g = h = 0.0
    for n in range(rows.shape[1]):
        x, y = np.float64(rows[row, n]), np.float64(rows[next_row, n])
        a += x * columns[column, n]
        b += x * columns[column + 1, n]
        c += x * columns[column + 2, n]
        d += x * columns[column + 3, n]
        e += y * columns[column, n]
        f += y * columns[column + 1, n]
        g += y * columns[column + 2, n]
        h += y * columns[column + 3, n]
    products[row, column], products[row, column + 1] = a, b
    products[row, column + 2], products[row, column + 3] = c, d
    products[next_row, column], products[next_row, column + 1] = e, f
    products[next_row, column + 2], products[next_row, column + 3] = g, h


@compiled
def choose_nearest(rows: Floats, tiles: Floats, count: int, nearest: Ints) -> None:
    """Write, per row, the columns with the greatest products, greatest first, ties to the lower.

    There are `count` columns, in tiles (tile, dimension, column). Rows and columns are on a grid
    on which a sum of products has no rounding: in any order, it is the same number.
    """
    last, size = nearest.shape[1] - 1, tiles.shape[2]
    best = np.full(nearest.shape, np.float32(-4))
    sums = np.empty(size, np.float32)
    flags = np.empty(size, np.uint8)
    for number in range(len(tiles)):
        start = number * size
        width = min(size, count - start)
        for row in range(len(rows)):
            if propose(rows[row], tiles[number], width, best[row, last], sums, flags) == 0:
                continue
            for n in range(width):
                if sums[n] > best[row, last]:
                    _insert(best[row], nearest[row], sums[n], start + n)


@compiled
def _insert(best: Floats, nearest: Ints, product: np.float32, column: int) -> None:
    place = len(best) - 1
    while place > 0 and best[place - 1] < product:
        best[place], nearest[place] = best[place - 1], nearest[place - 1]
        place -= 1
    best[place], nearest[place] = product, column


@compiled
def list_queries(nearest: Ints, lists: int) -> tuple[NDArray[np.int64], Ints]:
    """Return the places that have each list among their nearest: where they start, and all."""
    starts = np.zeros(lists + 1, np.int64)
    for place in range(len(nearest)):
        for list_number in nearest[place]:
            starts[list_number + 1] += 1
    for list_number in range(lists):
        starts[list_number + 1] += starts[list_number]
    ends = starts[:-1].copy()
    places = np.empty(starts[lists], np.int32)
    for place in range(len(nearest)):
        for list_number in nearest[place]:
            places[ends[list_number]] = place
            ends[list_number] += 1
    return starts, places


@compiled
def span(points: Floats, most: int, least: float) -> NDArray[np.float64]:
    """Return up to `most` orthonormal rows that span the points.

    Each one is along the longest remainder, until none has the length `least`. In plain loops: the
    bits are the same on every machine.
    """
    rest = points.astype(np.float64)
    matches = np.empty((most, points.shape[1]))
    for count in range(most):
        best, length = 0, -1.0
        for n in range(len(rest)):
            square = dot(rest[n], rest[n])
            if square > length:
                best, length = n, square
        if length < least * least:
            return matches[:count]
        direction = rest[best] / np.sqrt(length)
        for _ in range(2):
            for n in range(count):
                direction -= dot(direction, matches[n]) * matches[n]
            direction /= np.sqrt(dot(direction, direction))
        matches[count] = direction
        for n in range(len(rest)):
            rest[n] -= dot(rest[n], direction) * direction
    return matches


@compiled
def _end_tile(arranged: Arranged, start: int, end: int, size: int) -> int:
    """Return where the tile ends: it has places of one group only."""
    stop = start + 1
    while stop < min(end, start + size) and arranged.groups[stop] == arranged.groups[start]:
        stop += 1
    return stop


@compiled
def _is_in_later_list(arranged: Arranged, query: int, place: int) -> bool:
    """Return whether the query's own list, which comes later, has the pair as well."""
    list_number = arranged.lists[query]
    if list_number < arranged.lists[place]:
        return False
    return bool(np.any(arranged.nearest[place] == list_number))


@compiled
def _verify(
    arranged: Arranged,
    vectors: Vectors,
    bounds: Bounds,
    matches: PairBuffer,
    count: int,
    ends: tuple[int, int],
) -> int:
    """Add the proposed pair if it is close and in no later list; return the number of pairs."""
    query, place = ends
    is_own = arranged.lists[query] == arranged.lists[place]
    product = dot_fast(arranged.long_prefixes[query], arranged.long_prefixes[place])
    if product < bounds.long_prefix or (not is_own and _is_in_later_list(arranged, query, place)):
        return count
    one, other = arranged.rows[query], arranged.rows[place]
    return decide(vectors, matches, count, (min(one, other), max(one, other)), bounds.cosine)


@compiled
def _common_groups(queries: Ints, arranged: Arranged) -> np.uint8:
    """Return the groups (a bit each) that all queries are in."""
    common = np.uint8(255)
    for query in queries:
        common &= arranged.groups[query]
    return common


@compiled
def search_list(
    queries: Ints,
    end: int,
    resumed: tuple[int, int],
    size: int,
    arranged: Arranged,
    vectors: Vectors,
    bounds: Bounds,
    matches: PairBuffer,
) -> tuple[int, int, int]:
    """Find pairs of the queries with the places of one list, up to this end, while there is room.

    Starts at `resumed`, a place of the list and a number of a query. Returns the number of pairs,
    and the place and the query to go on with.
    """
    sums = np.empty(size, np.float32)
    flags = np.zeros(size, np.uint8)
    words = flags.view(np.uint64)
    tile = np.empty((arranged.prefixes.shape[1], size), np.float32)
    count = 0
    start, next_query = resumed
    in_all = _common_groups(queries, arranged)
    while start < end:
        width = _end_tile(arranged, start, end, size) - start
        if in_all & arranged.groups[start]:
            start += width
            continue
        for n in range(width):
            tile[:, n] = arranged.prefixes[start + n]
        flags[width:] = 0
        for number in range(next_query, len(queries)):
            query = queries[number]
            if arranged.groups[query] & arranged.groups[start]:
                continue
            is_own = arranged.lists[query] == arranged.lists[start]
            first = max(0, query + 1 - start) if is_own else 0
            if first >= width:
                continue
            if count + width > len(matches.earlier):
                return count, start, number
            if propose(arranged.prefixes[query], tile, width, bounds.prefix, sums, flags) == 0:
                continue
            n = next_flag(flags, words, first)
            while n < width:
                ends = (query, start + n)
                count = _verify(arranged, vectors, bounds, matches, count, ends)
                n = next_flag(flags, words, n + 1)
        start, next_query = start + width, 0
    return count, end, 0
