"""Migrations: new files are made, older ones are renewed, newer ones are left alone."""

from pathlib import Path

import pytest

from persona_pipeline.errors import StoreError
from persona_pipeline.store.store import Store
from tests.support.stored_rows import hub, rows_of, snapshot_rows


def test_migrating_twice_changes_nothing(store: Store) -> None:
    store.replace([hub("s1", "a")], [], run_id="r")
    before = (store.path.read_bytes(), store.snapshot.read_bytes())
    store.migrate()
    assert (store.path.read_bytes(), store.snapshot.read_bytes()) == before


def test_the_folder_of_a_new_database_is_made(tmp_path: Path) -> None:
    result = Store(tmp_path / "a" / "b" / "pipeline.duckdb", tmp_path / "a" / "b" / "p.duckdb")
    result.migrate()
    assert result.snapshot.is_file()


def test_a_file_with_older_views_gets_the_new_ones_and_keeps_its_rows(
    store: Store, journal: Path
) -> None:
    store.replace([hub("s1", "a")], [journal], run_id="r")
    with store.transaction() as connection:
        connection.execute("create or replace view marts.cost as select 1 as old")
        connection.execute("insert into schema_views values ('old', now())")
    store.migrate()
    assert rows_of(store, "select calls from marts.cost") == [(2,)]
    assert snapshot_rows(store, "select calls from marts.cost") == [(2,)]
    assert rows_of(store, "select persona_id from personas.hub") == [("a",)]


def test_a_database_of_a_newer_program_is_left_alone(store: Store) -> None:
    with store.transaction() as connection:
        connection.execute("insert into schema_migrations values (999, now())")
    message = r"pipeline\.duckdb has schema version 999, this program knows \d+: upgrade"
    with pytest.raises(StoreError, match=message):
        store.migrate()
