"""The store: a commit is whole or nothing, and a domain's table gets what it lacks."""

from pathlib import Path

import duckdb
import polars as pl
import pytest

from persona_pipeline.errors import StoreError
from persona_pipeline.sql import read_sql
from persona_pipeline.store.stage_rows import StageRows
from persona_pipeline.store.store import Store
from persona_pipeline.synthesis.domain import Domain
from persona_pipeline.synthesis.tables import table_columns, table_name
from tests.support.stored_rows import commit_without_room, hub, interrupt, rows_of, snapshot_rows


def test_a_failed_commit_leaves_database_and_snapshot_as_they_were(
    store: Store, journal: Path
) -> None:
    store.replace([hub("s1", "a")], [], run_id="r1")
    before = store.snapshot.read_bytes()
    wrong = StageRows("s1", "hub", {"personas.hub": pl.DataFrame({"no_such_column": [1]})})
    with pytest.raises(duckdb.Error, match="no_such_column"):
        store.replace([hub("s1", "b"), wrong], [journal], run_id="r2")
    assert rows_of(store, "select persona_id from personas.hub") == [("a",)]
    assert rows_of(store, "select count(*) from llm.calls") == [(0,)]
    assert store.snapshot.read_bytes() == before
    assert {path.name for path in store.path.parent.iterdir()} == {
        "pipeline.duckdb",
        "published.duckdb",
        journal.name,
    }


def test_a_snapshot_whose_database_is_gone_is_never_replaced(store: Store) -> None:
    store.replace([hub("s1", "a")], [], run_id="r1")
    store.path.unlink()
    new = Store(store.path, store.snapshot)
    with pytest.raises(StoreError, match="is not there, but its copy for readers is"):
        new.migrate()
    store.path.write_bytes(store.snapshot.read_bytes())
    new.migrate()
    assert rows_of(new, "select persona_id from personas.hub") == [("a",)]


def test_an_interrupted_transaction_writes_nothing_and_lets_go(store: Store) -> None:
    with pytest.raises(KeyboardInterrupt):
        interrupt(store)
    assert rows_of(store, "select count(*) from corpus.shards") == [(0,)]


@pytest.mark.parametrize("rows", [2, 3000])
def test_a_commit_that_the_file_has_no_room_for_stays_in_its_log(store: Store, rows: int) -> None:
    assert "cannot be merged into" in commit_without_room(store, rows)
    assert store.path.with_name("pipeline.duckdb.wal").is_file()
    store.publish()
    assert snapshot_rows(store, "select count(*) from corpus.shards") == [(rows,)]


@pytest.mark.parametrize("rows", [100_000, 1_000_000])
def test_a_commit_without_any_room_is_refused_whole(store: Store, rows: int) -> None:
    """Many rows are refused before the commit already."""
    assert "pipeline.duckdb cannot be written: " in commit_without_room(store, rows)
    assert rows_of(store, "select count(*) from corpus.shards") == [(0,)]


def test_a_file_that_cannot_be_read_is_not_taken_for_the_database(store: Store) -> None:
    with (
        pytest.raises(StoreError, match=r"pipeline\.duckdb was not changed: .*none\.jsonl"),
        store.transaction() as connection,
    ):
        connection.execute("from read_json('/none.jsonl')")


def test_a_commit_stands_although_it_cannot_be_published(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    elsewhere = Store(store.path, store.path.parent / "none" / "published.duckdb")
    elsewhere.replace([hub("s1", "a")], [], run_id="r")
    assert rows_of(store, "select persona_id from personas.hub") == [("a",)]
    assert "published.duckdb cannot be written" in caplog.text


def test_a_table_gets_the_columns_that_it_lacks_and_keeps_its_rows(
    store: Store, riddle: Domain
) -> None:
    columns = table_columns(riddle)
    store.add_table("synthetic.riddle", columns)
    with store.transaction() as connection:
        connection.execute("insert into synthetic.riddle (record_id) values ('r1')")
    store.add_table("synthetic.riddle", {**columns, "select": "integer[]"})
    assert rows_of(store, 'select record_id, "select" from synthetic.riddle') == [("r1", None)]
    assert rows_of(store, "select domain, record_id from synthetic.records") == [("riddle", "r1")]
    before = store.path.read_bytes()
    store.add_table("synthetic.riddle", columns)
    assert store.path.read_bytes() == before


def test_a_table_that_is_there_gets_other_descriptions(store: Store, riddle: Domain) -> None:
    columns, comments = table_columns(riddle), read_sql("store/comments")
    store.add_table("synthetic.riddle", columns, {"": "One row is one riddle.", "answer": "Old."})
    store.add_table("synthetic.riddle", columns, {"answer": "Its answer."})
    matches = {
        column: comment
        for table, column, _, comment in rows_of(store, comments)
        if table == "synthetic.riddle" and comment
    }
    assert matches == {"": "One row is one riddle.", "answer": "Its answer."}
    before = store.path.read_bytes()
    store.add_table("synthetic.riddle", columns, {"answer": "Its answer."})
    assert store.path.read_bytes() == before


def test_records_are_one_view_over_the_tables_of_all_domains(store: Store, riddle: Domain) -> None:
    assert rows_of(store, "select * from synthetic.records") == []
    store.add_table(table_name(riddle), table_columns(riddle))
    store.add_table("synthetic.poem", {**table_columns(riddle), "lines": "bigint"})
    for name in ("riddle", "poem"):
        frame = pl.DataFrame({"record_id": [f"{name}-1"], "text": [name]})
        rows = StageRows("s1", f"synthetic.{name}", {f"synthetic.{name}": frame})
        store.replace([rows], [], run_id="r")
    expected = [("poem", "poem-1", "poem", "s1"), ("riddle", "riddle-1", "riddle", "s1")]
    sql = "select domain, record_id, text, shard from synthetic.records order by all"
    assert rows_of(store, sql) == expected
    store.publish()
    assert snapshot_rows(store, sql) == expected
