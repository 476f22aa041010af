"""Kernels run as Python or compiled: the bits are the same, and little work compiles nothing."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from persona_pipeline.dedup import compiling, kernels
from persona_pipeline.dedup.vectors.exact import similar_pairs
from persona_pipeline.dedup.words.join import KeyedSets, distinct_sets, jaccard_pairs
from persona_pipeline.dedup.words.word_sets import WordSets, encode, hash_texts, learn_vocabulary

WORDS = st.sampled_from(
    ["a", "Nurse", "nurse", "Ärztin", "A\u0308rztin", "für", "日本語", "ー", "ﬁ"]
)
TEXTS = st.lists(
    st.lists(WORDS | st.text(max_size=3), max_size=60).map(" ".join), min_size=1, max_size=12
)


@contextmanager
def visited(elements: int) -> Iterator[None]:
    """Let the kernels run as after this many elements."""
    before = compiling.work.visited
    compiling.work.visited = elements
    try:
        yield
    finally:
        compiling.work.visited = before


def compare_words(texts: list[str], known: list[str], least: float) -> list[object]:
    """Return all that the word layers find, as plain values."""
    new, others = pl.Series(texts), pl.Series(known)
    vocabulary = learn_vocabulary(new)
    encoded, earlier = encode(new, vocabulary), encode(others, vocabulary)
    part = distinct_sets(earlier).with_join_keys(least)
    pairs = jaccard_pairs(distinct_sets(encoded), [part], least)
    arrays = (
        vocabulary.ranks,
        encoded.sets.codes,
        encoded.sets.starts,
        encoded.sequence_keys,
        encoded.set_keys,
        hash_texts(new),
    )
    return [*(array.tolist() for array in arrays), pairs.rows()]


@given(TEXTS, TEXTS, st.sampled_from([0.2, 0.5, 0.9]))
def test_word_kernels_give_the_same_bits_as_python_and_compiled(
    texts: list[str], known: list[str], least: float
) -> None:
    with visited(-(10**9)):
        plain = compare_words([*texts, texts[0]], known, least)
    with visited(compiling.INTERPRETED):
        assert compare_words([*texts, texts[0]], known, least) == plain


def test_the_pairs_of_the_law_are_not_all_empty() -> None:
    texts = ["a nurse in a ward", "a nurse in the ward", "a smith", "für 日本語 nurse"]
    with visited(-(10**9)):
        *_, pairs = compare_words(texts, ["a nurse in our ward"], 0.5)
    assert isinstance(pairs, list)
    assert len(pairs) == 3


@given(st.integers(1, 40), st.integers(1, 20), st.integers(0, 2**32 - 1), st.integers(0, 10))
@settings(deadline=None)
def test_vector_kernels_give_the_same_bits_as_python_and_compiled(
    count: int, dimensions: int, seed: int, known: int
) -> None:
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((count, dimensions)).astype(np.float32)
    vectors[count // 2] = vectors[0]
    with visited(-(10**9)):
        plain = similar_pairs(vectors, 0.3, known=known)
    with visited(compiling.INTERPRETED):
        compiled = similar_pairs(vectors, 0.3, known=known)
    assert [column.tolist() for column in compiled] == [column.tolist() for column in plain]


FIND = (
    "import sys, polars as pl, persona_pipeline as pp;"
    "texts = pl.DataFrame({{'id': range({count})}}).with_columns("
    "    text='a nurse who counts to ' + pl.col('id').cast(pl.String));"
    "removed = pp.find_duplicates(texts, thresholds=pp.Thresholds(jaccard=0.5)).removed;"
    "sys.exit('numba' in sys.modules if len(removed) == {count} - 1 else 2)"
)


@pytest.mark.parametrize(("count", "is_compiled"), [(40, 0), (4000, 1)])
def test_few_texts_are_compared_without_numba(count: int, is_compiled: int) -> None:
    command = [sys.executable, "-c", FIND.format(count=count)]
    assert subprocess.run(command, check=False).returncode == is_compiled


def with_directions(count: int, dimensions: int) -> NDArray[np.float32]:
    """Return vectors that differ in four directions only, so that they are searched by these."""
    rng = np.random.default_rng(1)
    directions = rng.standard_normal((4, dimensions))
    return (rng.standard_normal((count, 4)) @ directions).astype(np.float32)


def word_sets(count: int) -> KeyedSets:
    """Return sets of 1,000 words, as they are read from a cache."""
    codes = np.sort(np.random.default_rng(1).integers(0, 2**32, (count, 1000), np.uint64))
    return KeyedSets(
        np.arange(count, dtype=np.uint64),
        WordSets(codes.ravel(), np.arange(0, 1000 * count + 1, 1000)),
    )


@compiling.compiled
def double(number: int) -> int:
    return 2 * number


def test_kernels_whose_compilation_was_interrupted_are_compiled_when_they_are_used_again() -> None:
    this = sys.modules[__name__]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiling, "_compile", interrupt)
        with pytest.raises(KeyboardInterrupt):
            compiling.compiled_edition(this)
    edition = compiling.compiled_edition(this)
    assert edition.double(2) == 4
    assert edition.double.signatures


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("work", "is_due"),
    [
        (lambda: hash_texts(pl.Series(["x" * compiling.INTERPRETED])), True),
        (lambda: similar_pairs(np.ones((2000, 100), np.float32), 0.9, known=1999), True),
        (lambda: similar_pairs(np.ones((300, 8), np.float32), 0.9), True),  # all of them are close
        (lambda: similar_pairs(with_directions(2100, 48), 0.9), True),
        (lambda: similar_pairs(np.ones((30, 8), np.float32), 0.9), False),
        (lambda: word_sets(300).keys_at(0.7), True),
        (lambda: word_sets(3).keys_at(0.7), False),
        (lambda: hash_texts(pl.Series(["x"])), False),
    ],
)
def test_what_takes_long_in_python_is_compiled(work: object, *, is_due: bool) -> None:
    assert callable(work)
    with visited(0):
        work()
        assert kernels.is_due() == is_due
