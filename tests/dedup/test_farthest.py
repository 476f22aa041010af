"""The farthest-point selection against the same by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from persona_pipeline.dedup.vectors import farthest
from persona_pipeline.dedup.vectors.farthest import farthest_points

Floats = NDArray[np.float32]


def select_by_hand(vectors: Floats, count: int, first: int) -> list[int]:
    """All distances after each pick; sums in the order of the dimensions."""
    wide = vectors.astype(np.float64)
    with np.errstate(all="ignore"):
        lengths = np.sqrt((wide * wide).sum(axis=1))
        units = (wide / lengths[:, None]).astype(np.float32)
    is_usable = np.isfinite(lengths) & (lengths > 0)
    units[~is_usable] = 0
    nearest = np.where(is_usable, np.float32(-2), np.float32(np.inf))
    picks = [first]
    while len(picks) < min(count, is_usable.sum()):
        sums = np.zeros(len(units), np.float32)
        for dimension in range(units.shape[1]):
            sums += units[:, dimension] * units[picks[-1], dimension]
        nearest = np.maximum(nearest, sums)
        nearest[picks[-1]] = np.inf
        picks.append(int(nearest.argmin()))
    return picks


@st.composite
def vector_sets(draw: st.DrawFn) -> Floats:
    """Coarse numbers, so that there are ties, copies and zeros."""
    shape = (draw(st.integers(1, 40)), draw(st.integers(1, 20)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    vectors = rng.standard_normal(shape) * 2
    if draw(st.booleans()):
        vectors = vectors.round()
    vectors[rng.random(len(vectors)) < 0.1, 0] = np.nan
    vectors[rng.random(len(vectors)) < 0.1] = 0
    return vectors.astype(np.float32)


@given(
    vectors=vector_sets(),
    count=st.integers(1, 50),
    seed=st.integers(),
    tile=st.sampled_from([1, 8, 16]),
    sorted_at=st.sampled_from([(), (2,), (3, 7, 20)]),
)
def test_each_pick_is_the_farthest_and_ties_go_to_the_lower_row(
    vectors: Floats, count: int, seed: int, tile: int, sorted_at: tuple[int, ...]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(farthest, "_TILE", tile)
        patch.setattr(farthest, "_SORTED_AT", sorted_at)
        picks = farthest_points(vectors, count, seed=seed).tolist()
    if picks:
        assert picks == select_by_hand(vectors, count, picks[0])
    else:
        assert not (np.isfinite(vectors).all(axis=1) & vectors.any(axis=1)).any()


@pytest.mark.parametrize("seed", range(5))
def test_one_of_each_group_comes_first(seed: int) -> None:
    angles = np.radians([0, 1, 2, 90, 91, 180])
    vectors = np.column_stack([np.cos(angles), np.sin(angles)]).astype(np.float32)
    picks = farthest_points(vectors, 3, seed=seed).tolist()
    assert {"aaabbc"[pick] for pick in picks} == {"a", "b", "c"}


def test_unusable_vectors_are_never_picked_and_a_high_count_returns_all_others() -> None:
    vectors = np.eye(5, dtype=np.float32)
    vectors[1], vectors[3, 0] = 0, np.inf
    assert sorted(farthest_points(vectors, 9, seed=3).tolist()) == [0, 2, 4]


@pytest.mark.parametrize("count", [0, 2])
def test_nothing_is_picked_from_nothing(count: int) -> None:
    assert farthest_points(np.zeros((4, 3), np.float32), count, seed=0).tolist() == []
    assert farthest_points(np.zeros((0, 3), np.float32), count, seed=0).tolist() == []
    assert farthest_points(np.zeros((3, 0), np.float32), count, seed=0).tolist() == []


def test_the_seed_draws_the_first_and_a_smaller_count_is_a_prefix() -> None:
    vectors = np.random.default_rng(0).standard_normal((500, 30)).astype(np.float32)
    runs = [farthest_points(vectors, 60, seed=seed).tolist() for seed in range(5)]
    assert len({picks[0] for picks in runs}) > 1
    assert farthest_points(vectors, 20, seed=2).tolist() == runs[2][:20]
    assert all(len(set(picks)) == 60 for picks in runs)


def test_copies_are_picked_last() -> None:
    vectors = np.random.default_rng(1).standard_normal((40, 8)).astype(np.float32)
    picks = farthest_points(np.concatenate([vectors, vectors]), 80, seed=5)
    assert len({pick % 40 for pick in picks[:40].tolist()}) == 40
    assert sorted(picks.tolist()) == list(range(80))
