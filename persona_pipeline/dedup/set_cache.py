"""Word sets on disk, so that a new shard is compared with the others without reading their texts.

Nothing here is needed: what is missing is made again from the texts, and gives the same pairs.
"""

import os
import shutil
from collections.abc import Callable
from glob import escape
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import polars as pl

from persona_pipeline.dedup.surface import KeyedSets, distinct_sets
from persona_pipeline.dedup.word_sets import (
    LEARNED_TEXTS,
    TOKENIZER_VERSION,
    Vocabulary,
    WordSets,
    encode,
    learn_vocabulary,
)

OUTGROWN = 4
"""A vocabulary of few texts is learned again when there are this many times as many."""


class SetCache:
    """One folder per batch and version of its texts; a folder is there whole, or not at all."""

    def __init__(self, folder: Path) -> None:
        """Keeps everything in `folder`, which may not be there yet."""
        self._folder = folder

    def vocabulary(self, texts: Callable[[], pl.Series], count: int) -> Vocabulary:
        """The frozen one, or one learned from the texts when there is none or it is outgrown."""
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
        unfinished = path.with_suffix(f".{os.getpid()}.npz")
        np.savez(
            unfinished,
            words=learned.words,
            ranks=learned.ranks,
            learned_texts=learned.learned_texts,
        )
        unfinished.replace(path)
        return learned

    def sets(
        self, batch: str, version: str, texts: Callable[[], pl.Series], vocabulary: Vocabulary
    ) -> KeyedSets:
        """The sets of this version of a batch: kept ones, or made from its texts and kept."""
        folder = self._folder / f"{batch}.{version}"
        if not folder.is_dir():
            self.keep(batch, version, distinct_sets(encode(texts(), vocabulary)))
        keys, codes, starts = (
            np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("keys", "codes", "starts")
        )
        return KeyedSets(keys, WordSets(codes, starts))

    def keep(self, batch: str, version: str, sets: KeyedSets) -> None:
        """Write the sets; those of other versions of the batch go."""
        self._folder.mkdir(parents=True, exist_ok=True)
        unfinished = Path(mkdtemp(prefix=".", dir=self._folder))
        np.save(unfinished / "keys.npy", sets.keys)
        np.save(unfinished / "codes.npy", sets.sets.codes)
        np.save(unfinished / "starts.npy", sets.sets.starts)
        self.forget(batch)
        unfinished.replace(self._folder / f"{batch}.{version}")

    def forget(self, batch: str) -> None:
        """Remove what is kept of a batch."""
        for folder in self._folder.glob(f"{escape(batch)}.*"):
            shutil.rmtree(folder)
