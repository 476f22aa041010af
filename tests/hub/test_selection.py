"""Test diverse subsets of the hub: who is chosen, in which order, and how far apart they are."""

from collections.abc import Iterator, Sequence
from itertools import combinations, pairwise
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from persona_pipeline.errors import StoreError
from persona_pipeline.hub.selection import summarize_selection
from persona_pipeline.project import Project
from persona_pipeline.settings import load_settings
from persona_pipeline.synthesis.records import SynthesisPlan, read_personas
from tests.support.examples import FEWER
from tests.support.selection_project import (
    WORDS,
    Persona,
    SelectionProject,
    open_selection_project,
    people,
)

NOISE = 1e-5
"""Tolerance of distances in single precision."""


@pytest.fixture
def project(empty_database: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SelectionProject]:
    with open_selection_project(empty_database, monkeypatch) as project:
        yield project


@st.composite
def hubs(draw: st.DrawFn) -> list[Persona]:
    """Short texts of few words, so that some are similar; some have no vector, or the same one.

    The first in rank is different and has one.
    """
    vectors = st.tuples(*[st.integers(-2, 2).map(float)] * 3) | st.none()
    texts = st.lists(st.sampled_from(WORDS[:7]), min_size=1, max_size=4).map(" ".join)
    drawn = draw(st.lists(st.tuples(texts, st.integers(1, 3), vectors), max_size=15))
    first = Persona("first", "one two three", 0, (1.0, 0.0, 0.0))
    return [first, *(Persona(f"p{number:02}", *one) for number, one in enumerate(drawn))]


def jaccard(left: str, right: str) -> float:
    a, b = set(left.split()), set(right.split())
    return len(a & b) / len(a | b)


def cosine_distance(left: Sequence[float], right: Sequence[float]) -> float:
    a, b = np.array(left, np.float64), np.array(right, np.float64)
    return float(1 - a @ b / np.linalg.norm(a) / np.linalg.norm(b))


LAW = settings(FEWER, suppress_health_check=[HealthCheck.function_scoped_fixture])
"""An example writes a hub of several shards, and selects from it."""


@LAW
@given(
    hub=hubs(),
    count=st.integers(1, 12),
    thresholds=st.sampled_from([[], [0.5], [0.8, 0.6, 0.4]]),
    method=st.sampled_from(["farthest", "first"]),
)
def test_the_chosen_are_of_the_hub_no_more_than_asked_for_and_unlike_each_other(
    project: SelectionProject, hub: list[Persona], count: int, thresholds: list[float], method: str
) -> None:
    project.write(hub)
    chosen = [name for name, _ in project.select(count=count, thresholds=thresholds, method=method)]
    texts = {one.persona_id: one.persona for one in hub}
    pairs = combinations([texts[name] for name in chosen], 2)
    assert len(set(chosen)) == len(chosen) <= count
    assert set(chosen) <= set(texts)
    if thresholds:
        assert all(jaccard(*pair) < thresholds[-1] for pair in pairs)
    else:
        assert len(chosen) == min(count, len(hub))


