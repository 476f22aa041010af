"""Test reports from stored data: why a persona was removed, and what thresholds would keep."""

import unicodedata
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from persona_pipeline.dedup.comparison import compare_texts
from persona_pipeline.dedup.resources import Resources
from persona_pipeline.dedup.rules import Comparison, Thresholds
from persona_pipeline.dedup.scratch import open_scratch
from persona_pipeline.dedup.words.characters import RULES
from persona_pipeline.dedup.words.diff import compare_words, cut_words
from persona_pipeline.errors import MemoryLimitError, PipelineError, SettingsError
from persona_pipeline.hub.explain import explain
from persona_pipeline.hub.state import DedupState, read_dedup_state, shards_without_vectors
from persona_pipeline.hub.sweep import SweepStep, sweep_rows, sweep_thresholds
from persona_pipeline.store.store import Store
from tests.support.dedup_project import HUB, TEN, Project, changed


@pytest.fixture
def project(store: Store) -> Project:
    return Project(store)


def counts(steps: list[SweepStep]) -> list[tuple[float, int, int, bool]]:
    return [(step.threshold, step.kept, step.removed, step.is_chained) for step in steps]


def test_words_that_differ_are_marked_whatever_their_case_place_and_punctuation() -> None:
    differences = compare_words("A tide-table printer.", "a PRINTER, careful, tide")
    assert differences.first == [("A tide-", False), ("table", True), (" printer.", False)]
    assert differences.second == [
        ("a PRINTER, ", False),
        ("careful", True),
        (", tide", False),
    ]
    assert (differences.shared_count, differences.first_count, differences.second_count) == (
        3,
        1,
        1,
    )


def test_words_that_differ_and_follow_each_other_are_one_piece() -> None:
    differences = compare_words("one two three", "three")
    assert differences.first == [("one two", True), (" three", False)]
    assert compare_words("", "!").second == [("!", False)]


def test_writing_without_spaces_differs_by_pairs_of_characters() -> None:
    differences = compare_words("東京の塔", "東京")
    assert differences.first == [("東", False), ("京の塔", True)]
    assert (differences.shared_count, differences.first_count) == (1, 2)


speech = st.text("aAéE\u0301ßİς_7 -,\x00東京の塔ーกำ🧪", max_size=30)


@given(speech, speech)
def test_words_are_those_of_the_tokenizer_and_the_pieces_are_the_text(one: str, two: str) -> None:
    texts = [unicodedata.normalize("NFC", text) for text in (one, two)]
    with open_scratch(memory_limit=1_000_000_000, threads=1) as scratch:
        keyed = {"key": np.arange(2, dtype=np.uint64), "text": texts}
        scratch.load("texts", pl.DataFrame(keyed))
        words = scratch.fetch("dedup/words", RULES).rows()
    assert set(words) == {
        (number, word.word) for number, text in enumerate(texts) for word in cut_words(text)
    }
    differences = compare_words(one, two)
    for text, pieces in zip(texts, (differences.first, differences.second), strict=True):
        assert "".join(piece.text for piece in pieces) == text


def test_a_removed_persona_is_explained_by_its_keeper_and_its_other_neighbours(
    project: Project,
) -> None:
    project.deduplicate({"keeper": f"{TEN} {TEN} v", "gone": TEN, "near": changed(1)})
    explanation = explain(project.store, "gone")
    assert explanation.is_decided
    assert explanation.removal is not None
    assert explanation.removal.keeper is not None
    assert explanation.removal.keeper.persona_id == "keeper"
    assert (explanation.removal.layer, explanation.removal.threshold) == ("jaccard", 0.9)
    assert explanation.removal.similarity == pytest.approx(10 / 11)
    [other] = explanation.neighbours
    assert (other.persona_id, other.kept_id, other.cosine) == ("near", None, None)
    assert other.jaccard == pytest.approx(9 / 11)
    assert other.fuzzy_score is not None
    assert explanation.removed == []


def test_a_kept_persona_names_whom_it_removed_and_who_is_near(project: Project) -> None:
    personas = {"a": TEN, "same": TEN.upper(), "order": " ".join(reversed(TEN.split()))}
    project.deduplicate(
        personas | {"near": changed(1), "meant": "other words"}, a=[1.0, 0.0], meant=[0.99, 0.1]
    )
    explanation = explain(project.store, "a")
    assert explanation.removal is None
    assert [(other.persona_id, other.is_exact) for other in explanation.removed] == [
        ("meant", False),
        ("same", True),
        ("order", False),
    ]
    assert [other.persona_id for other in explanation.neighbours] == ["near"]


