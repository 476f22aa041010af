"""Which texts mean nearly the same, by the vectors of an embedding model.

Two of the first `EXACT_UP_TO` texts are compared exactly. All others are compared in cells, learned
from the first ones: what is found of a shard depends on it and on earlier shards only, so shard by
shard gives what comparing all at once gives.
"""

import logging
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from persona_pipeline.dedup.resolve import PAIRS
from persona_pipeline.dedup.resources import Resources
from persona_pipeline.dedup.vectors.exact import similar_pairs
from persona_pipeline.dedup.vectors.ivf import ivf_pairs, train_ivf
from persona_pipeline.dedup.vectors.pairs import Pairs
from persona_pipeline.errors import StoreError

EXACT_UP_TO = 200_000
"""Texts that are compared with each other exactly: this misses no pair, and takes half a minute.
Cells take a fifth of it there, and less from 50,000 on (`cells.py`)."""
IVF_VERSION = 1
"""Goes up with every change of which pairs cells find."""
COPIED = 4096
"""Vectors copied at a time."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TextVectors:
    """The vectors of texts, each once, all of one length."""

    keys: NDArray[np.uint64]
    """Of the texts: those that are known first, then the new ones."""
    rows: NDArray[np.float32]
    """Perhaps in a file: `allocate_rows`."""
    known: int
    """So many were compared with each other before."""
    early: NDArray[np.bool_]
    """Whether the text is among the first, which are compared exactly."""
    folder: Path | None = None
    """For temporary files; default: the system's."""


def allocate_rows(count: int, length: int, folder: Path | None = None) -> NDArray[np.float32]:
    """Room for vectors in a temporary file without a name: it goes with the array, or a kill.

    Raises:
        StoreError: the folder has no room for it.
    """
    if count * length == 0:
        return np.empty((count, length), np.float32)
    with tempfile.TemporaryFile(dir=folder) as file:
        try:
            for _ in range(count):  # a hole in the file would end the process when it is filled
                file.write(bytes(length * 4))
            file.flush()
        except OSError as error:
            size = count * length * 4 / 1e9
            place = folder or tempfile.gettempdir()
            msg = f"{count:,} vectors need {size:.1f} GB in {place}: {error.strerror}"
            raise StoreError(msg) from error
        return np.memmap(file, np.float32, "r+", shape=(count, length))


def similar_texts(
    vectors: TextVectors, min_cosine: float, resources: Resources | None = None
) -> pl.DataFrame:
    """The pairs of texts with at least this cosine, one of which is new."""
    matches = _search(vectors, min_cosine, resources or Resources())
    parts = [_name(vectors.keys, pairs) for pairs in matches]
    return pl.concat([pl.DataFrame(schema=PAIRS), *parts])


def _search(vectors: TextVectors, min_cosine: float, resources: Resources) -> Iterator[Pairs]:
    def check(count: int) -> None:
        resources.check_pairs(count, f"cosine of {min_cosine:.3g} and more")

    rows, early, known = vectors.rows, vectors.early, vectors.known
    if early.all():
        yield similar_pairs(rows, min_cosine, known=known, threads=resources.threads, check=check)
        return
    first = np.flatnonzero(early)
    if early[known:].any():
        matches = similar_pairs(
            _take(rows, first, vectors.folder),
            min_cosine,
            known=int(early[:known].sum()),
            threads=resources.threads,
            check=check,
        )
        yield first[matches[0]], first[matches[1]], matches[2]
    in_order = first[np.argsort(vectors.keys[first])]  # the same cells, whoever is known
    index = train_ivf(_take(rows, in_order, vectors.folder), min_cosine)
    logger.info(
        "%d texts: compared in %d cells, with %d around each; they find %.2f %% of a sample",
        len(rows),
        len(index.centroids),
        index.nprobe,
        100 * index.recall,
    )
    yield ivf_pairs(
        rows,
        min_cosine,
        index,
        known=known,
        early=early,
        threads=resources.threads,
        check=check,
    )


def _take(
    rows: NDArray[np.float32], which: NDArray[np.int64], folder: Path | None
) -> NDArray[np.float32]:
    """A copy of these, in a file as well."""
    taken = allocate_rows(len(which), rows.shape[1], folder)
    for start in range(0, len(which), COPIED):
        taken[start : start + COPIED] = rows[which[start : start + COPIED]]
    return taken


def _name(keys: NDArray[np.uint64], pairs: Pairs) -> pl.DataFrame:
    """The pairs of rows as pairs of texts."""
    left, right, cosines = pairs
    columns = {
        "first_key": np.minimum(keys[left], keys[right]),
        "second_key": np.maximum(keys[left], keys[right]),
        "similarity": cosines,
    }
    named = pl.DataFrame(columns).with_columns(layer=pl.lit("semantic"), fuzzy_score=None)
    return named.select(*PAIRS).cast(pl.Schema(PAIRS))
