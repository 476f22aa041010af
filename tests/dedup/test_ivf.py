"""The search in an IVF index against its law, and against all pairs."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from persona_pipeline.dedup.vectors import ivf, quantizer
from persona_pipeline.dedup.vectors.exact import similar_pairs
from persona_pipeline.dedup.vectors.ivf import IvfIndex, ivf_pairs, train_ivf
from persona_pipeline.dedup.vectors.quantizer import Columns, Projection, Usable
from tests.dedup.test_exact_vectors import (
    Floats,
    as_set,
    clustered,
    true_cosines,
    vector_sets,
)

Pairs = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]
CLOSE = 0.9 - 1e-9


@contextmanager
def small_blocks(tile: int = 8, queries: int = 3, block: int = 5) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ivf, "_TILE", tile)
        patch.setattr(ivf, "_QUERIES", queries)
        patch.setattr(ivf, "_ROOM", tile + 1)
        patch.setattr(ivf, "BLOCK", block)
        patch.setattr(quantizer, "_TILE", 4)
        yield


def random_index(count: int, dimensions: int, nprobe: int, seed: int = 0) -> IvfIndex:
    rng = np.random.default_rng(seed)
    centroids = rng.standard_normal((count, dimensions))
    centroids /= np.sqrt((centroids * centroids).sum(axis=1))[:, None]
    return IvfIndex(centroids.astype(np.float32), nprobe, 1.0)


def nearest_lists(vector: Floats, frozen: IvfIndex) -> list[int]:
    """Of one vector, with no other one in sight."""
    usable = Usable.of(vector[None])
    if not len(usable.rows):
        return []
    projection = Projection.build(usable, frozen.centroids)
    coordinates = usable.project(slice(None), projection.basis)
    nearest = Columns.of(projection.centroids).nearest(coordinates, frozen.nprobe)
    return [int(list_number) for list_number in nearest[0]]


def lawful_pairs(vectors: Floats, min_cosine: float, frozen: IvfIndex) -> set[tuple[int, int]]:
    """Each pair by itself."""
    near = [nearest_lists(vector, frozen) for vector in vectors]
    truth = true_cosines(vectors)
    return {
        (i, j)
        for j in range(len(vectors))
        for i in range(j)
        if truth[i, j] >= min_cosine and (near[i][0] in near[j] or near[j][0] in near[i])
    }


def assert_same(one: Pairs, other: Pairs) -> None:
    for column, other_column in zip(one, other, strict=True):
        np.testing.assert_array_equal(column, other_column)


@given(
    vectors=vector_sets(),
    min_cosine=st.sampled_from([-0.3, 0.5, 0.9, 1.0]),
    shape=st.tuples(st.integers(1, 12), st.integers(1, 4), st.integers(0, 9)),
    known=st.integers(0, 45),
    blocks=st.tuples(st.sampled_from([8, 16]), st.integers(1, 9), st.integers(1, 9)),
)
def test_a_pair_is_found_if_it_is_close_and_one_list_is_near_the_other_vector(
    vectors: Floats,
    min_cosine: float,
    shape: tuple[int, int, int],
    known: int,
    blocks: tuple[int, int, int],
) -> None:
    """What is within 1e-12 of the line may fall on either side: the sums' orders differ."""
    count, nprobe, seed = shape
    frozen = random_index(count, vectors.shape[1], nprobe, seed)
    early = np.random.default_rng(seed).random(len(vectors)) < 0.3
    line = min_cosine - 1e-9

    def wanted(pairs: set[tuple[int, int]]) -> set[tuple[int, int]]:
        return {(i, j) for i, j in pairs if j >= known and not (early[i] and early[j])}

    with small_blocks(*blocks):
        matches = ivf_pairs(vectors, line, frozen, known=known, early=early)
    assert wanted(lawful_pairs(vectors, line + 1e-12, frozen)) <= as_set(matches)
    assert as_set(matches) <= wanted(lawful_pairs(vectors, line - 1e-12, frozen))
    earlier, later, cosines = matches
    assert (earlier < later).all()
    assert (np.diff(earlier * (len(vectors) + 1) + later) > 0).all()
    assert np.abs(true_cosines(vectors)[earlier, later] - cosines).max(initial=0) < 1e-12


