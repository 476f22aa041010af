"""Encode texts as sets of word codes, ordered by a frozen vocabulary."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from persona_pipeline.dedup import kernels
from persona_pipeline.dedup.words.characters import load_characters

TOKENIZER_VERSION = 3
"""Goes up with every change of what a word is: keys and duplicates may differ from then on."""
LEARNED_TEXTS = 25_000
"""Measured: the word order of the first 25,000 of 2 million texts costs 3 % more candidates than
that of all of them."""
VOCABULARY = 1 << 17
"""Slots of the table: 25,000 personas have some 30,000 distinct words."""
FIRST_COMPOSABLE = 0xCC
"""The first byte of U+0300, the first combining mark: text of lesser bytes is NFC. NFC of 200,000
ASCII personas takes 0.24 CPU-seconds, as long as all the rest of encoding them."""
CHUNK = 50_000
"""Texts that a thread encodes at a time."""
RANK_STEPS = 8
"""Frequency classes per doubling of the frequency."""


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """How frequent words are, learned once and frozen. Any order is correct; rare first is fast."""

    words: NDArray[np.uint64]
    """(slot): an open-addressed table of word hashes."""
    ranks: NDArray[np.uint8]
    """(slot): the frequency class of its word; 0 where there is none."""
    learned_texts: int
    """The number of texts that it was learned from."""


@dataclass(frozen=True, slots=True)
class WordSets:
    """The word sets of texts, one after the other: sorted distinct codes, rare words first."""

    codes: NDArray[np.uint64]
    starts: NDArray[np.int64]
    """Set n is codes[starts[n]:starts[n + 1]]."""

    def __len__(self) -> int:
        """Return the number of sets."""
        return len(self.starts) - 1

    @property
    def sizes(self) -> NDArray[np.int64]:
        """(set): how many words it has."""
        return np.diff(self.starts)

    def take(self, rows: NDArray[np.int64]) -> "WordSets":
        """Return these sets, in this order."""
        starts = np.concatenate([np.zeros(1, np.int64), self.sizes[rows]]).cumsum()
        codes = np.empty(starts[-1], np.uint64)
        kernels.expect(len(codes))
        kernels.word_sets.gather_sets(self.codes, self.starts, rows, starts, codes)
        return WordSets(codes, starts)


@dataclass(frozen=True, slots=True)
class EncodedTexts:
    """What the word layers know of texts; the keys depend on the text and the tokenizer only."""

    sets: WordSets
    sequence_keys: NDArray[np.uint64]
    """(text): equal for texts of the same words in the same order."""
    set_keys: NDArray[np.uint64]
    """(text): equal for texts of the same set of words."""


def learn_vocabulary(texts: pl.Series) -> Vocabulary:
    """Count the words of the first `LEARNED_TEXTS` texts (String, no nulls)."""
    sample = texts.head(LEARNED_TEXTS)
    data, offsets = _composed(sample)
    words, counts = np.zeros(VOCABULARY, np.uint64), np.zeros(VOCABULARY, np.int32)
    kernels.word_sets.count_words(data, offsets, *load_characters(), words, counts)
    ranks, known = np.zeros(VOCABULARY, np.uint8), counts > 0
    ranks[known] = np.minimum(1 + RANK_STEPS * np.log2(counts[known]), 255)
    return Vocabulary(words, ranks, len(sample))


def encode(texts: pl.Series, vocabulary: Vocabulary, *, threads: int = 2) -> EncodedTexts:
    """Return the sets and keys of texts (String, no nulls)."""
    chunks = [texts.slice(start, CHUNK) for start in range(0, len(texts), CHUNK)]
    with ThreadPoolExecutor(threads) as pool:
        parts = list(pool.map(lambda chunk: _encode_chunk(chunk, vocabulary), chunks))
    nothing = np.empty(0, np.uint64)
    return EncodedTexts(
        concat_sets([part.sets for part in parts]),
        np.concatenate([nothing, *(part.sequence_keys for part in parts)]),
        np.concatenate([nothing, *(part.set_keys for part in parts)]),
    )


def concat_sets(parts: Sequence[WordSets]) -> WordSets:
    """Join the sets of all parts, in order."""
    if len(parts) == 1:
        return parts[0]
    sizes = [part.sizes for part in parts]
    starts = np.concatenate([np.zeros(1, np.int64), *sizes]).cumsum()
    return WordSets(np.concatenate([np.empty(0, np.uint64), *(p.codes for p in parts)]), starts)


def hash_texts(texts: pl.Series) -> NDArray[np.uint64]:
    """Return a stable hash of each text as it stands: texts of one hash have one embedding."""
    data, offsets = _utf8(texts)
    hashes = np.empty(len(texts), np.uint64)
    kernels.word_sets.hash_bytes(data, offsets, 0, hashes)
    return hashes


def _encode_chunk(texts: pl.Series, vocabulary: Vocabulary) -> EncodedTexts:
    data, offsets = _composed(texts)
    most = int(offsets[-1] - offsets[0]) // 2 + len(texts) + 1
    codes, starts = np.empty(most, np.uint64), np.zeros(len(texts) + 1, np.int64)
    sequence_keys = np.empty(len(texts), np.uint64)
    set_keys = np.empty(len(texts), np.uint64)
    tables = (*load_characters(), vocabulary.words, vocabulary.ranks)
    total = kernels.word_sets.encode_texts(
        data, offsets, *tables, starts[1:], codes, sequence_keys, set_keys
    )
    return EncodedTexts(WordSets(codes[:total].copy(), starts), sequence_keys, set_keys)


def _composed(texts: pl.Series) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return the bytes of the texts in NFC, as `_utf8` does."""
    data, offsets = _utf8(texts)
    matches = np.zeros(len(texts), np.bool_)
    kernels.word_sets.find_composable(data, offsets, FIRST_COMPOSABLE, matches)
    if not matches.any():
        return data, offsets
    parts = [texts.filter(~matches), texts.filter(matches).str.normalize("NFC")]
    return _utf8(pl.concat(parts).gather(np.argsort(np.argsort(matches, kind="stable"))))


def _utf8(texts: pl.Series) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return the bytes of all texts, one after the other, and where each starts and ends."""
    arrow = texts.to_arrow()
    array = (arrow.combine_chunks() if isinstance(arrow, pa.ChunkedArray) else arrow).cast(
        pa.large_string()
    )
    _, offsets, data = array.buffers()
    places = np.frombuffer(offsets, np.int64, len(array) + 1, array.offset * 8)
    kernels.expect(int(places[-1] - places[0]))
    return np.frombuffer(data or b"", np.uint8), places
