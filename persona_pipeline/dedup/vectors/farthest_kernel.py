"""Select farthest points: the inner loops, compiled by Numba when they are first used.

Without `fastmath`: the sums of a tile's columns run side by side in vector registers, each in the
order of the dimensions, so their bits are the same on every machine.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from persona_pipeline.dedup.compiling import compiled
from persona_pipeline.dedup.vectors.exact_kernel import Floats

PICKED = np.float32(np.inf)
"""Nearer than any pick can be."""


class Tiles(NamedTuple):
    """Unit vectors as columns in tiles, and what is known of the pick nearest to each."""

    columns: Floats
    """(tile, dimension, column)"""
    rows: NDArray[np.int64]
    """(tile, column): which row it is."""
    nearest: Floats
    """(tile, column): the cosine to the nearest of the picks compared so far."""
    lowest: Floats
    """(tile): the lowest of these cosines: that of the row that may be the farthest."""
    compared: NDArray[np.int64]
    """(tile): how many picks it was compared with."""


@compiled
def _add_sums(row: Floats, tile: Floats, sums: Floats) -> None:
    a, b, c, d, e, f, g, h = row[0], row[1], row[2], row[3], row[4], row[5], row[6], row[7]
    for n in range(len(sums)):
        total = sums[n] + a * tile[0, n]
        total += b * tile[1, n]
        total += c * tile[2, n]
        total += d * tile[3, n]
        total += e * tile[4, n]
        total += f * tile[5, n]
        total += g * tile[6, n]
        sums[n] = total + h * tile[7, n]


@compiled
def _compare_picks(tiles: Tiles, tile: int, picks: Floats, count: int, sums: Floats) -> None:
    """Compare the tile's columns with the picks that it was not compared with."""
    nearest = tiles.nearest[tile]
    for pick in range(tiles.compared[tile], count):
        sums[:] = 0
        for start in range(0, picks.shape[1], 8):
            _add_sums(picks[pick, start:], tiles.columns[tile, start:], sums)
        for n in range(len(sums)):
            if sums[n] > nearest[n]:  # noqa: PLR1730 - vectorized, unlike max()
                nearest[n] = sums[n]
    tiles.compared[tile] = count
    tiles.lowest[tile] = nearest.min()


@compiled
def _find_farthest(tiles: Tiles, picks: Floats, count: int, sums: Floats) -> tuple[int, int]:
    """Return the tile and the column of the row that is the farthest from all picks."""
    while True:
        level = tiles.lowest.min()
        is_sure = True
        for tile in np.flatnonzero(tiles.lowest == level):
            if tiles.compared[tile] < count:
                _compare_picks(tiles, int(tile), picks, count, sums)
                is_sure = False
        if is_sure:
            break
    best = (-1, -1)
    for tile in np.flatnonzero(tiles.lowest == level):
        for n in np.flatnonzero(tiles.nearest[tile] == level):
            if best[0] < 0 or tiles.rows[tile, n] < tiles.rows[best]:
                best = (int(tile), int(n))
    return best


@compiled
def pick_farthest(
    tiles: Tiles, picks: Floats, rows: NDArray[np.int64], count: int, stop: int
) -> None:
    """Write the picks from number `count` up to `stop`, from those before them."""
    sums = np.empty(tiles.columns.shape[2], np.float32)
    for number in range(count, stop):
        tile, n = _find_farthest(tiles, picks, number, sums)
        rows[number] = tiles.rows[tile, n]
        picks[number] = tiles.columns[tile, :, n]
        tiles.nearest[tile, n] = PICKED
        tiles.lowest[tile] = tiles.nearest[tile].min()