def test_an_id_may_be_cut_short_when_it_stays_the_only_one(project: Project) -> None:
    project.write({"abc1": "one two", "abc": "three four", "x1": "five six"})
    assert explain(project.store, "x").persona.persona_id == "x1"
    assert explain(project.store, "abc").persona.persona_id == "abc"
    assert not explain(project.store, "x").is_decided
    with pytest.raises(PipelineError, match=r"several .* begin with 'ab': abc, abc1; give more"):
        explain(project.store, "ab")
    with pytest.raises(PipelineError, match="no persona's id begins with 'zz'"):
        explain(project.store, "zz")


def test_a_sweep_decides_every_threshold_and_names_what_is_closest(project: Project) -> None:
    project.deduplicate({"a": TEN, "b": f"{TEN} v", "c": changed(1), "d": "u1 u2 u3"})
    steps = project.sweep(0.95, 0.9, 0.8, 0.7)
    assert counts(steps) == [
        (0.95, 4, 0, False),
        (0.9, 3, 1, False),
        (0.8, 2, 2, False),
        (0.7, 2, 2, False),
    ]
    assert {step.candidates for step in steps} == {4}
    first, second, third, _ = steps
    assert first.closest_kept["similarity"].to_list()[0] == pytest.approx(10 / 11)
    assert second.closest_removed["similarity"].to_list() == pytest.approx([10 / 11])
    assert third.closest_removed.columns == [
        "persona_id", "persona", "other_id", "other_persona", "similarity",
    ]  # fmt: skip


def test_the_configured_threshold_keeps_what_deduplication_kept(project: Project) -> None:
    personas = {f"p{number}": changed(number % 5) + f" z{number // 9}" for number in range(40)}
    project.deduplicate(personas, p1=[1.0, 0.0], p9=[1.0, 0.01])
    [step] = project.sweep(0.9)
    duplicates = project.store.query("from personas.duplicates")
    assert step.removed == len(duplicates) > 0
    assert step.kept == len(personas) - len(duplicates)


def test_thresholds_without_stored_pairs_are_decided_as_a_run_would(project: Project) -> None:
    texts = {"a": TEN, "b": changed(2), "c": changed(3), "d": "u1 u2 u3", "e": "other words"}
    project.deduplicate(texts, a=[1.0, 0.0], e=[1.0, 0.01])
    steps = project.sweep(0.7, 0.6, 0.5)
    assert counts(steps) == [(0.7, 4, 1, False), (0.6, 3, 2, False), (0.5, 2, 3, False)]
    assert counts(project.sweep(0.5)) == counts(steps)[2:]
    assert [step.semantic for step in steps] == [1, 1, 1]
    project.plan = replace(
        project.plan, thresholds=Thresholds(0.5, 0.95), comparison=Comparison(0.5, 0.95)
    )
    project.deduplicate(texts, a=[1.0, 0.0], e=[1.0, 0.01])
    assert len(project.store.query("from personas.duplicates")) == 3


