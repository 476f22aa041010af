"""Test deduplication in the store: shard by shard, in any order, equals from scratch."""

from collections.abc import Iterator
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from persona_pipeline.dedup.resources import Resources
from persona_pipeline.dedup.rules import Thresholds
from persona_pipeline.dedup.vectors import ivf, search
from persona_pipeline.dedup.vectors.ivf import IvfIndex, train_ivf
from persona_pipeline.dedup.vectors.search import EXACT_UP_TO, TextVectors, similar_texts
from persona_pipeline.hub import comparison
from persona_pipeline.hub.comparison import compare_shards
from persona_pipeline.hub.decisions import deduplicate
from persona_pipeline.hub.state import shards_without_vectors
from persona_pipeline.store.store import Store
from tests.support.examples import FEWER
from tests.support.shard_project import Project, from_scratch

WORDS = [f"w{number}" for number in range(30)]


@pytest.fixture(autouse=True)
def _no_snapshot(monkeypatch: pytest.MonkeyPatch) -> None:
    """Turn off copying after each commit: it is not tested, and takes most of the time."""
    monkeypatch.setattr(Store, "publish", lambda _: None)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


@pytest.fixture
def fresh() -> Iterator[Project]:
    with TemporaryDirectory() as folder:
        yield Project(Path(folder))


def texts(seed: int, number: int, count: int) -> dict[str, str]:
    """Return random texts of few words, some of them edited copies, a few in two shards."""
    random, texts_so_far = Random(f"{seed} {number}"), list[list[str]]()
    for _ in range(count):
        words = random.sample(WORDS, random.randint(3, 6))
        if texts_so_far and random.random() < 0.4:
            words = list(random.choice(texts_so_far))
            words[random.randrange(len(words))] = random.choice(WORDS)
        if random.random() < 0.2:
            words = WORDS[:4]
        texts_so_far.append(words)
    return {f"p{number}-{place}": " ".join(words) for place, words in enumerate(texts_so_far)}


def test_shard_by_shard_is_from_scratch(project: Project, fresh: Project) -> None:
    shards = {number: texts(1, number, 12) for number in (1, 2, 3)}
    for number, personas in shards.items():
        project.write(number, personas)
        project.deduplicate(number)
    assert project.duplicates() == from_scratch(shards, fresh) != []


def test_the_order_in_which_shards_arrive_does_not_matter(project: Project, fresh: Project) -> None:
    shards = {number: texts(2, number, 12) for number in (1, 2, 3)}
    for number in (3, 1, 2):
        project.write(number, shards[number])
        project.deduplicate(number)
    assert project.duplicates() == from_scratch(shards, fresh)