@LAW
@given(hub=hubs(), seed=st.integers(0, 3), shuffle=st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(
    project: SelectionProject, hub: list[Persona], seed: int, shuffle: Random
) -> None:
    project.write(hub)
    first = project.select(count=5, seed=seed)
    project.write(shuffle.sample(hub, len(hub)))
    assert project.select(count=5, seed=seed) == first


@LAW
@given(seed=st.integers(0, 1000), count=st.integers(1, 20))
def test_each_is_the_farthest_from_those_before_it_and_says_how_far(
    project: SelectionProject, seed: int, count: int
) -> None:
    hub = people(20, seed)
    project.write(hub)
    chosen = project.select(count=count, seed=seed)
    vectors = {one.persona_id: one.vector or () for one in hub}
    distances = [distance for _, distance in chosen[1:] if distance is not None]
    assert chosen[0][1] is None
    assert len(distances) == count - 1
    assert all(later <= earlier + NOISE for earlier, later in pairwise(distances))
    for place, (name, distance) in enumerate(chosen[1:], start=1):
        before = [vectors[other] for other, _ in chosen[:place]]
        nearest = {
            other: min(cosine_distance(vector, one) for one in before)
            for other, vector in vectors.items()
        }
        assert distance == pytest.approx(nearest[name], abs=NOISE)
        assert nearest[name] == pytest.approx(max(nearest.values()), abs=NOISE)


def test_another_seed_chooses_others_and_the_same_seed_the_same(project: SelectionProject) -> None:
    project.write(people(30))
    result = [tuple(project.select(count=4, seed=seed)) for seed in (0, 1, 2, 3, 0)]
    assert len(set(result[:4])) > 2
    assert result[4] == result[0]


def test_the_first_of_a_selection_are_the_selection_of_fewer(project: SelectionProject) -> None:
    project.write(people(30))
    assert project.select(count=10)[:4] == project.select(count=4)


def test_without_farthest_the_first_in_rank_are_chosen_without_a_distance(
    project: SelectionProject,
) -> None:
    project.write(people(9))
    chosen = project.select(count=4, method="first")
    assert {name for name, _ in chosen[:3]} == {"p00", "p03", "p06"}
    assert chosen[3][0] in {"p01", "p04", "p07"}
    assert [distance for _, distance in chosen] == [None] * 4


def test_thresholds_alone_keep_all_that_are_left_in_rank(project: SelectionProject) -> None:
    texts = ["w1 w2 w3", "w1 w2 w4", "w5 w6", "w7", "w5 w6 w7"]
    project.write([Persona(f"p{n}", text, n, None) for n, text in enumerate(texts)])
    assert project.select(thresholds=[0.6, 0.5]) == [("p0", None), ("p2", None), ("p3", None)]
    assert project.removed == {0.6: 1, 0.5: 1}


def test_where_there_are_fewer_than_asked_for_all_are_taken(project: SelectionProject) -> None:
    project.write(people(5))
    assert len(project.select(count=100)) == 5
    project.write([])
    assert project.select(count=100) == []


def test_personas_without_a_vector_come_last_in_rank(project: SelectionProject) -> None:
    nobody = [
        Persona("x1", "first in shard one", 1, None),
        Persona("x2", "zero has no direction", 2, (0.0, 0.0, 0.0, 0.0)),
        Persona("x3", "another length", 3, (1.0, 2.0)),
    ]
    project.write([*nobody, *people(4)])
    chosen = project.select(count=7)
    assert [name for name, _ in chosen[4:]] == ["x1", "x2", "x3"]
    assert [distance for _, distance in chosen[4:]] == [None] * 3


def test_a_hub_without_vectors_is_an_error_that_says_what_to_do(project: SelectionProject) -> None:
    project.write([Persona("x", "nobody", 0, None)])
    message = r"none of the 1 personas has a vector of 'fake/embedder': run .*--method first"
    with pytest.raises(StoreError, match=message):
        project.select(count=1)


def test_a_selection_made_again_leaves_nothing_of_the_former_and_all_of_the_others(
    project: SelectionProject,
) -> None:
    project.write(people(9))
    other = project.select("other", count=9)
    project.select(count=9)
    shrunk = project.select(count=1)
    assert len(shrunk) == 1
    assert project.selected() == shrunk
    assert project.selected("other") == other


def test_distances_are_computed_across_blocks(
    project: SelectionProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write(people(20))
    whole = project.select(count=20)
    monkeypatch.setattr("persona_pipeline.hub.selection.BLOCK", 3)
    assert project.select(count=20) == whole


def test_the_summary_has_the_smallest_and_the_median_distance(project: SelectionProject) -> None:
    angles = [("a", (1.0, 0.0)), ("b", (0.0, 1.0)), ("c", (-1.0, 0.0)), ("d", (0.0, -1.0))]
    project.write([Persona(name, f"person {name}", 0, vector) for name, vector in angles])
    project.select(count=4)
    result = summarize_selection(project.store, "diverse", 2)
    assert (result.count, result.smallest, result.median) == (4, 1.0, 1.0)
    assert result.first.columns == ["place", "persona", "distance"]
    assert result.first["place"].to_list() == [0, 1]
    nothing = summarize_selection(project.store, "nothing", 2)
    assert (nothing.count, nothing.smallest, nothing.median) == (0, None, None)


def test_a_domain_reads_the_hub_or_its_selection(project: SelectionProject) -> None:
    project.write(people(9))
    plan = SynthesisPlan("fake/demo", selection="diverse")
    with pytest.raises(StoreError, match="'diverse', named in persona_sources, was never made"):
        read_personas(project.store, plan, "s0")
    chosen = {name for name, _ in project.select(count=4)}
    offered = [
        set(read_personas(project.store, plan, f"s{number}")["persona_id"]) for number in range(3)
    ]
    assert set.union(*offered) == chosen
    assert len(read_personas(project.store, SynthesisPlan("fake/demo"), "s0")) == 3


def test_a_run_knows_which_of_its_selections_have_nobody(project: SelectionProject) -> None:
    named = {
        "data_dir": project.settings.data_dir,
        "persona_sources": {"math": "diverse", "npc": "few", "tool": "few"},
    }
    assert Project(load_settings(**named)).unmade_selections() == ["diverse", "few"]
    assert Project(load_settings(**named, domains=["npc"])).unmade_selections() == ["few"]
    project.write(people(9))
    assert project.select(count=4)
    assert Project(load_settings(**named)).unmade_selections() == ["few"]
    project.write([Persona("new", "someone new", 0, None)])
    assert Project(load_settings(**named)).unmade_selections() == ["diverse", "few"]


def test_a_selection_whose_personas_have_left_the_hub_is_as_good_as_none(
    project: SelectionProject,
) -> None:
    project.write(people(9))
    project.select(count=4)
    project.write([Persona("new", "someone new", 0, None)])
    with pytest.raises(StoreError, match="persona-pipeline select diverse"):
        read_personas(project.store, SynthesisPlan("fake/demo", selection="diverse"), "s0")