def test_thresholds_without_stored_pairs_are_chained_where_there_are_many(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("persona_pipeline.hub.sweep.COMPARED_ANEW", 0)
    project.deduplicate({"a": TEN, "b": changed(2), "c": changed(3), "d": "u1 u2 u3"})
    steps = project.sweep(0.7, 0.6, 0.5)
    assert counts(steps) == [(0.7, 4, 0, False), (0.6, 3, 1, True), (0.5, 2, 2, True)]
    assert steps[0].closest_kept["similarity"].to_list()[0] == pytest.approx(8 / 12)
    assert steps[1].closest_removed["similarity"].to_list() == pytest.approx([8 / 12])
    assert steps[2].closest_removed["similarity"].to_list() == pytest.approx([7 / 13])
    assert counts(project.sweep(0.6, 0.5)) == counts(steps)[1:]


def test_the_same_words_are_close_to_no_threshold(project: Project) -> None:
    project.deduplicate({"a": TEN, "b": TEN.upper()})
    [step] = project.sweep(0.9)
    assert step.removed == 1
    assert step.closest_removed.is_empty()


@pytest.mark.parametrize("personas", [{}, {"a": TEN}])
def test_a_sweep_of_nobody_or_one_keeps_them(project: Project, personas: dict[str, str]) -> None:
    project.deduplicate(personas)
    for step in project.sweep(*sweep_thresholds()):
        assert (step.candidates, step.kept, step.removed) == (len(personas), len(personas), 0)


def state(project: Project, *, uncompared: bool = False, undecided: bool = False) -> DedupState:
    """Return the state of the one shard, which was compared and decided with `HUB`."""
    return DedupState(
        0.7,
        0.95,
        [],
        HUB,
        uncompared=["s1"] * uncompared,
        undecided=["s1"] * undecided,
        without_vectors=shards_without_vectors(project.store, project.plan),
    )


def test_a_shard_that_was_not_compared_is_named(project: Project) -> None:
    project.write({"a": TEN})
    assert read_dedup_state(project.store, project.plan).uncompared == ["s1"]
    project.deduplicate({"a": TEN})
    assert read_dedup_state(project.store, project.plan) == state(project)


def test_a_shard_without_vectors_is_named_where_meaning_is_asked_for(project: Project) -> None:
    project.deduplicate({"a": TEN})
    assert read_dedup_state(project.store, project.plan).without_vectors == ["s1"]
    by_words = replace(project.plan, comparison=Comparison(0.7, None))
    assert read_dedup_state(project.store, by_words).without_vectors == []
    project.deduplicate({"a": TEN}, a=[1.0, 0.0])
    assert read_dedup_state(project.store, project.plan).without_vectors == []


def test_the_state_names_the_settings_of_the_stored_data_not_the_present_ones(
    project: Project,
) -> None:
    project.deduplicate({"a": TEN, "b": changed(2)})
    stricter = replace(project.plan, thresholds=Thresholds(0.8, 0.95))
    assert read_dedup_state(project.store, stricter) == state(project, undecided=True)
    wider = replace(project.plan, comparison=Comparison(0.5, 0.9))
    assert read_dedup_state(project.store, wider) == state(project, uncompared=True)
    project.plan = wider
    assert counts(project.sweep(0.7, 0.6)) == [(0.7, 2, 0, False), (0.6, 1, 1, False)]


def test_what_an_earlier_version_decided_is_not_guessed(project: Project) -> None:
    project.deduplicate({"a": TEN, "b": changed(2)})
    with project.store.transaction() as connection:
        connection.execute("update runs.compared set min_jaccard = null, min_cosine = null")
        connection.execute("update runs.resolved set jaccard_threshold = null")
    state = read_dedup_state(project.store, project.plan)
    assert (state.min_jaccard, state.min_cosine, state.thresholds) == (None, None, [])
    assert counts(project.sweep(0.7, 0.6)) == [(0.7, 2, 0, False), (0.6, 1, 1, False)]


@pytest.mark.parametrize("obstacle", ["memory", "minhash128", "depth"])
def test_low_thresholds_are_chained_where_comparing_all_is_no_way(
    project: Project, monkeypatch: pytest.MonkeyPatch, obstacle: str
) -> None:
    project.deduplicate({"a": TEN, "b": changed(2)})
    if obstacle == "minhash128":
        project.plan = replace(project.plan, comparison=Comparison(0.7, 0.95, method="minhash128"))
    if obstacle == "memory":
        errors = iter([MemoryLimitError("too many pairs"), None])

        def compare_or_fail(
            texts: pl.DataFrame, vectors: None, comparison: Comparison, resources: Resources
        ) -> tuple[pl.DataFrame, pl.DataFrame]:
            if error := next(errors):
                raise error
            return compare_texts(texts, vectors, comparison, resources)

        monkeypatch.setattr("persona_pipeline.hub.sweep.compare_texts", compare_or_fail)
    last = 0.3 if obstacle == "depth" else 0.6
    assert counts(project.sweep(0.7, last)) == [(0.7, 2, 0, False), (last, 1, 1, True)]


def test_thresholds_go_down_in_steps() -> None:
    assert sweep_thresholds(0.9, 0.7, 0.1) == [0.9, 0.8, 0.7]
    assert sweep_thresholds(0.5, 0.5, 0.1) == [0.5]
    assert len(sweep_thresholds()) == 12
    with pytest.raises(SettingsError, match="a sweep goes down"):
        sweep_thresholds(0.5, 0.9, 0.1)


def test_the_rows_of_a_sweep_go_into_its_table(project: Project) -> None:
    project.deduplicate({"a": TEN, "b": f"{TEN} v"})
    for _ in range(2):  # the second time it replaces its rows
        project.store.replace([sweep_rows(project.sweep(0.9, 0.5))], [], run_id="r")
    columns = "shard, threshold, candidates, kept, removed, exact, jaccard, is_chained"
    rows = project.store.query(f"select {columns} from personas.sweep order by threshold").rows()
    assert rows == [("all", 0.5, 2, 1, 1, 0, 1, False), ("all", 0.9, 2, 1, 1, 0, 1, False)]