@FEWER  # an example compares up to eight shards, and all of them again from scratch
@given(
    st.integers(0, 10_000),
    st.lists(st.tuples(st.integers(1, 4), st.booleans()), max_size=6),
    st.sampled_from([8, EXACT_UP_TO]),
)
def test_whatever_is_written_again_or_emptied_the_tables_are_those_from_scratch(
    seed: int, changes: list[tuple[int, bool]], exact_up_to: int
) -> None:
    with (
        TemporaryDirectory() as one,
        TemporaryDirectory() as other,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(ivf, "_LEAST_NPROBE", 1)
        project, shards = Project(Path(one), exact_up_to=exact_up_to), dict[int, dict[str, str]]()
        for step, (number, is_emptied) in enumerate([(1, False), (2, False), *changes]):
            shards[number] = {} if is_emptied else texts(seed + step, number, 8)
            project.write(number, shards[number])
            project.deduplicate(number)
        fresh = Project(Path(other), exact_up_to=exact_up_to)
        assert project.duplicates() == from_scratch(shards, fresh)


def test_without_its_cache_a_project_finds_the_same(project: Project, fresh: Project) -> None:
    shards = {number: texts(3, number, 12) for number in (1, 2)}
    project.write(1, shards[1])
    project.deduplicate(1)
    for path in sorted((project.folder / "dedup").rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    project.write(2, shards[2])
    project.deduplicate(2)
    assert project.duplicates() == from_scratch(shards, fresh)


def test_another_threshold_is_decided_without_another_comparison(
    project: Project, fresh: Project
) -> None:
    shards = {number: texts(4, number, 12) for number in (1, 2)}
    from_scratch(shards, project)
    project.thresholds = fresh.thresholds = Thresholds(0.5, 0.95)
    assert compare_shards(project.store, project.plan) == []
    project.deduplicate(1)
    assert project.duplicates() == from_scratch(shards, fresh)


def test_a_keeper_that_goes_brings_back_whoever_it_removed(project: Project) -> None:
    project.write(1, {"a": "w1 w2 w3 w4"})
    project.write(2, {"b": "w1 w2 w3 w4", "c": "w4 w12 w20"})
    project.deduplicate(2)
    assert project.kept() == ["a", "c"]
    project.write(1, {})
    project.deduplicate(1)
    assert project.kept() == ["b", "c"]


def test_vectors_that_come_later_are_compared_then(project: Project, fresh: Project) -> None:
    shards = {number: texts(5, number, 12) for number in (1, 2)}
    project.write(1, shards[1])
    project.write(2, shards[2], has_vectors=False)
    project.deduplicate(1)
    assert {layer for _, _, _, layer, *_ in project.duplicates()} <= {
        "exact",
        "jaccard",
        "semantic",
    }
    project.write(2, shards[2])
    project.deduplicate(2)
    assert project.duplicates() == from_scratch(shards, fresh)


def test_later_shards_are_compared_by_an_index_of_the_early_ones(
    project: Project, fresh: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    learned = list[int]()

    def learn(vectors: NDArray[np.float32], min_cosine: float) -> IvfIndex:
        learned.append(len(vectors))
        return train_ivf(vectors, min_cosine)

    monkeypatch.setattr(search, "train_ivf", learn)
    project.exact_up_to = fresh.exact_up_to = 30
    shards = {number: texts(7, number, 20) for number in (1, 2, 3, 4)}
    for number, personas in shards.items():
        project.write(number, personas)
        project.deduplicate(number)
    early = len(set(shards[1].values()) | set(shards[2].values()))
    assert learned == [early, early]
    assert project.duplicates() == from_scratch(shards, fresh)
    assert "semantic" in {layer for _, _, _, layer, *_ in project.duplicates()}


@pytest.mark.parametrize("seed", [8, 9, 10])
def test_when_an_early_shard_changes_all_pairs_are_those_of_the_new_centroids(
    project: Project, fresh: Project, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr(ivf, "_LEAST_NPROBE", 1)
    monkeypatch.setattr(ivf, "_MISSED_IN", 2)
    project.exact_up_to = fresh.exact_up_to = 30
    shards = {number: texts(seed, number, 20) for number in (1, 2, 3)}
    from_scratch(shards, project)
    shards[2] = texts(seed + 100, 2, 25)
    project.write(2, shards[2])
    project.deduplicate(2)
    assert project.duplicates() == from_scratch(shards, fresh)
    assert project.pairs() == fresh.pairs()


def test_a_shard_that_is_emptied_teaches_no_centroids(project: Project, fresh: Project) -> None:
    project.exact_up_to = fresh.exact_up_to = 30
    shards = {number: texts(11, number, 20) for number in (1, 2, 3, 4)}
    from_scratch(shards, project)
    shards[2] = {}
    project.write(2, shards[2], has_vectors=False)  # those it had stay
    project.deduplicate(2)
    assert compare_shards(project.store, project.plan) == []
    from_scratch(shards, fresh)
    assert project.pairs() == fresh.pairs()


def test_no_database_is_open_while_texts_are_compared(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def compare(vectors: TextVectors, least: float, resources: Resources) -> pl.DataFrame:
        with project.store.transaction() as connection:
            connection.execute("select 1")
        return similar_texts(vectors, least, resources)

    project.store = Store(project.store.path, project.store.snapshot, lock_timeout=0.1)
    monkeypatch.setattr(comparison, "similar_texts", compare)
    from_scratch({1: texts(12, 1, 12)}, project)
    assert project.duplicates()


def test_nothing_is_compared_again_when_nothing_changed(project: Project) -> None:
    from_scratch({1: texts(6, 1, 12), 2: texts(6, 2, 12)}, project)
    before = project.duplicates()
    assert compare_shards(project.store, project.plan) == []
    project.deduplicate(2)
    assert project.duplicates() == before


def test_a_shard_whose_texts_have_no_words_is_compared_too(project: Project) -> None:
    project.write(1, {"a": "w1 w2 w3"})
    project.deduplicate(1)
    project.write(2, {"b": "...", "c": "...", "d": "!!!"}, has_vectors=False)
    project.deduplicate(2)
    assert len(project.kept()) == 3


def test_shards_without_vectors_are_named(project: Project) -> None:
    project.write(1, {"a": "w1 w2 w3"})
    project.write(2, {"b": "w4 w5 w6"}, has_vectors=False)
    assert shards_without_vectors(project.store, project.plan) == ["s2"]
    project.thresholds = Thresholds(0.7, None)
    assert shards_without_vectors(project.store, project.plan) == []


def test_a_shard_without_candidates_has_nothing_to_decide(project: Project) -> None:
    project.write(1, {"a": "w1 w2 w3"})
    project.deduplicate(1)
    [rows] = deduplicate(project.store, project.plan, "s9")
    assert rows.shard == "s9"
    assert rows.funnel is not None
    assert rows.funnel.rows_in == 0
