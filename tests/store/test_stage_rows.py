"""The rows of a stage: which are replaced, which stay, and when a stage is behind."""

from datetime import UTC, datetime
from pathlib import Path

import polars as pl
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from persona_pipeline.sql import content_query
from persona_pipeline.store.stage_rows import FunnelCounts, StageRows
from persona_pipeline.store.store import Store
from tests.support.examples import FEWER
from tests.support.stored_rows import hub, rejected, rows_of


def test_a_stage_replaces_only_its_own_shard(store: Store) -> None:
    store.replace([hub("s1", "a", "b"), hub("s2", "c")], [], run_id="r1")
    store.replace([hub("s1", "d")], [], run_id="r2")
    matches = rows_of(store, "select shard, persona_id, run_id from personas.hub order by all")
    assert matches == [("s1", "d", "r2"), ("s2", "c", "r1")]


def candidates(shard: str, *rows: tuple[str, str | None, int | None]) -> StageRows:
    schema = {"persona_id": pl.String, "persona": pl.String, "word_count": pl.Int64}
    frame = pl.DataFrame(rows, schema=schema, orient="row")
    return StageRows(shard, "quality_rules", {"personas.candidates": frame})


def vectors(shard: str, rows: list[tuple[str, list[float]]]) -> StageRows:
    frame = pl.DataFrame(rows, schema=["persona_id", "embedding"], orient="row")
    return StageRows(shard, "embeddings", {"personas.embeddings": frame})


def test_candidates_and_vectors_that_are_as_they_were_keep_the_time_that_wrote_them(
    store: Store,
) -> None:
    written = (
        "select persona_id, run_id, created_at from personas.candidates"
        " union all select persona_id, run_id, created_at from personas.embeddings order by all"
    )
    a, b = ("a", "A baker.", 2), ("b", None, None)
    store.replace([candidates("s1", a, b), vectors("s1", [("a", [1.0, 0.5])])], [], run_id="r1")
    before = rows_of(store, written)

    store.replace([candidates("s1", b, a), vectors("s1", [("a", [1.0, 0.5])])], [], run_id="r2")
    assert rows_of(store, written) == before  # in any order

    other = ("a", "A miller.", 2)
    store.replace(
        [candidates("s1", other, b), vectors("s1", [("a", [1.0, 0.25])])], [], run_id="r3"
    )
    assert {run for _, run, _ in rows_of(store, written)} == {"r3"}


@given(
    stored=st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from(["x", None])), max_size=3),
    new=st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from(["x", None])), max_size=3),
)
@settings(FEWER, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_rows_are_written_again_exactly_where_they_differ(
    store: Store, stored: list[tuple[str, str | None]], new: list[tuple[str, str | None]]
) -> None:
    for run, rows in (("r0", [("z", None)]), ("r1", stored), ("r2", new)):
        store.replace([candidates("s1", *((*row, 1) for row in rows))], [], run_id=run)
    stored_now = rows_of(store, "select persona_id, persona, run_id from personas.candidates")
    assert sorted(map(str, (row[:2] for row in stored_now))) == sorted(map(str, new))
    are_same = sorted(stored, key=str) == sorted(new, key=str)
    assert {run for *_, run in stored_now} <= {"r1" if are_same else "r2"}


def test_a_column_of_any_name_tells_rows_apart(store: Store) -> None:
    with store.connect(read_only=True) as connection:
        (first,), (second,), (third,) = (
            connection.execute(content_query(f"select 'x' as content, {value} as answer"))
            .pl()
            .rows()
            for value in (1, 1, 2)
        )
    assert first == second != third


def test_in_a_shared_table_a_stage_replaces_only_its_own_rows(store: Store) -> None:
    first = [rejected("s1", "one", "a"), rejected("s1", "two", "b"), rejected("s2", "one", "c")]
    store.replace(first, [], run_id="r1")
    store.replace([rejected("s1", "one", rows_in=4)], [], run_id="r2")
    matches = rows_of(store, "select shard, stage, persona_id from personas.rejected order by all")
    assert matches == [("s1", "two", "b"), ("s2", "one", "c")]
    counts = rows_of(store, "select shard, stage, rows_in, run_id from runs.stages order by all")
    assert counts == [("s1", "one", 4, "r2"), ("s1", "two", 9, "r1"), ("s2", "one", 9, "r1")]


def test_the_same_rows_twice_are_there_once(store: Store, journal: Path) -> None:
    for _ in range(2):
        store.replace([hub("s1", "a"), rejected("s1", "one", "b")], [journal], run_id="r")
    for table, count in (("personas.hub", 1), ("runs.stages", 1), ("llm.calls", 2)):
        assert rows_of(store, f"select count(*) from {table}") == [(count,)]


def test_columns_that_a_stage_does_not_fill_are_null_and_every_row_says_when(store: Store) -> None:
    store.replace([hub("s1", "a")], [], run_id="r")
    sql = "select persona, hop, created_at > now() - interval 1 minute from personas.hub"
    assert rows_of(store, sql) == [(None, None, True)]


def stage_of(stage: str, table: str, *ids: str) -> StageRows:
    column = "document_id" if table == "corpus.documents" else "persona_id"
    frame = pl.DataFrame({column: list(ids)}, schema={column: pl.String})
    return StageRows("s1", stage, {table: frame}, FunnelCounts(2, 2))


def current_stages(store: Store) -> dict[str, bool]:
    return dict(store.query("select stage, is_current from marts.funnel").iter_rows())


def test_a_stage_is_behind_when_as_many_but_other_rows_came_before_it(store: Store) -> None:
    store.replace([stage_of("corpus", "corpus.documents", "a", "b")], [], run_id="r")
    store.replace([stage_of("text_to_persona", "personas.extracted", "p", "q")], [], run_id="r")
    assert current_stages(store)["text_to_persona"]
    store.replace([stage_of("corpus", "corpus.documents", "b", "a")], [], run_id="r")
    assert current_stages(store)["text_to_persona"]
    store.replace([stage_of("corpus", "corpus.documents", "a", "c")], [], run_id="r")
    assert not current_stages(store)["text_to_persona"]
    store.replace([stage_of("text_to_persona", "personas.extracted", "p", "q")], [], run_id="r")
    assert current_stages(store)["text_to_persona"]


def test_a_stage_is_behind_when_its_input_was_written_while_it_worked(store: Store) -> None:
    began = datetime.now(UTC).replace(tzinfo=None)
    store.replace([stage_of("corpus", "corpus.documents", "a", "b")], [], run_id="r")
    late = [stage_of("text_to_persona", "personas.extracted", "p", "q")]
    store.replace(late, [], run_id="r", read_at=began)
    assert not current_stages(store)["text_to_persona"]


def test_stages_of_before_there_were_versions_are_judged_by_their_counts(store: Store) -> None:
    store.replace([stage_of("corpus", "corpus.documents", "a", "b")], [], run_id="r")
    store.replace([stage_of("text_to_persona", "personas.extracted", "p", "q")], [], run_id="r")
    with store.transaction() as connection:
        connection.execute("update runs.stages set input_version = null, output_version = null")
    assert current_stages(store)["text_to_persona"]
    store.replace([stage_of("corpus", "corpus.documents", "a")], [], run_id="r")
    assert not current_stages(store)["text_to_persona"]
