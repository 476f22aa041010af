"""The semantic search against all pairs in float64."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from persona_pipeline.dedup.vectors import exact as semantic
from persona_pipeline.dedup.vectors.exact import similar_pairs

Floats = NDArray[np.float32]
WAYS = ["prefixes", "products"]


@contextmanager
def way(name: str, tile: int = 8, rows: int = 4) -> Iterator[None]:
    """One of the two searches, also for few vectors, in small blocks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(semantic, "_PREFIX_FROM", 2 if name == "prefixes" else 1 << 40)
        patch.setattr(semantic, "_PRODUCT_NS", 1e9)
        patch.setattr(semantic, "_TILE", tile)
        patch.setattr(semantic, "_ROWS", rows)
        patch.setattr(semantic, "_PRODUCT_COLUMNS", tile)
        patch.setattr(semantic, "_PRODUCT_ROWS", rows)
        yield


def true_cosines(vectors: Floats) -> NDArray[np.float64]:
    """Of all pairs; NaN where a vector is unusable."""
    wide = vectors.astype(np.float64)
    with np.errstate(all="ignore"):
        lengths = np.sqrt((wide * wide).sum(axis=1))
        units = wide / lengths[:, None]
        rows = [(units * unit).sum(axis=1) for unit in units]
    return np.array(rows).reshape(len(vectors), len(vectors))


def as_set(
    pairs: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]],
) -> set[tuple[int, int]]:
    return set(zip(pairs[0].tolist(), pairs[1].tolist(), strict=True))


def check_against_all_pairs(vectors: Floats, min_cosine: float, known: int = 0) -> None:
    """What is within 1e-12 of the line may fall on either side: the sums' orders differ."""
    earlier, later, cosines = similar_pairs(vectors, min_cosine, known=known)
    truth = true_cosines(vectors)
    i, j = np.nonzero(np.triu(truth >= min_cosine + 1e-12, 1))
    expected = {(a, b) for a, b in zip(i.tolist(), j.tolist(), strict=True) if b >= known}
    matches = as_set((earlier, later, cosines))
    assert expected <= matches
    assert len(matches) == len(earlier)
    assert (earlier < later).all()
    assert (later >= known).all()
    assert (truth[earlier, later] >= min_cosine - 1e-12).all()
    assert np.abs(truth[earlier, later] - cosines).max(initial=0) < 1e-12
    assert cosines.max(initial=0) <= 1.0
    assert (np.diff(earlier * (len(vectors) + 1) + later) > 0).all()


