"""The statements of diverse subsets, and the funnel of a domain that draws from one."""

import duckdb
import polars as pl
import pytest

from persona_pipeline.hub.embeddings import LENGTHS_OF_PERSONAS_SQL
from persona_pipeline.hub.selection import SELECTED_COUNT_SQL, SHARDS_OF_SELECTION_SQL
from persona_pipeline.sql import read_sql
from tests.sql.conftest import Tables

SYNTHETIC = "select input_count, is_balanced, is_current from marts.funnel where stage = $stage"


@pytest.fixture
def selected(tables: Tables) -> Tables:
    """A hub of five in two shards; three of them, and one who has left it, are selected."""
    tables.add("corpus.shards", {"shard_number": 0}, {"shard_number": 1, "shard": "s2"})
    tables.add(
        "personas.hub",
        *({"persona_id": name, "persona": f"person {name}"} for name in ("b", "a", "c")),
        *({"persona_id": name, "persona": f"person {name}", "shard": "s2"} for name in ("e", "d")),
        origin="text_to_persona",
    )
    tables.add(
        "personas.selections",
        {"persona_id": "b", "place": 2, "distance": 0.5},
        {"persona_id": "d", "place": 0, "distance": None, "shard": "s2"},
        {"persona_id": "a", "place": 1, "distance": 0.75},
        {"persona_id": "gone", "place": 3, "distance": 0.25},
        name="diverse",
    )
    tables.add("personas.selections", {"persona_id": "c", "place": 0}, name="other")
    return tables


def test_selected_personas_of_a_shard_are_those_that_the_hub_still_has(selected: Tables) -> None:
    query = read_sql("personas/selected_of_shard")
    matches = {
        (shard, name): selected.rows(query, shard=shard, name=name)
        for shard in ("s1", "s2")
        for name in ("diverse", "other")
    }
    assert matches == {
        ("s1", "diverse"): [("a", "person a"), ("b", "person b")],
        ("s2", "diverse"): [("d", "person d")],
        ("s1", "other"): [("c", "person c")],
        ("s2", "other"): [],
    }


def test_a_selection_is_read_in_the_order_of_selection(selected: Tables) -> None:
    assert selected.rows(read_sql("personas/selected"), name="diverse") == [
        (0, "s2", "d", None, "person d"),
        (1, "s1", "a", 0.75, "person a"),
        (2, "s1", "b", 0.5, "person b"),
        (3, "s1", "gone", 0.25, None),
    ]


def test_the_shards_of_a_selection_and_how_many_it_has_in_the_hub(selected: Tables) -> None:
    shards, counting = SHARDS_OF_SELECTION_SQL, SELECTED_COUNT_SQL
    assert selected.rows(shards, name="diverse") == [("s1",), ("s2",)]
    assert selected.rows(shards, name="other") == [("s1",)]
    assert selected.rows(shards, name="none") == []
    selected.add("personas.selections", {"persona_id": "gone"}, name="lost")
    result = {name: selected.rows(counting, name=name) for name in ("diverse", "none", "lost")}
    assert result == {"diverse": [(3,)], "none": [(0,)], "lost": [(0,)]}


def test_the_hub_in_rank_has_what_decides_the_place(selected: Tables) -> None:
    selected.add("personas.candidates", {"persona_id": "a", "word_count": 7})
    assert selected.rows(read_sql("personas/ranked_hub"))[:2] == [
        ("s1", 0, "a", "person a", "text_to_persona", 7),
        ("s1", 0, "b", "person b", "text_to_persona", None),
    ]


def test_lengths_of_vectors_are_those_of_the_wanted_and_the_model(tables: Tables) -> None:
    tables.add(
        "personas.embeddings",
        {"persona_id": "b", "model": "m", "embedding": [2.0]},
        {"persona_id": "a", "model": "m", "embedding": [1.0]},
        {"persona_id": "a", "model": "other", "embedding": [9.0]},
        {"persona_id": "a", "model": "m", "embedding": [8.0], "shard": "s2"},
        {"persona_id": "c", "model": "m", "embedding": [3.0]},
    )
    wanted = pl.DataFrame({"shard": ["s1", "s1"], "persona_id": ["a", "b"]})
    tables.connection.register("wanted_personas", wanted)
    try:
        matches = tables.rows(LENGTHS_OF_PERSONAS_SQL, model="m")
    finally:
        tables.connection.unregister("wanted_personas")
    assert sorted(matches) == [("s1", "a", 1), ("s1", "b", 1)]


@pytest.mark.parametrize(
    ("source", "input_count", "is_current"),
    [
        (None, 3, True),
        (None, 2, False),
        ("diverse", 2, True),
        ("diverse", 3, False),
        ("other", 1, True),
        ("none", 0, True),
        ("none", 1, False),
    ],
)
def test_the_funnel_compares_a_domain_with_what_it_draws_from(
    selected: Tables, source: str | None, input_count: int, *, is_current: bool
) -> None:
    selected.add("synthetic.riddle", {"record_id": "r1", "persona_id": "a"})
    stage = {"stage": "synthetic.riddle", "input_count": input_count, "rows_in": 1}
    selected.add("runs.stages", {**stage, "source": source})
    matches = selected.rows(SYNTHETIC, stage="synthetic.riddle")
    assert matches == [(input_count, True, is_current)]


def test_a_selection_made_again_leaves_its_domain_behind(selected: Tables) -> None:
    stage = {"stage": "synthetic.riddle", "input_count": 2, "rows_in": 0, "source": "diverse"}
    selected.add("runs.stages", stage)
    selected.connection.execute("delete from personas.selections where persona_id = 'b'")
    assert selected.rows(SYNTHETIC, stage="synthetic.riddle") == [(2, True, False)]


def test_the_tables_exist(database: duckdb.DuckDBPyConnection) -> None:
    columns = database.sql("select * from personas.selections").columns
    assert columns == ["shard", "name", "persona_id", "place", "distance", "run_id", "created_at"]
