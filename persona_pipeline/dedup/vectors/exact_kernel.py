"""Search for close vectors: the inner loops, compiled by Numba when they are first used.

Products that only propose pairs are compiled with `fastmath`, so that sums run in vector registers.
The bound they are compared with allows for any order of a sum. What decides is compiled without it,
so its bits are the same on every machine.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from persona_pipeline.dedup.compiling import compiled, proposing

Floats = NDArray[np.float32]


class Vectors(NamedTuple):
    """What decides: (row, dimension) vectors of any length, and the squared length of each row."""

    rows: Floats
    lengths: NDArray[np.float64]


class Prefixes(NamedTuple):
    """What proposes: unit rows whose product is never below the cosine of the vectors."""

    rows: Floats
    columns: Floats
    """(tile, dimension, column): the same from row `first` on, as columns."""
    first: int
    long_prefixes: Floats
    """(row, dimension): more dimensions, for the pairs that `rows` propose."""


class PairBuffer(NamedTuple):
    """Room for pairs, one place in each array per pair."""

    earlier: NDArray[np.int64]
    later: NDArray[np.int64]
    cosines: NDArray[np.float64]


class Bounds(NamedTuple):
    """What a pair must reach: the product of prefixes, of longer ones, the cosine."""

    prefix: np.float32
    long_prefix: np.float32
    cosine: float


@compiled
def dot(left: Floats, right: Floats) -> float:
    """Return the float64 sum of the products, in eight sums of every eighth one, in a fixed order.

    A single sum would wait for each addition: 350 ns at 384 dimensions, this way 190.
    """
    a = b = c = d = e = f = g = h = 0.0
    whole = len(left) - len(left) % 8
    for n in range(0, whole, 8):
        a += np.float64(left[n]) * np.float64(right[n])
        b += np.float64(left[n + 1]) * np.float64(right[n + 1])
        c += np.float64(left[n + 2]) * np.float64(right[n + 2])
        d += np.float64(left[n + 3]) * np.float64(right[n + 3])
        e += np.float64(left[n + 4]) * np.float64(right[n + 4])
        f += np.float64(left[n + 5]) * np.float64(right[n + 5])
        g += np.float64(left[n + 6]) * np.float64(right[n + 6])
        h += np.float64(left[n + 7]) * np.float64(right[n + 7])
    for n in range(whole, len(left)):
        a += np.float64(left[n]) * np.float64(right[n])
    return ((a + b) + (c + d)) + ((e + f) + (g + h))


@compiled
def squares(vectors: Floats) -> NDArray[np.float64]:
    """Return the squared length of each row. No square of a float32 number leaves float64."""
    lengths = np.empty(len(vectors), np.float64)
    for n in range(len(vectors)):
        lengths[n] = dot(vectors[n], vectors[n])
    return lengths


@proposing
def dot_fast(left: Floats, right: Floats) -> float:
    """Return the sum of the products, in float32 and any order."""
    total = np.float32(0)
    for n in range(len(left)):
        total += left[n] * right[n]
    return float(total)


@proposing
def _start_sums(row: Floats, tile: Floats, width: int, sums: Floats) -> None:
    """Multiply eight dimensions of a row with all columns: eight factors stay in registers."""
    a, b, c, d, e, f, g, h = row[0], row[1], row[2], row[3], row[4], row[5], row[6], row[7]
    for n in range(width):
        sums[n] = (
            a * tile[0, n]
            + b * tile[1, n]
            + c * tile[2, n]
            + d * tile[3, n]
            + e * tile[4, n]
            + f * tile[5, n]
            + g * tile[6, n]
            + h * tile[7, n]
        )


@proposing
def _add_sums(row: Floats, tile: Floats, width: int, sums: Floats) -> None:
    a, b, c, d, e, f, g, h = row[0], row[1], row[2], row[3], row[4], row[5], row[6], row[7]
    for n in range(width):
        sums[n] += (
            a * tile[0, n]
            + b * tile[1, n]
            + c * tile[2, n]
            + d * tile[3, n]
            + e * tile[4, n]
            + f * tile[5, n]
            + g * tile[6, n]
            + h * tile[7, n]
        )


@proposing
def flag_sums(sums: Floats, width: int, bound: np.float32, flags: NDArray[np.uint8]) -> int:
    """Mark what reaches the bound, and count it: a count, unlike a maximum, is vectorized."""
    matches = np.int32(0)
    for n in range(width):
        reaches = sums[n] >= bound
        flags[n] = reaches
        matches += np.int32(reaches)
    return int(matches)


@compiled
def propose(
    row: Floats, tile: Floats, width: int, bound: np.float32, sums: Floats, flags: NDArray[np.uint8]
) -> int:
    """Mark the columns whose product with the row reaches the bound, and count them."""
    _start_sums(row, tile, width, sums)
    for start in range(8, len(row), 8):
        _add_sums(row[start:], tile[start:], width, sums)
    return flag_sums(sums, width, bound, flags)


@compiled
def decide(
    vectors: Vectors, matches: PairBuffer, count: int, pair: tuple[int, int], min_cosine: float
) -> int:
    """Add the pair if it is close, and return the number of pairs then.

    It divides by the root of the product, not the product of the roots: so equal rows have a cosine
    of exactly 1.
    """
    i, j = pair
    lengths = vectors.lengths[i] * vectors.lengths[j]
    cosine = min(dot(vectors.rows[i], vectors.rows[j]) / np.sqrt(lengths), 1.0)
    if cosine < min_cosine:
        return count
    matches.earlier[count], matches.later[count], matches.cosines[count] = i, j, cosine
    return count + 1


@compiled
def next_flag(flags: NDArray[np.uint8], words: NDArray[np.uint64], start: int) -> int:
    """Return where the next mark is; eight empty places are passed at a time."""
    n = start
    while n < len(flags):
        if n % 8 == 0 and words[n // 8] == 0:
            n += 8
        elif flags[n] == 0:
            n += 1
        else:
            return n
    return n


@compiled
def search_prefixes(
    rows: tuple[int, int],
    tile: int,
    prefixes: Prefixes,
    vectors: Vectors,
    bounds: Bounds,
    matches: PairBuffer,
) -> tuple[int, int]:
    """Find pairs of the rows (from, to) with the columns from this tile on, while there is room.

    Returns the number of pairs and the tile to go on with.
    """
    size = prefixes.columns.shape[2]
    sums = np.empty(size, np.float32)
    flags = np.zeros(size, np.uint8)
    words = flags.view(np.uint64)
    count = 0
    for number in range(tile, len(prefixes.columns)):
        if count + (rows[1] - rows[0]) * size > len(matches.earlier):
            return count, number
        start = prefixes.first + number * size
        width = min(size, len(vectors.rows) - start)
        flags[width:] = 0
        columns = prefixes.columns[number]
        for i in range(rows[0], min(rows[1], start + width)):
            if propose(prefixes.rows[i], columns, width, bounds.prefix, sums, flags) == 0:
                continue
            n = next_flag(flags, words, max(0, i + 1 - start))
            while n < width:
                product = dot_fast(prefixes.long_prefixes[i], prefixes.long_prefixes[start + n])
                if product >= bounds.long_prefix:
                    count = decide(vectors, matches, count, (i, start + n), bounds.cosine)
                n = next_flag(flags, words, n + 1)
    return count, len(prefixes.columns)


@compiled
def search_products(
    products: Floats, corner: tuple[int, int], vectors: Vectors, bounds: Bounds, matches: PairBuffer
) -> int:
    """Find pairs among the products of two blocks of vectors, which start at (row, column).

    Returns the number of pairs.
    """
    width = products.shape[1]
    flags = np.zeros((width + 7) // 8 * 8, np.uint8)
    words = flags.view(np.uint64)
    count = 0
    for row in range(len(products)):
        i = corner[0] + row
        if flag_sums(products[row], width, bounds.prefix, flags) == 0:
            continue
        n = next_flag(flags, words, max(0, i + 1 - corner[1]))
        while n < width:
            count = decide(vectors, matches, count, (i, corner[1] + n), bounds.cosine)
            n = next_flag(flags, words, n + 1)
    return count
