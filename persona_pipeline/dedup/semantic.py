"""The semantic layer: personas that mean nearly the same, by an exact search of all pairs."""

from collections.abc import Iterator
from itertools import combinations_with_replacement

import numpy as np
import polars as pl
from numpy.typing import NDArray

_BLOCK = 2048
"""Vectors a side: a block of products takes 16 MiB."""
_GATHER = 1 << 22
"""Numbers gathered at a time when pairs are verified: 32 MiB a side."""
_FLOAT32_STEP = float(np.finfo(np.float32).eps)

_SCHEMA = {"earlier": pl.Int64(), "later": pl.Int64(), "similarity": pl.Float64()}


def find_semantic_pairs(vectors: pl.DataFrame, min_similarity: float) -> pl.DataFrame:
    """One row per pair with at least this cosine similarity: earlier, later, similarity.

    `vectors` has priority and embedding (a list of float32). Only vectors of the same length are
    compared; a vector that is zero, empty or not finite is in no pair. The search is by range:
    a top-k would cut dense clusters.
    """
    by_length = (
        vectors.with_columns(pl.col("embedding").list.len().alias("length"))
        .filter(pl.col("length") > 0)
        .sort("priority")
        .partition_by("length", maintain_order=True)
    )
    found = [
        pairs for group in by_length for pairs in _iter_pairs(*_to_units(group), min_similarity)
    ]
    return pl.concat([pl.DataFrame(schema=_SCHEMA), *found])


def _to_units(group: pl.DataFrame) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The priorities and the vectors scaled to length 1, without those that have no direction."""
    length = group.item(0, "length")
    values = group["embedding"].list.to_array(length).to_numpy().astype(np.float64)
    norms = np.sqrt((values * values).sum(axis=1))
    usable = np.isfinite(norms) & (norms > 0)
    return group["priority"].to_numpy()[usable], values[usable] / norms[usable, None]


def _iter_pairs(
    priorities: NDArray[np.int64], units: NDArray[np.float64], min_similarity: float
) -> Iterator[pl.DataFrame]:
    """The blocks of the upper triangle; float32 products propose, float64 sums decide.

    The last bits of a matrix product depend on its shape and its threads, and with them would the
    verdict on a pair near the threshold. A sum over one row does not.
    """
    proposals = units.astype(np.float32)
    bound = min_similarity - (units.shape[1] + 4) * _FLOAT32_STEP
    starts = range(0, len(units), _BLOCK)
    for top, left in combinations_with_replacement(starts, 2):
        products = proposals[top : top + _BLOCK] @ proposals[left : left + _BLOCK].T
        rows, columns = np.nonzero(products >= bound)
        earlier, later = rows + top, columns + left
        above = earlier < later
        earlier, later = earlier[above], later[above]
        cosines = _row_cosines(units, earlier, later)
        close = cosines >= min_similarity
        columns_of_pairs = (priorities[earlier[close]], priorities[later[close]], cosines[close])
        yield pl.DataFrame(dict(zip(_SCHEMA, columns_of_pairs, strict=True)), schema=_SCHEMA)


def _row_cosines(
    units: NDArray[np.float64], earlier: NDArray[np.int64], later: NDArray[np.int64]
) -> NDArray[np.float64]:
    step = max(1, _GATHER // units.shape[1])
    parts = [
        (units[earlier[start : start + step]] * units[later[start : start + step]]).sum(axis=1)
        for start in range(0, len(earlier), step)
    ]
    cosines = np.concatenate([np.empty(0), *parts])
    return cosines.clip(max=1.0)
