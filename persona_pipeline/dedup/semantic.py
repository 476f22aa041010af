"""The semantic layer: personas that mean nearly the same, by an exact search of all pairs.

Three steps, each exact. Unit vectors x and y are split along an orthonormal basis of a few
dimensions: p and q inside it, remainders of the lengths r and s outside it. Then

    cos(x, y) <= p . q + r s                                          (Cauchy-Schwarz)

so the products of the short vectors (p, r) propose, in float32, whatever the basis; the principal
directions propose the least. Longer prefixes thin out what is proposed, and a float64 sum over the
whole row decides. That sum depends on the two vectors only: not on blocks, threads or other rows.

Measured with 50,000 embeddings of sentences (384 dimensions, 77,550 pairs from 0.9 on), all of them
found, in CPU-seconds: this search 1.6, faiss IVFFlat with 16 of 1,000 cells 7.2, the plain product
in NumPy 13, faiss IndexFlatIP 20. The cost grows with the square of the number.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from persona_pipeline.dedup.semantic_kernel import Bounds, Found, Prefixes, Vectors

_Number = TypeVar("_Number", np.int64, np.float64)
_Pairs = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]

_ROWS = 1024
"""Rows a task: their prefixes take 96 KiB, and stay in the L2 cache while the tiles pass."""
_TILE = 256
"""Columns a tile, a multiple of 8: at 24 dimensions 24 KiB, which stay in the L1 cache."""
_PRODUCT_ROWS, _PRODUCT_COLUMNS = 512, 1024
"""A block of whole products takes 2 MiB."""
_PROJECTED = 4096
"""Rows projected at a time, in float64."""

_PREFIX_FROM = 2048
"""Vectors from which on a basis pays; below, all products take less than its 50 ms."""
_PREFIXES = (16, 24, 32, 48)
"""Dimensions, multiples of 8. Of 1.25 billion pairs of sentences, 16 propose 36 million at 0.9,
24 propose 3.1, 32 propose 0.5."""
_LONGER = 64
"""Leaves 0.13 million of these, of which 0.08 are close."""
_BASIS_SAMPLE = 4096
_BASIS_ROUNDS = 3
_PAIR_SAMPLE = 2560
_LEFT_EVERY = 5
"""One in five of the sample is compared with the others: a million pairs."""

_DIMENSION_NS = 0.03
_PRODUCT_NS = 0.025
_CANDIDATE_NS = 20
_DECISION_NS = 0.5
"""Measured on one core: a dimension of a prefix, of a whole product (BLAS), a longer prefix, and a
dimension of the sum that decides. They choose between ways to the same pairs."""

_STEP = float(np.finfo(np.float32).eps)


def similar_pairs(
    vectors: NDArray[np.float32], min_cosine: float, *, known: int = 0, threads: int = 2
) -> _Pairs:
    """All pairs of rows with at least this cosine: earlier rows, later rows, cosines.

    Each pair once, earlier < later, sorted. A row that is zero, empty or not finite is in no pair.
    The search is by range: a top-k would cut dense clusters. Memory: twice the pairs, 500 bytes a
    vector (with whole products, a copy of the vectors), and 12 MiB a thread.

    Args:
        vectors: one row each, of any length.
        min_cosine: from where on; the caller has subtracted what rounding may take.
        known: pairs of two of the first `known` rows are left out, and cost nothing.
        threads: tasks at a time; the pairs are the same with any number.
    """
    from persona_pipeline.dedup.semantic_kernel import Vectors, squares  # noqa: PLC0415 - numba

    rows = np.ascontiguousarray(vectors, dtype=np.float32)
    lengths = squares(rows)
    usable = np.flatnonzero(np.isfinite(lengths) & (lengths > 0))
    known = int(np.searchsorted(usable, known))
    if len(usable) < len(rows):
        rows, lengths = rows[usable], lengths[usable]
    search = _choose_search(Vectors(rows, lengths), min_cosine, known)
    earlier, later, cosines = _join(search.iter_pairs(threads))
    if len(usable) == len(vectors):
        return earlier, later, cosines
    return usable[earlier], usable[later], cosines


def _choose_search(
    vectors: "Vectors", min_cosine: float, known: int
) -> "_PrefixSearch | _ProductSearch":
    """Prefixes, where a sample of pairs says that they cost less than whole products."""
    if len(vectors.rows) >= _PREFIX_FROM:
        basis = _find_directions(vectors)
        dimensions = _choose_dimensions(vectors, basis, min_cosine)
        if dimensions:
            return _PrefixSearch.build(vectors, basis, dimensions, min_cosine, known)
    return _ProductSearch.build(vectors, min_cosine, known)


def _find_directions(vectors: "Vectors") -> NDArray[np.float64]:
    """Orthonormal columns near the principal directions, by subspace iteration on a sample.

    Zero columns fill up where vectors have fewer dimensions. A full eigendecomposition takes as
    long at 384 dimensions, but seconds at 3,072.
    """
    sample = _to_units(vectors, _spread(len(vectors.rows), _BASIS_SAMPLE))
    width = min(_LONGER - 1, sample.shape[1])
    basis = np.random.default_rng(0).standard_normal((sample.shape[1], width))
    for _ in range(_BASIS_ROUNDS):
        basis = np.linalg.qr(sample.T @ (sample @ basis))[0]
    projected = sample @ basis
    ascending = np.linalg.eigh(projected.T @ projected)[1]
    return np.pad(basis @ ascending[:, ::-1], ((0, 0), (0, _LONGER - 1 - width)))


def _choose_dimensions(
    vectors: "Vectors", basis: NDArray[np.float64], min_cosine: float
) -> int | None:
    """The length of prefix that costs least by a sample of pairs; None: whole products do."""
    places = _spread(len(vectors.rows), _PAIR_SAMPLE)
    is_left = np.arange(len(places)) % _LEFT_EVERY == 0
    units = _to_units(vectors, places)
    projected = units @ basis

    def share(shortened: NDArray[np.floating]) -> float:
        return float((shortened[is_left] @ shortened[~is_left].T >= min_cosine).mean())

    costs = {
        dimensions: dimensions * _DIMENSION_NS
        + share(_shorten(projected, dimensions)) * _CANDIDATE_NS
        for dimensions in _PREFIXES
    }
    best = min(costs, key=costs.__getitem__)
    wrong = share(_shorten(projected, _LONGER)) - share(units)
    size = units.shape[1]
    return best if costs[best] + wrong * size * _DECISION_NS < size * _PRODUCT_NS else None


def _spread(count: int, wanted: int) -> NDArray[np.int64]:
    """Places all over the rows, each once: the same sample on every machine."""
    return np.linspace(0, count, min(count, wanted), endpoint=False).astype(np.int64)


def _to_units(vectors: "Vectors", rows: NDArray[np.int64] | slice) -> NDArray[np.float64]:
    units: NDArray[np.float64] = vectors.rows[rows] / np.sqrt(vectors.lengths[rows])[:, None]
    return units


def _shorten(projected: NDArray[np.float64], dimensions: int) -> NDArray[np.float32]:
    """The first coordinates, and the length of what they leave: again unit vectors.

    The length is never below the true one: what float64 may lose of its square is added.
    """
    prefix = projected[:, : dimensions - 1]
    left = np.maximum(1 - (prefix * prefix).sum(axis=1), 0) + 1e-9
    return np.column_stack([prefix, np.sqrt(left)]).astype(np.float32)


def _bound(min_cosine: float, dimensions: int) -> np.float32:
    """What the float32 product of two unit vectors reaches if the true one reaches the cosine.

    With u = 2**-24, rounding two unit vectors changes their product by 2u at most (Cauchy-Schwarz),
    and a sum of n products in any order, fused or not, is off by n u (1 + n u) sum |x_i y_i| at
    most (Higham, Accuracy and Stability, 3.1), which is n u. The float64 steps before add 1e-9,
    the rounding of the bound u. Together less than (n + 4) u, and `_STEP` is 2u.
    """
    return np.float32(min_cosine - (dimensions + 4) * _STEP)


@dataclass(frozen=True, slots=True)
class _PrefixSearch:
    """Short products in tiles, from the diagonal on."""

    vectors: "Vectors"
    prefixes: "Prefixes"
    bounds: "Bounds"

    @classmethod
    def build(
        cls,
        vectors: "Vectors",
        basis: NDArray[np.float64],
        dimensions: int,
        min_cosine: float,
        known: int,
    ) -> "_PrefixSearch":
        from persona_pipeline.dedup.semantic_kernel import Bounds, Prefixes  # noqa: PLC0415

        count = len(vectors.rows)
        rows = np.empty((count, dimensions), np.float32)
        longer = np.empty((count, _LONGER), np.float32)
        for start in range(0, count, _PROJECTED):
            block = slice(start, start + _PROJECTED)
            projected = _to_units(vectors, block) @ basis
            rows[block] = _shorten(projected, dimensions)
            longer[block] = _shorten(projected, _LONGER)
        bounds = Bounds(_bound(min_cosine, dimensions), _bound(min_cosine, _LONGER), min_cosine)
        return cls(vectors, Prefixes(rows, _cut_tiles(rows[known:]), known, longer), bounds)

    def iter_pairs(self, threads: int) -> Iterator[_Pairs]:
        """Tasks of some rows each, in order."""
        with ThreadPoolExecutor(threads) as executor:
            yield from executor.map(self._search_rows, range(0, len(self.vectors.rows), _ROWS))

    def _search_rows(self, first: int) -> _Pairs:
        from persona_pipeline.dedup.semantic_kernel import search_prefixes  # noqa: PLC0415

        rows = (first, min(first + _ROWS, len(self.vectors.rows)))
        found = _make_room(2 * _ROWS * _TILE)
        tile = max(0, first + 1 - self.prefixes.first) // _TILE
        parts = []
        while tile < len(self.prefixes.columns):
            count, tile = search_prefixes(
                rows, tile, self.prefixes, self.vectors, self.bounds, found
            )
            parts.append(_take(found, count))
        return _sort(parts, len(self.vectors.rows))


@dataclass(frozen=True, slots=True)
class _ProductSearch:
    """Whole products in blocks, from the diagonal on: for few vectors, or without main directions.

    BLAS brings its own threads.
    """

    vectors: "Vectors"
    units: NDArray[np.float32]
    known: int
    bounds: "Bounds"

    @classmethod
    def build(cls, vectors: "Vectors", min_cosine: float, known: int) -> "_ProductSearch":
        from persona_pipeline.dedup.semantic_kernel import Bounds  # noqa: PLC0415

        units = np.empty_like(vectors.rows)
        for start in range(0, len(units), _PROJECTED):
            block = slice(start, start + _PROJECTED)
            units[block] = _to_units(vectors, block)
        bound = _bound(min_cosine, units.shape[1])
        return cls(vectors, units, known, Bounds(bound, bound, min_cosine))

    def iter_pairs(self, threads: int) -> Iterator[_Pairs]:
        """Some rows at a time, in order."""
        del threads
        yield from map(self._search_rows, range(0, len(self.units), _PRODUCT_ROWS))

    def _search_rows(self, first: int) -> _Pairs:
        from persona_pipeline.dedup.semantic_kernel import search_products  # noqa: PLC0415

        rows = self.units[first : first + _PRODUCT_ROWS]
        found = _make_room(_PRODUCT_ROWS * _PRODUCT_COLUMNS)
        parts = []
        for left in range(max(first, self.known), len(self.units), _PRODUCT_COLUMNS):
            products = rows @ self.units[left : left + _PRODUCT_COLUMNS].T
            count = search_products(products, (first, left), self.vectors, self.bounds, found)
            parts.append(_take(found, count))
        return _sort(parts, len(self.units))


def _cut_tiles(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """The rows as columns: (tile, dimension, column); the last tile is filled up with zeros."""
    count = -(-len(rows) // _TILE)
    filled = np.zeros((count * _TILE, rows.shape[1]), np.float32)
    filled[: len(rows)] = rows
    tiles = filled.reshape(count, _TILE, rows.shape[1]).transpose(0, 2, 1)
    return np.ascontiguousarray(tiles)


def _make_room(pairs: int) -> "Found":
    from persona_pipeline.dedup.semantic_kernel import Found  # noqa: PLC0415

    return Found(np.empty(pairs, np.int64), np.empty(pairs, np.int64), np.empty(pairs))


def _take(found: "Found", count: int) -> _Pairs:
    return found.earlier[:count].copy(), found.later[:count].copy(), found.cosines[:count].copy()


def _sort(parts: list[_Pairs], count: int) -> _Pairs:
    earlier, later, cosines = _join(iter(parts))
    order = np.argsort(earlier * count + later)
    return earlier[order], later[order], cosines[order]


def _join(parts: Iterator[_Pairs]) -> _Pairs:
    """A column at a time, so that no more than one is in memory twice."""
    earlier, later, cosines = [np.empty(0, np.int64)], [np.empty(0, np.int64)], [np.empty(0)]
    for part in parts:
        earlier.append(part[0])
        later.append(part[1])
        cosines.append(part[2])
    return _concatenate(earlier), _concatenate(later), _concatenate(cosines)


def _concatenate(parts: list[NDArray[_Number]]) -> NDArray[_Number]:
    joined = np.concatenate(parts)
    parts.clear()
    return joined
