"""Test shards of templates: where not all pairs fit into the memory, those that decide stay."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from persona_pipeline.cli.run_report import outdated_notes
from persona_pipeline.dedup import resources
from persona_pipeline.dedup.resources import PAIR_BYTES
from persona_pipeline.dedup.rules import Thresholds
from persona_pipeline.dedup.vectors import ivf
from persona_pipeline.dedup.vectors.search import EXACT_UP_TO
from persona_pipeline.hub.comparison import compare_shards
from persona_pipeline.hub.explain import explain
from persona_pipeline.hub.state import read_dedup_state
from persona_pipeline.hub.sweep import sweep
from persona_pipeline.store.store import Store
from tests.support.examples import FEWER
from tests.support.shard_project import Project, from_scratch

WORDS_ONLY = Thresholds(0.8, None)


@contextmanager
def room_for(pairs: int) -> Iterator[None]:
    """Let no more than so many pairs fit into the memory of a project that may take one byte."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resources, "LEAST_MEMORY", pairs * PAIR_BYTES)
        yield


@pytest.fixture(autouse=True)
def _no_snapshot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Store, "publish", lambda _: None)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path, WORDS_ONLY, memory_bytes=1)


@pytest.fixture
def fresh() -> Iterator[Project]:
    with TemporaryDirectory() as folder:
        yield Project(Path(folder), WORDS_ONLY)


def texts(seed: int, number: int, count: int) -> dict[str, str]:
    """Return texts of two templates, of one and of two own words, and some of random words."""
    random = Random(f"{seed} {number}")
    shared, long = ([f"w{place}" for place in range(*ends)] for ends in ((0, 11), (20, 38)))
    kinds = [
        lambda: [*shared, f"w{random.randrange(100, 160)}"],
        lambda: [*long, f"w{random.randrange(200, 210)}", f"w{random.randrange(300, 310)}"],
        lambda: random.sample(shared + long, 6),
    ]
    return {f"p{number}-{place}": " ".join(random.choice(kinds)()) for place in range(count)}


def stored(project: Project) -> list[tuple[object, ...]]:
    return project.store.query(
        "select shard, has_all_pairs, min_jaccard from runs.compared order by shard"
    ).rows()


def pairs_and_removed(project: Project) -> tuple[int, int]:
    [row] = project.store.query(
        "select (select count(*) from personas.pairs),"
        " (select count(*) from personas.duplicates where layer != 'exact')"
    ).rows()
    return row


@pytest.mark.parametrize("order", [(1, 2, 3), (3, 1, 2), ()])
@pytest.mark.parametrize("cosine", [None, 0.95])
def test_shards_of_templates_are_decided_as_with_all_pairs_in_any_order(
    project: Project, fresh: Project, order: tuple[int, ...], cosine: float | None
) -> None:
    project.thresholds = fresh.thresholds = Thresholds(0.8, cosine)
    shards = {number: texts(1, number, 60) for number in (1, 2, 3)}
    with room_for(100):
        for number in order:
            project.write(number, shards[number])
            project.deduplicate(number)
        duplicates = project.duplicates() if order else from_scratch(shards, project)
        pairs, removed = pairs_and_removed(project)
    assert duplicates == from_scratch(shards, fresh) != []
    assert [has_all for _, has_all, _ in stored(project)] == [False, False, False]
    assert [has_all for _, has_all, _ in stored(fresh)] == [True, True, True]
    assert pairs <= removed < pairs_and_removed(fresh)[0]


def test_a_shard_after_complete_ones_stores_only_the_pairs_that_decide(
    project: Project, fresh: Project
) -> None:
    shards = {1: texts(2, 1, 20), 2: texts(2, 2, 100), 3: texts(2, 3, 20)}
    with room_for(400):
        for number in (1, 2, 3):
            project.write(number, shards[number])
            project.deduplicate(number)
        state = read_dedup_state(project.store, project.plan)
    assert stored(project) == [("s1", True, 0.5), ("s2", False, 0.8), ("s3", False, 0.8)]
    assert state.with_few_pairs == ["s2", "s3"]
    assert (state.uncompared, state.undecided) == ([], [])
    assert project.duplicates() == from_scratch(shards, fresh)


def test_nothing_is_compared_again_while_nothing_changes(project: Project) -> None:
    with room_for(300):
        from_scratch({number: texts(3, number, 60) for number in (1, 2)}, project)
        assert compare_shards(project.store, project.plan) == []


def test_shards_that_an_earlier_version_compared_are_not_compared_again(project: Project) -> None:
    project.write(1, texts(3, 1, 10))
    project.deduplicate(1)
    with project.store.transaction() as connection:
        connection.execute("update runs.compared set has_all_pairs = null")
    assert compare_shards(project.store, project.plan) == []
    assert read_dedup_state(project.store, project.plan).with_few_pairs == []


def test_another_threshold_compares_templates_again(project: Project, fresh: Project) -> None:
    shards = {number: texts(4, number, 60) for number in (1, 2)}
    with room_for(300):
        from_scratch(shards, project)
        for jaccard in (0.9, 0.6):
            project.thresholds = fresh.thresholds = Thresholds(jaccard, None)
            project.deduplicate(1)
            assert project.duplicates() == from_scratch(shards, fresh)


def test_with_more_memory_another_threshold_stores_all_pairs(project: Project) -> None:
    shards = {number: texts(5, number, 60) for number in (1, 2)}
    with room_for(300):
        from_scratch(shards, project)
    assert compare_shards(project.store, project.plan) == []
    project.thresholds = Thresholds(0.85, None)
    project.deduplicate(1)
    assert [has_all for _, has_all, _ in stored(project)] == [True, True]


