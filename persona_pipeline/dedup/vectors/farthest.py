"""Select a diverse subset: greedy farthest points by cosine distance (Gonzalez, 1985)."""

import hashlib

import numpy as np
from numpy.typing import NDArray

from persona_pipeline.dedup import kernels

_TILE = 256
"""Columns per tile: a tile of 384 dimensions takes 384 KiB, and stays in the L2 cache."""
_SORTED_AT = (16, 128, 1024)
"""Picks after which rows are sorted by how near their nearest pick is, so that tiles of near rows
stay untouched."""


def farthest_points(vectors: NDArray[np.float32], count: int, *, seed: int) -> NDArray[np.int64]:
    """Return up to `count` rows (int64), each the farthest from those before it.

    The first is drawn by a hash of the seed. A tie goes to the lower row. Rows that are zero, empty
    or not finite are never picked; where there are fewer than `count` others, all are.

    Distances are float32 sums of products of unit vectors, in the order of the dimensions: the
    picks are the same on every machine, and exact for these distances.

    A row's nearest pick can only come nearer, so only rows that may be the farthest are compared
    with later picks. Measured for 2,000 of 200,000 vectors of 384 dimensions: 6.6 CPU-seconds; with
    a product of all vectors per pick 50. Takes one copy of the vectors, two for a moment.
    """
    rows = np.ascontiguousarray(vectors, dtype=np.float32)
    kernels.expect(rows.size)
    lengths = kernels.exact.squares(rows)
    usable = np.flatnonzero(np.isfinite(lengths) & (lengths > 0))
    count = min(count, len(usable))
    if count <= 0:
        return np.empty(0, np.int64)
    selected = np.empty(count, np.int64)
    selected[0] = usable[_draw(seed, len(usable))]
    picks = np.zeros((count, -(-rows.shape[1] // 8) * 8), np.float32)
    picks[0, : rows.shape[1]] = _to_units(rows, lengths, selected[:1])[0]
    nearest = np.where(usable == selected[0], kernels.farthest.PICKED, np.float32(-2))
    tiles = _cut_tiles(rows, lengths, usable, nearest, np.zeros(len(usable), np.int64))
    done = 1
    for stop in (*(at for at in _SORTED_AT if at < count), count):
        if done > 1:
            tiles = _sort_tiles(rows, lengths, tiles)
        kernels.farthest.pick_farthest(tiles, picks, selected, done, stop)
        done = stop
    return selected


def _draw(seed: int, count: int) -> int:
    return int.from_bytes(hashlib.sha256(str(seed).encode()).digest()) % count


def _to_units(
    rows: NDArray[np.float32], lengths: NDArray[np.float64], which: NDArray[np.int64]
) -> NDArray[np.float32]:
    units: NDArray[np.float64] = rows[which] / np.sqrt(lengths[which])[:, None]
    return units.astype(np.float32)


def _sort_tiles(
    rows: NDArray[np.float32], lengths: NDArray[np.float64], tiles: "kernels.farthest.Tiles"
) -> "kernels.farthest.Tiles":
    compared = np.repeat(tiles.compared, _TILE)
    order = np.argsort(tiles.nearest.ravel(), kind="stable")
    order = order[tiles.rows.ravel()[order] >= 0]
    which, nearest = tiles.rows.ravel()[order], tiles.nearest.ravel()[order]
    return _cut_tiles(rows, lengths, which, nearest, compared[order])


def _cut_tiles(
    rows: NDArray[np.float32],
    lengths: NDArray[np.float64],
    which: NDArray[np.int64],
    nearest: NDArray[np.float32],
    compared: NDArray[np.int64],
) -> "kernels.farthest.Tiles":
    """Cut these rows into tiles in this order; what cannot be picked fills up the last."""
    count = -(-len(which) // _TILE)
    missing = count * _TILE - len(which)
    columns = np.zeros((count, -(-rows.shape[1] // 8) * 8, _TILE), np.float32)
    for tile in range(count):
        units = _to_units(rows, lengths, which[tile * _TILE : (tile + 1) * _TILE])
        columns[tile, : units.shape[1], : len(units)] = units.T
    shape = (count, _TILE)
    near = np.pad(nearest, (0, missing), constant_values=kernels.farthest.PICKED).reshape(shape)
    seen = np.pad(compared, (0, missing), mode="edge").reshape(shape)
    padded = np.pad(which, (0, missing), constant_values=-1).reshape(shape)
    return kernels.farthest.Tiles(columns, padded, near, near.min(axis=1), seen.min(axis=1))
