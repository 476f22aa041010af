"""Find texts that mean nearly the same, by the vectors of an embedding model.

Two of the first `EXACT_UP_TO` texts are compared exactly. All others are searched for in an IVF
index that is trained on the first ones. So the pairs of a shard depend on it and on earlier shards
only, and shard after shard gives the same pairs as all at once.
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
from persona_pipeline.dedup.vectors.ivf import IvfIndex, ivf_pairs, train_ivf
from persona_pipeline.dedup.vectors.pairs import Pairs
from persona_pipeline.errors import StoreError

EXACT_UP_TO = 200_000
"""Texts that are compared with each other exactly: this misses no pair, and takes half a minute.
The index takes a fifth of it there, and less from 50,000 texts on (`ivf.py`)."""
IVF_VERSION = 1
"""Goes up with every change of which pairs the index finds."""
COPIED = 4096
"""Vectors copied at a time."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TextVectors:
    """The vectors of texts, each text once, all of one length."""

    keys: NDArray[np.uint64]
    """(text): the key of each text; the known ones first, then the new ones."""
    rows: NDArray[np.float32]
    """(text, dimension); may lie in a file, see `allocate_rows`."""
    known: int
    """The number of texts that were compared with each other before."""
    early: NDArray[np.bool_]
    """(text): whether the text is among the first, which are compared exactly."""
    folder: Path | None = None
    """The folder for temporary files; default: that of the system."""


def allocate_rows(count: int, length: int, folder: Path | None = None) -> NDArray[np.float32]:
    """Allocate (count, length) float32 numbers in a temporary file that has no name.

    The file goes with the array, also when the process is killed.

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
    vectors: TextVectors,
    min_cosine: float,
    resources: Resources | None = None,
    index: IvfIndex | None = None,
) -> pl.DataFrame:
    """Return `PAIRS` of texts with at least this cosine, of which one is new.

    Without an `index` of the first texts, one is trained on those that are given, where there are
    others.
    """
    matches = _search(vectors, min_cosine, resources or Resources(), index)
    parts = [_name(vectors.keys, pairs) for pairs in matches]
    return pl.concat([pl.DataFrame(schema=PAIRS), *parts])


def train_index(vectors: TextVectors, min_cosine: float) -> IvfIndex:
    """Train the index in which later texts are searched for, on the first texts."""
    first = np.flatnonzero(vectors.early)
    in_order = first[np.argsort(vectors.keys[first])]  # the same index, whichever texts are known
    index = train_ivf(_take(vectors.rows, in_order, vectors.folder), min_cosine)
    logger.info(
        "%d texts: an index of %d lists, %d of them searched for each text; recall %.2f %%"
        " of a sample",
        len(vectors.rows),
        len(index.centroids),
        index.nprobe,
        100 * index.recall,
    )
    return index


def _search(
    vectors: TextVectors, min_cosine: float, resources: Resources, index: IvfIndex | None
) -> Iterator[Pairs]:
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
    yield ivf_pairs(
        rows,
        min_cosine,
        index or train_index(vectors, min_cosine),
        known=known,
        early=early,
        threads=resources.threads,
        check=check,
    )


def _take(
    rows: NDArray[np.float32], which: NDArray[np.int64], folder: Path | None
) -> NDArray[np.float32]:
    """Copy these rows to a file of their own."""
    taken = allocate_rows(len(which), rows.shape[1], folder)
    for start in range(0, len(which), COPIED):
        taken[start : start + COPIED] = rows[which[start : start + COPIED]]
    return taken


def _name(keys: NDArray[np.uint64], pairs: Pairs) -> pl.DataFrame:
    """Return the pairs of rows as `PAIRS` of text keys."""
    left, right, cosines = pairs
    columns = {
        "first_key": np.minimum(keys[left], keys[right]),
        "second_key": np.maximum(keys[left], keys[right]),
        "similarity": cosines,
    }
    named = pl.DataFrame(columns).with_columns(layer=pl.lit("semantic"), fuzzy_score=None)
    return named.select(*PAIRS).cast(pl.Schema(PAIRS))
