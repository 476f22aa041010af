"""Store word sets on disk: a new shard is compared with the others without reading their texts.

Nothing here is needed: what is missing is made again from the texts, and gives the same pairs.
"""

import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from glob import escape
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from persona_pipeline.dedup.words.join import JoinKeys, KeyedSets, distinct_sets
from persona_pipeline.dedup.words.join_keys import KEYS_VERSION
from persona_pipeline.dedup.words.word_sets import (
    LEARNED_TEXTS,
    TOKENIZER_VERSION,
    Vocabulary,
    WordSets,
    encode,
    learn_vocabulary,
)

OUTGROWN = 4
"""A vocabulary of few texts is learned again when there are this many times as many texts."""
JOIN_COLUMNS = ("keys", "rows", "signatures")
DAY_S = 86_400
"""Seconds after which an unfinished folder was left by a process that was killed."""


class SetCache:
    """One folder per batch and version of its texts; a folder is there whole, or not at all.

    One process at a time may use it: the caller holds a lock, as the assets do.
    """

    def __init__(self, folder: Path, min_similarity: float | None = None) -> None:
        """Store everything in `folder`, which need not exist.

        With a `min_similarity`, sets are stored with their join keys at this similarity.
        """
        self._folder, self._min_similarity = folder, min_similarity
        self._join_keys = f"join_keys-{KEYS_VERSION}-{min_similarity}"

    def vocabulary(self, texts: Callable[[], pl.Series], count: int) -> Vocabulary:
        """Return the frozen vocabulary, or learn one when there is none or it is outgrown."""
        path = self._folder / f"vocabulary-{TOKENIZER_VERSION}.npz"
        if path.is_file():
            with np.load(path) as kept:
                known = Vocabulary(kept["words"], kept["ranks"], int(kept["learned_texts"]))
            is_full = known.learned_texts >= LEARNED_TEXTS
            if is_full or count < OUTGROWN * known.learned_texts:
                return known
        learned = learn_vocabulary(texts())
        shutil.rmtree(self._folder, ignore_errors=True)  # sets in another order of words
        self._folder.mkdir(parents=True)
        partial = path.with_suffix(f".{os.getpid()}.npz")
        np.savez(
            partial,
            words=learned.words,
            ranks=learned.ranks,
            learned_texts=learned.learned_texts,
        )
        partial.replace(path)
        return learned

    def sets(
        self, batch: str, version: str, texts: Callable[[], pl.Series], vocabulary: Vocabulary
    ) -> KeyedSets:
        """Return the sets of this version of a batch: stored ones, or new ones of its texts."""
        folder = self._folder / f"{batch}.{version}"
        if not folder.is_dir():
            self.keep(batch, version, distinct_sets(encode(texts(), vocabulary)))
        keys, codes, starts = _read(folder, ("keys", "codes", "starts"))
        sets = KeyedSets(keys, WordSets(codes, starts))
        path = folder / self._join_keys
        if self._min_similarity is None:
            return sets
        if not path.is_dir():  # they were stored for another similarity
            partial = self._open_partial()
            _write_join_keys(partial, sets.keys_at(self._min_similarity))
            partial.replace(path)
        join_keys = JoinKeys(self._min_similarity, *_read(path, JOIN_COLUMNS))
        return KeyedSets(sets.keys, sets.sets, join_keys)

    def keep(self, batch: str, version: str, sets: KeyedSets) -> None:
        """Store the sets; those of other versions of the batch are removed."""
        partial = self._open_partial()
        own = sets.sets
        _write(partial, {"keys": sets.keys, "codes": own.codes, "starts": own.starts})
        if self._min_similarity is not None:
            join_keys = sets.keys_at(self._min_similarity)
            _write_join_keys(partial / self._join_keys, join_keys)
        self.forget(batch)
        partial.replace(self._folder / f"{batch}.{version}")

    def forget(self, batch: str) -> None:
        """Remove what is stored of a batch."""
        for folder in self._folder.glob(f"{escape(batch)}.*"):
            shutil.rmtree(folder)

    def _open_partial(self) -> Path:
        """Open a folder to write into; unfinished ones of killed processes are removed."""
        self._folder.mkdir(parents=True, exist_ok=True)
        for folder in self._folder.glob(".*"):
            if time.time() - folder.stat().st_mtime > DAY_S:
                shutil.rmtree(folder)
        return Path(mkdtemp(prefix=".", dir=self._folder))


def _write(folder: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    folder.mkdir(exist_ok=True)
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)


def _write_join_keys(folder: Path, keys: JoinKeys) -> None:
    columns = (keys.keys, keys.rows, keys.signatures)
    _write(folder, dict(zip(JOIN_COLUMNS, columns, strict=True)))


def _read(folder: Path, names: Sequence[str]) -> list[NDArray[Any]]:
    """Return the arrays, mapped into memory."""
    return [np.load(folder / f"{name}.npy", mmap_mode="r") for name in names]