def clustered(count: int, dimensions: int, width: float, seed: int = 0) -> Floats:
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((max(1, count // 10), dimensions))
    noise = rng.standard_normal((count, dimensions)) * width
    return (centres[rng.integers(len(centres), size=count)] + noise).astype(np.float32)


@st.composite
def vector_sets(draw: st.DrawFn) -> Floats:
    """Few dimensions and coarse numbers, so that there are ties, copies, multiples and zeros."""
    dimensions = draw(st.integers(1, 70))
    count = draw(st.integers(0, 40))
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    vectors = clustered(count, dimensions, draw(st.sampled_from([0.01, 0.3, 2.0])), seed)
    if draw(st.booleans()):
        vectors = vectors.round().astype(np.float32)
    for row in range(count):
        if rng.random() < 0.2:
            scale = rng.choice([0.0, 1.0, 3.0, -1.0, 1e-30, 1e8])
            vectors[row] = vectors[rng.integers(row + 1)].clip(-1e9, 1e9) * np.float32(scale)
    return vectors


@pytest.mark.parametrize("name", WAYS)
@given(
    vectors=vector_sets(),
    min_cosine=st.sampled_from([0.5, 0.8, 0.9, 0.99, 1.0]),
    known=st.integers(0, 45),
    blocks=st.tuples(st.sampled_from([8, 16, 24]), st.integers(1, 50)),
)
def test_the_search_finds_what_all_pairs_in_float64_show(
    name: str, vectors: Floats, min_cosine: float, known: int, blocks: tuple[int, int]
) -> None:
    with way(name, *blocks):
        check_against_all_pairs(vectors, min_cosine - 1e-9, known)


@pytest.mark.parametrize("name", WAYS)
@pytest.mark.parametrize("min_cosine", [-1.1, -0.2, 0.0, 0.3])
def test_a_low_threshold_is_exact_too(name: str, min_cosine: float) -> None:
    with way(name):
        check_against_all_pairs(clustered(50, 12, 1.0), min_cosine)


@pytest.mark.parametrize("size", [7, 8, 9, 15, 16, 17, 33])
@pytest.mark.parametrize("name", WAYS)
def test_no_pair_is_lost_where_blocks_meet(name: str, size: int) -> None:
    vectors = np.ones((size, 5), np.float32)
    everything = {(i, j) for j in range(size) for i in range(j)}
    with way(name):
        assert as_set(similar_pairs(vectors, 1 - 1e-9)) == everything


@pytest.mark.parametrize("name", WAYS)
@given(vectors=vector_sets(), seed=st.integers(0, 2**32 - 1))
def test_the_order_of_the_rows_does_not_show(name: str, vectors: Floats, seed: int) -> None:
    order = np.random.default_rng(seed).permutation(len(vectors))

    def find(rows: Floats, names: NDArray[np.int64]) -> dict[frozenset[int], float]:
        pairs = similar_pairs(rows, 0.8)
        named = zip(names[pairs[0]].tolist(), names[pairs[1]].tolist(), strict=True)
        return {frozenset(pair): cosine for pair, cosine in zip(named, pairs[2], strict=True)}

    with way(name):
        assert find(vectors[order], order) == find(vectors, np.arange(len(vectors)))


@given(vectors=vector_sets(), known=st.integers(0, 45), min_cosine=st.sampled_from([0.5, 0.9]))
def test_both_ways_and_any_blocks_give_the_same_bits(
    vectors: Floats, known: int, min_cosine: float
) -> None:
    results = []
    for name, tile, rows in (("prefixes", 8, 3), ("prefixes", 32, 64), ("products", 16, 5)):
        with way(name, tile, rows):
            results.append(similar_pairs(vectors, min_cosine, known=known))
    for result in results[1:]:
        for one, other in zip(results[0], result, strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("threads", [1, 3])
def test_the_number_of_threads_does_not_show(threads: int) -> None:
    vectors = clustered(300, 40, 0.2)
    with way("prefixes", rows=16):
        expected = similar_pairs(vectors, 0.9, threads=2)
        for one, other in zip(similar_pairs(vectors, 0.9, threads=threads), expected, strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", WAYS)
def test_vectors_without_a_direction_are_in_no_pair(name: str) -> None:
    vectors = np.ones((6, 3), np.float32)
    vectors[1], vectors[2, 1], vectors[4, 0] = 0, np.nan, np.inf
    with way(name):
        assert as_set(similar_pairs(vectors, 0.9)) == {(0, 3), (0, 5), (3, 5)}
        assert as_set(similar_pairs(vectors, 0.9, known=4)) == {(0, 5), (3, 5)}


@pytest.mark.parametrize("shape", [(0, 0), (0, 384), (3, 0), (1, 384)])
def test_too_few_vectors_have_no_pairs(shape: tuple[int, int]) -> None:
    assert [len(column) for column in similar_pairs(np.ones(shape, np.float32), 0.9)] == [0, 0, 0]


def test_equal_vectors_and_multiples_have_a_cosine_of_one() -> None:
    vector = clustered(1, 384, 1.0)
    _, _, cosines = similar_pairs(np.concatenate([vector, vector, vector * 8]), 1 - 1e-9)
    assert cosines.tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("scale", [1e-40, 1e-30, 1e30, 1e38])
@pytest.mark.parametrize("name", WAYS)
def test_the_length_of_a_vector_does_not_matter(name: str, scale: float) -> None:
    vectors = np.array([[1, 0], [1, 1], [2, 1]], np.float32)
    vectors[1] *= np.float32(scale)
    with way(name):
        assert as_set(similar_pairs(vectors, 0.9)) == {(1, 2)}
        assert as_set(similar_pairs(vectors, 0.89)) == {(0, 2), (1, 2)}


def test_a_dense_cluster_among_many_vectors_is_found_whole() -> None:
    vectors = np.concatenate([clustered(2000, 100, 5.0), np.ones((1000, 100), np.float32)])
    earlier, later, cosines = similar_pairs(vectors, 0.9)
    dense = earlier >= 2000
    assert dense.sum() == 1000 * 999 // 2
    assert (cosines[dense] == 1.0).all()
    assert (later > earlier).all()
    check_against_all_pairs(vectors, 0.9)


@pytest.mark.parametrize("known", [0, 1000, 2900, 3000])
def test_many_vectors_with_main_directions_and_without_are_searched_exactly(known: int) -> None:
    rng = np.random.default_rng(7)
    with_directions = clustered(3000, 200, 0.3)
    without = rng.standard_normal((3000, 200)).astype(np.float32)
    without[::50] = without[0] + 0.2 * without[::50]
    check_against_all_pairs(with_directions, 0.9, known)
    check_against_all_pairs(without, 0.9, known)
