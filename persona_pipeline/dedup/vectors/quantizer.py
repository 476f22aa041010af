"""Assign vectors to their nearest centroids: the same ones, whatever else is assigned with them.

Coordinates along the directions that the centroids span are rounded to a grid of 2**-11. On it, a
float32 sum of products of two unit vectors is exact, since all its steps are multiples of 2**-22
below 2: neither its order nor what else is multiplied at the same time can show. The coordinates
themselves are float64 sums. Another processor may add them in another order, which moves one in
some billions to the next point of the grid.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from persona_pipeline.dedup import kernels
from persona_pipeline.dedup.vectors.bounds import (
    BASIS_SAMPLE,
    LONG_PREFIX,
    cut_tiles,
    evenly_spaced,
    find_directions,
    to_units,
)

BLOCK = 1024
"""Rows placed at a time: at 384 dimensions 1.5 MiB, which stay near the core."""
_TILE = 128
"""Centroids per tile: 32 KiB."""
_GRID = 2048.0
_LEAST_REMAINDER = 1e-3
"""A length far above what float32 leaves of centroids in one space, far below what counts."""


@dataclass(frozen=True, slots=True)
class Usable:
    """The rows that have a direction. The vectors stay where they are, perhaps in a file."""

    vectors: "kernels.exact.Vectors"
    rows: NDArray[np.int64]

    @classmethod
    def of(cls, vectors: NDArray[np.float32]) -> "Usable":
        """Find the usable rows: reads all vectors once."""
        rows = np.ascontiguousarray(vectors, dtype=np.float32).view()
        rows.flags.writeable = False  # as a read-only file is: numba compiles for one kind only
        kernels.expect(rows.size)
        lengths = kernels.exact.squares(rows)
        return cls(
            kernels.exact.Vectors(rows, lengths),
            np.flatnonzero(np.isfinite(lengths) & (lengths > 0)),
        )

    def sample(self) -> NDArray[np.float64]:
        """Return up to `BASIS_SAMPLE` unit vectors from all over the rows."""
        return to_units(self.vectors, self.rows[evenly_spaced(len(self.rows), BASIS_SAMPLE)])

    def project(
        self, which: NDArray[np.int64] | slice, basis: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Return coordinates of these rows as unit vectors, along the rows of a basis."""
        rows = self.rows[which]
        lengths: NDArray[np.float64] = np.sqrt(self.vectors.lengths[rows])[:, None]
        coordinates: NDArray[np.float64] = multiply_all(self.vectors.rows[rows], basis) / lengths
        return coordinates


@dataclass(frozen=True, slots=True)
class Projection:
    """Coordinates that serve twice: the first ones place a vector, all make its prefixes."""

    basis: NDArray[np.float64]
    """`LONG_PREFIX` rows: orthonormal ones, of which the first span the centroids, then zeros."""
    rotation: NDArray[np.float64]
    """From the basis to the principal directions of the vectors in it."""
    centroids: NDArray[np.float64]
    """(list, coordinate): the centroids along the basis."""

    @classmethod
    def build(cls, usable: Usable, centroids: NDArray[np.float32]) -> "Projection":
        """Build a projection whose first directions depend on the centroids only."""
        most = min(LONG_PREFIX - 1, centroids.shape[1])
        centroids = np.array(centroids, np.float32)
        spanning = kernels.ivf.span(centroids, most, _LEAST_REMAINDER)
        sample = usable.sample()
        basis = pad(_complete(spanning, most, sample))
        projected = sample @ basis.T
        rotation = np.linalg.eigh(projected.T @ projected)[1].T[::-1]
        width = len(spanning) + -len(spanning) % 8
        coordinates = normalize(multiply_all(centroids, pad(spanning, width)))
        return cls(basis, np.ascontiguousarray(rotation), coordinates)


@dataclass(frozen=True, slots=True)
class Columns:
    """Centroids on the grid, as columns in tiles."""

    count: int
    tiles: NDArray[np.float32]

    @classmethod
    def of(cls, coordinates: NDArray[np.float64]) -> "Columns":
        """Round coordinates (list, coordinate) to the grid, and cut them into tiles."""
        return cls(len(coordinates), cut_tiles(to_grid(coordinates), _TILE))

    def nearest(self, coordinates: NDArray[np.float64], count: int) -> NDArray[np.int32]:
        """Return the `count` nearest lists of each row, nearest first, ties to the lower number."""
        nearest = np.empty((len(coordinates), min(count, self.count)), np.int32)
        used = coordinates[:, : self.tiles.shape[1]]
        kernels.ivf.choose_nearest(to_grid(used), self.tiles, self.count, nearest)
        return nearest


def to_grid(coordinates: NDArray[np.float64]) -> NDArray[np.float32]:
    """Round so far that sums of products are exact."""
    return (np.round(coordinates * _GRID) / _GRID).astype(np.float32)


def normalize(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Divide each row by its length; what is as good as zero stays short."""
    lengths: NDArray[np.float64] = np.sqrt((rows * rows).sum(axis=1))
    normalized: NDArray[np.float64] = rows / np.maximum(lengths, 1e-9)[:, None]
    return normalized


def pad(basis: NDArray[np.float64], count: int = LONG_PREFIX) -> NDArray[np.float64]:
    """Fill up with zero rows, to `count` rows."""
    return np.pad(basis, ((0, count - len(basis)), (0, 0)))


def multiply_all(
    rows: NDArray[np.float32] | NDArray[np.float64], columns: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the product of each row with each column; `columns` has them as rows."""
    products = np.empty((len(rows), len(columns)))
    kernels.ivf.multiply(rows, columns, products)
    return products


def _complete(
    spanning: NDArray[np.float64], most: int, sample: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Add orthogonal directions along what these leave of the sample, up to `most`."""
    more = most - len(spanning)
    if not more:
        return spanning
    rest = sample - (sample @ spanning.T) @ spanning
    both = np.column_stack([spanning.T, find_directions(rest, more)])
    return np.concatenate([spanning, np.linalg.qr(both)[0].T[len(spanning) :]])
