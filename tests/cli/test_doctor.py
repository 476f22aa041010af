"""Test that the doctor describes a database and does not change it."""

from io import StringIO
from pathlib import Path

import duckdb
import pytest
from rich.console import Console

from persona_pipeline.cli import doctor
from persona_pipeline.errors import StoreError
from persona_pipeline.project import open_project
from persona_pipeline.settings import load_settings
from persona_pipeline.store.store import Store
from tests.support.stored_rows import hub
from tests.support.variables import CANARY


def findings(store: Store) -> list[doctor.Finding]:
    return list(doctor.check_store(open_project(data_dir=store.path.parent)))


def test_a_database_is_opened_and_counted(store: Store) -> None:
    store.replace([hub("s1", "a", "b")], [], run_id="r")
    [finding] = findings(store)
    assert finding.works
    assert finding.detail == f"{store.path} opens; 2 personas in the hub"


def test_an_older_database_is_named_and_left_as_it_is(store: Store) -> None:
    with store.transaction() as connection:
        connection.execute("delete from schema_views")
    before = store.path.read_bytes()
    [finding] = findings(store)
    assert finding.works
    assert finding.detail.endswith("of an older version: the next run brings it up to date")
    assert store.path.read_bytes() == before


def test_a_newer_database_is_refused(store: Store) -> None:
    with store.transaction() as connection:
        connection.execute("insert into schema_migrations values (99, now()::timestamp)")
    with pytest.raises(StoreError, match=r"has schema version 99, this program knows \d+: upgrade"):
        findings(store)


def test_no_database_yet_is_fine(tmp_path: Path) -> None:
    [finding] = findings(Store(tmp_path / "pipeline.duckdb", tmp_path / "published.duckdb"))
    assert finding.works
    assert "will be made by a run" in finding.detail


def test_a_snapshot_without_its_database_is_to_be_mended(store: Store) -> None:
    store.replace([hub("s1", "a")], [], run_id="r")
    store.path.unlink()
    with pytest.raises(StoreError, match="is not there, but its copy for readers is"):
        findings(store)


def test_a_database_without_tables_is_no_fault(tmp_path: Path) -> None:
    duckdb.connect(tmp_path / "pipeline.duckdb").close()
    [finding] = findings(Store(tmp_path / "pipeline.duckdb", tmp_path / "published.duckdb"))
    assert finding.works
    assert finding.detail.endswith("opens and has no tables yet: a run makes them")


def test_a_watched_folder_that_is_not_there_is_to_be_mended(tmp_path: Path) -> None:
    (tmp_path / "inbox").mkdir()
    (tmp_path / "inbox" / "a.txt").touch()
    watch = f"{tmp_path / 'inbox'},{tmp_path / 'none'}"
    there, missing = doctor.check_watch(open_project(watch=watch))
    assert (there.works, there.detail) == (True, f"{tmp_path / 'inbox'}: 1 files")
    assert not missing.works
    assert "there is no file or folder" in missing.detail


def test_no_secret_of_an_address_is_shown() -> None:
    place = f"https://me:{CANARY}@ex.org/pages.jsonl?signature={CANARY}"
    settings = load_settings(watch=[place], source=place, api_key=CANARY)
    output = StringIO()
    doctor.print_settings(Console(file=output, width=500), settings)
    assert "watch = https://ex.org/pages.jsonl" in output.getvalue()
    assert CANARY not in output.getvalue()