@given(vectors=vector_sets(), seed=st.integers(0, 2**32 - 1))
def test_neither_the_order_nor_the_other_rows_show(vectors: Floats, seed: int) -> None:
    rng = np.random.default_rng(seed)
    frozen = random_index(8, vectors.shape[1], 2)
    order = rng.permutation(len(vectors))
    some = order[: len(order) // 2]

    def find(names: NDArray[np.int64]) -> dict[frozenset[int], float]:
        earlier, later, cosines = ivf_pairs(vectors[names], 0.8, frozen)
        named = zip(names[earlier].tolist(), names[later].tolist(), strict=True)
        return {frozenset(pair): cosine for pair, cosine in zip(named, cosines, strict=True)}

    everything = find(np.arange(len(vectors)))
    assert find(order) == everything
    among_some = {pair: cos for pair, cos in everything.items() if pair <= set(some.tolist())}
    assert find(some) == among_some


def test_searching_shard_after_shard_finds_what_one_search_finds() -> None:
    vectors = clustered(900, 80, 0.2)
    frozen = train_ivf(vectors[:300], CLOSE)
    parts = [ivf_pairs(vectors[:end], CLOSE, frozen, known=end - 300) for end in (300, 600, 900)]
    together = set().union(*(as_set(part) for part in parts))
    whole = ivf_pairs(vectors, CLOSE, frozen)
    assert together == as_set(whole)
    assert sum(len(part[0]) for part in parts) == len(whole[0])


def test_all_probes_find_what_the_exact_search_finds_with_the_same_bits() -> None:
    vectors = clustered(3000, 100, 0.3)
    frozen = random_index(40, 100, 40)
    assert_same(ivf_pairs(vectors, CLOSE, frozen), similar_pairs(vectors, CLOSE))


@pytest.mark.parametrize("width", [0.1, 0.3])
def test_a_trained_index_finds_nearly_all_pairs_of_clustered_vectors(width: float) -> None:
    vectors = clustered(6000, 120, width)
    frozen = train_ivf(vectors, CLOSE)
    matches, truth = (
        as_set(ivf_pairs(vectors, CLOSE, frozen)),
        as_set(similar_pairs(vectors, CLOSE)),
    )
    assert matches <= truth
    assert len(matches) >= 0.999 * len(truth) > 5000
    assert frozen.recall >= 0.999
    assert frozen.nprobe < len(frozen.centroids) / 2


def test_vectors_without_main_directions_are_searched_too() -> None:
    rng = np.random.default_rng(3)
    vectors = rng.standard_normal((3000, 200)).astype(np.float32)
    vectors[1::3] = vectors[::3] + 0.2 * vectors[1::3]
    matches = as_set(ivf_pairs(vectors, CLOSE, train_ivf(vectors, CLOSE)))
    truth = as_set(similar_pairs(vectors, CLOSE))
    assert matches <= truth
    assert len(matches) >= 0.998 * len(truth) > 990


def test_learning_is_deterministic() -> None:
    vectors = clustered(2000, 60, 0.3)
    one, other = train_ivf(vectors, CLOSE), train_ivf(vectors.copy(), CLOSE)
    np.testing.assert_array_equal(one.centroids, other.centroids)
    assert (one.nprobe, one.recall) == (other.nprobe, other.recall)
    lengths = np.sqrt((one.centroids.astype(np.float64) ** 2).sum(axis=1))
    np.testing.assert_allclose(lengths, 1, atol=1e-6)
    assert one.centroids.dtype == np.float32


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_an_index_is_trained_on_very_few_vectors(count: int) -> None:
    vectors = clustered(count, 30, 0.1)
    frozen = train_ivf(vectors, CLOSE)
    assert 1 <= frozen.nprobe <= len(frozen.centroids) <= max(1, count)
    more = np.concatenate([vectors, clustered(50, 30, 0.1)])
    matches = ivf_pairs(more, CLOSE, frozen)
    assert as_set(matches) <= as_set(similar_pairs(more, CLOSE))
    if frozen.nprobe == len(frozen.centroids):
        assert as_set(matches) == as_set(similar_pairs(more, CLOSE))


def test_equal_vectors_make_one_list() -> None:
    vectors = np.ones((500, 20), np.float32)
    frozen = train_ivf(vectors, CLOSE)
    assert len(frozen.centroids) == 1
    assert len(ivf_pairs(vectors, CLOSE, frozen)[0]) == 500 * 499 // 2


def test_an_index_without_a_close_pair_to_train_on_still_probes_some_lists() -> None:
    frozen = train_ivf(np.eye(400, dtype=np.float32), CLOSE)
    assert frozen.nprobe == min(6, len(frozen.centroids))
    assert frozen.recall == 1.0


def test_vectors_in_a_mapped_file_are_read_and_not_changed(tmp_path: Path) -> None:
    vectors = clustered(700, 64, 0.2)
    np.save(tmp_path / "vectors.npy", vectors)
    mapped = np.load(tmp_path / "vectors.npy", mmap_mode="r")
    frozen = train_ivf(mapped, CLOSE)
    np.testing.assert_array_equal(frozen.centroids, train_ivf(vectors, CLOSE).centroids)
    expected = ivf_pairs(vectors, CLOSE, frozen, known=100)
    assert_same(ivf_pairs(mapped, CLOSE, frozen, known=100), expected)
    np.testing.assert_array_equal(mapped, vectors)
    assert vectors.flags.writeable


def test_vectors_without_a_direction_are_in_no_pair_and_in_no_list() -> None:
    vectors = np.ones((6, 3), np.float32)
    vectors[1], vectors[2, 1], vectors[4, 0] = 0, np.nan, np.inf
    frozen = train_ivf(vectors, CLOSE)
    assert np.isfinite(frozen.centroids).all()
    assert as_set(ivf_pairs(vectors, CLOSE, frozen)) == {(0, 3), (0, 5), (3, 5)}
    matches = ivf_pairs(vectors, CLOSE, frozen, known=4)
    assert as_set(matches) == {(0, 5), (3, 5)}


@pytest.mark.parametrize("shape", [(0, 0), (0, 384), (3, 0), (1, 384)])
def test_too_few_vectors_have_no_pairs(shape: tuple[int, int]) -> None:
    vectors = np.ones(shape, np.float32)
    matches = ivf_pairs(vectors, CLOSE, train_ivf(vectors, CLOSE))
    assert [len(column) for column in matches] == [0, 0, 0]


def test_pairs_of_two_early_rows_are_left_out() -> None:
    vectors = np.ones((5, 8), np.float32)
    frozen = random_index(3, 8, 1)
    early = np.array([True, False, True, False, True])
    matches = as_set(ivf_pairs(vectors, CLOSE, frozen, early=early, known=2))
    assert matches == {(0, 3), (1, 2), (1, 3), (1, 4), (2, 3), (3, 4)}


@pytest.mark.parametrize("threads", [1, 3])
def test_the_number_of_threads_does_not_show(threads: int) -> None:
    vectors = clustered(400, 40, 0.2)
    frozen = random_index(9, 40, 3)
    with small_blocks(queries=20, block=50):
        expected = ivf_pairs(vectors, CLOSE, frozen, threads=2)
        matches = ivf_pairs(vectors, CLOSE, frozen, threads=threads)
    assert_same(matches, expected)


def test_lists_are_met_in_the_order_of_their_distance() -> None:
    """On a grid: what differs by less than its step may be met in either order."""
    vectors = clustered(100, 96, 0.5)
    frozen = random_index(30, 96, 30)
    wide = vectors.astype(np.float64)
    cosines = wide @ frozen.centroids.T / np.sqrt((wide * wide).sum(axis=1))[:, None]
    for vector, row in zip(vectors, cosines, strict=True):
        nearest = nearest_lists(vector, frozen)
        assert sorted(nearest) == list(range(30))
        assert (np.diff(row[nearest]) < 0.002).all()


def test_an_index_of_another_model_is_refused() -> None:
    with pytest.raises(ValueError, match="have 5 dimensions, and the index has 4: train an"):
        ivf_pairs(np.ones((2, 5), np.float32), CLOSE, random_index(2, 4, 1))