def test_decisions_that_are_out_of_date_are_made_before_later_shards_are_compared(
    project: Project, fresh: Project
) -> None:
    """The first shard is compared and not decided, as after a run that was cut off."""
    shards = {1: texts(6, 1, 20), 2: texts(6, 2, 100)}
    with room_for(400):
        project.write(1, shards[1])
        project.store.replace(compare_shards(project.store, project.plan), [], run_id="r")
        project.write(2, shards[2])
        project.deduplicate(2)
    assert stored(project) == [("s1", True, 0.5), ("s2", False, 0.8)]
    assert project.duplicates() == from_scratch(shards, fresh)


def test_a_keeper_that_goes_brings_back_the_next_of_its_template(project: Project) -> None:
    template = " ".join(f"w{number}" for number in range(11))
    shard = {f"b{number}": f"{template} w{100 + number}" for number in range(40)}
    with room_for(100):
        project.write(1, {"a": f"{template} w99"})
        project.write(2, shard)
        project.deduplicate(1)
        assert project.kept() == ["a"]
        project.write(1, {})
        project.deduplicate(1)
        assert len(project.kept()) == 1
        assert project.kept() != ["a"]


@pytest.mark.parametrize("cosine", [None, 0.95])
def test_a_sweep_over_templates_keeps_what_a_run_at_each_threshold_keeps(
    project: Project, fresh: Project, cosine: float | None
) -> None:
    project.thresholds = Thresholds(0.8, cosine)
    shards = {number: texts(7, number, 60) for number in (1, 2)}
    thresholds = [0.9, 0.8, 0.6, 0.4]
    with room_for(100):
        from_scratch(shards, project)
        steps = sweep(project.store, project.plan, thresholds)
    removed = list[int]()
    for jaccard in thresholds:
        fresh.thresholds = Thresholds(jaccard, cosine)
        removed.append(len(from_scratch(shards, fresh)))
    assert [step.removed for step in steps] == removed
    assert [step.is_chained for step in steps] == [False] * 4
    assert [len(step.closest_kept) for step in steps] == [0] * 4
    assert removed == sorted(removed)
    assert removed[0] < removed[-1]


def test_a_sweep_goes_down_to_thresholds_whose_pairs_do_not_fit(project: Project) -> None:
    """All pairs from 0.5 on fit; those from 0.35 on are not searched for all at once."""
    shared, own = [f"w{number}" for number in range(6)], 40
    shard = {
        f"p{number}": " ".join([*shared, *(f"w{100 * place + number}" for place in (1, 2, 3, 4))])
        for number in range(own)
    }
    with room_for(100):
        from_scratch({1: shard}, project)
        steps = sweep(project.store, project.plan, [0.8, 0.45, 0.4])
    assert [(step.kept, step.is_chained) for step in steps] == [(40, False), (40, True), (1, True)]


def test_it_is_said_which_shards_store_few_pairs_and_what_that_means(project: Project) -> None:
    with room_for(100):
        from_scratch({1: texts(8, 1, 60)}, project)
        plan = project.plan
        [note] = outdated_notes(read_dedup_state(project.store, plan), plan)
    assert note.startswith("Too many similar pairs for a dedup_memory of 1e-09 GB: s1. ")
    assert "'dedup sweep' compares all personas again" in note


def test_an_explanation_of_a_template_names_its_keeper(project: Project) -> None:
    template = " ".join(f"w{number}" for number in range(11))
    with room_for(100):
        project.write(1, {f"p{number}": f"{template} w{100 + number}" for number in range(40)})
        project.deduplicate(1)
    [keeper] = project.kept()
    gone = "p1" if keeper != "p1" else "p2"
    removal = explain(project.store, gone).removal
    assert removal is not None
    assert removal.kept_id == keeper
    assert removal.similarity == pytest.approx(11 / 13)
    assert len(explain(project.store, keeper).removed) == 39


@FEWER  # an example compares up to five shards, and all of them again from scratch
@given(
    st.integers(0, 10_000),
    st.lists(st.tuples(st.integers(1, 4), st.booleans(), st.sampled_from([0.8, 0.6])), max_size=3),
    st.sampled_from([8, EXACT_UP_TO]),
    st.sampled_from([40, 120, 400]),
)
def test_whatever_changes_and_whatever_fits_the_duplicates_are_those_from_scratch(
    seed: int, changes: list[tuple[int, bool, float]], exact_up_to: int, pairs: int
) -> None:
    with (
        TemporaryDirectory() as one,
        TemporaryDirectory() as other,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(ivf, "_LEAST_NPROBE", 1)
        thresholds, shards = Thresholds(0.8, 0.95), dict[int, dict[str, str]]()
        project = Project(Path(one), thresholds, exact_up_to=exact_up_to, memory_bytes=1)
        steps = [(1, False, 0.8), (2, False, 0.8), *changes]
        with room_for(pairs):
            for step, (number, is_emptied, jaccard) in enumerate(steps):
                thresholds = project.thresholds = Thresholds(jaccard, 0.95)
                shards[number] = {} if is_emptied else texts(seed + step, number, 25)
                project.write(number, shards[number])
                project.deduplicate(number)
        fresh = Project(Path(other), thresholds, exact_up_to=exact_up_to)
        assert project.duplicates() == from_scratch(shards, fresh)
