"""Backups: what comes back, what is refused, and what is kept aside."""

import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from persona_pipeline.errors import StoreError
from persona_pipeline.llm.gateway.journal import Journal
from persona_pipeline.project import Project
from persona_pipeline.settings import Settings, load_settings
from persona_pipeline.store.backup import back_up, restore
from persona_pipeline.store.store import Store
from persona_pipeline.synthesis.domain import load_domains
from persona_pipeline.synthesis.tables import table_columns
from tests.support.stored_rows import ROOT, held, hub, rows_of, snapshot_rows, some_calls


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A data directory with two personas, an answer in the journal and a staged shard."""
    result = load_settings(data_dir=tmp_path / "data", lock_timeout=0.2)
    store = store_of(result)
    store.migrate()
    store.replace([hub("s1", "a", "b")], [], run_id="r")
    with Journal(result.journal_dir) as journal:
        journal.append(some_calls(1)[0])
    result.staging_dir.mkdir()
    (result.staging_dir / "s1.parquet").write_bytes(b"staged")
    return result


def store_of(settings: Settings) -> Store:
    return Store(settings.database, settings.snapshot, lock_timeout=0.2)


def files_of(settings: Settings) -> dict[str, bytes]:
    folders = (settings.journal_dir, settings.staging_dir)
    return {path.name: path.read_bytes() for folder in folders for path in folder.iterdir()}


@pytest.mark.parametrize("name", ["all.tar", "all.tar.gz", "all.tgz"])
def test_what_is_restored_is_what_was_backed_up(
    settings: Settings, tmp_path: Path, name: str
) -> None:
    back_up(settings, Project(settings).database, tmp_path / name)
    other = load_settings(data_dir=tmp_path / "other")

    restore(other, Project(other).database, tmp_path / name)

    assert rows_of(store_of(other), "select persona_id from personas.hub") == [("a",), ("b",)]
    assert files_of(other) == files_of(settings)
    assert sorted(path.name for path in other.data_dir.iterdir()) == sorted(
        ["journal", "pipeline.duckdb", "published.duckdb", "shards"]
    )


def test_a_backup_of_a_newer_program_is_refused_before_anything_is_moved(
    settings: Settings, tmp_path: Path
) -> None:
    newer = load_settings(data_dir=tmp_path / "newer")
    store = store_of(newer)
    store.migrate()
    with store.transaction() as connection:
        connection.execute("insert into schema_migrations values (99, now()::timestamp)")
    back_up(newer, store, tmp_path / "newer.tar")
    before = {path: path.read_bytes() for path in settings.data_dir.rglob("*") if path.is_file()}

    with pytest.raises(StoreError, match=r"newer\.tar has schema version 99"):
        restore(settings, store_of(settings), tmp_path / "newer.tar", replace=True)

    after = {path: path.read_bytes() for path in settings.data_dir.rglob("*") if path.is_file()}
    assert after == before


def test_a_store_that_is_in_use_gets_the_tables_that_the_restored_database_lacks(
    settings: Settings, tmp_path: Path
) -> None:
    back_up(settings, Project(settings).database, tmp_path / "all.tar")
    store = store_of(settings)
    store.migrate()
    columns = table_columns(load_domains()["math"])
    store.add_table("synthetic.later", columns)

    restore(settings, store, tmp_path / "all.tar", replace=True)
    store.add_table("synthetic.later", columns)

    assert rows_of(store, "select count(*) from synthetic.later") == [(0,)]


def test_data_that_is_there_is_not_overwritten_and_with_replace_kept_aside(
    settings: Settings, tmp_path: Path
) -> None:
    back_up(settings, Project(settings).database, tmp_path / "all.tar")
    store_of(settings).replace([hub("s1", "c")], [], run_id="r")
    with pytest.raises(StoreError, match="is there already: use --replace"):
        restore(settings, Project(settings).database, tmp_path / "all.tar")

    restore(settings, Project(settings).database, tmp_path / "all.tar", replace=True)

    assert rows_of(store_of(settings), "select persona_id from personas.hub") == [("a",), ("b",)]
    [old] = settings.data_dir.glob("replaced-*")
    aside = Store(old / "pipeline.duckdb", old / "published.duckdb")
    assert rows_of(aside, "select persona_id from personas.hub") == [("c",)]


def test_nothing_is_replaced_while_a_run_holds_the_database(
    settings: Settings, tmp_path: Path
) -> None:
    back_up(settings, Project(settings).database, tmp_path / "all.tar")
    with held(store_of(settings)), pytest.raises(StoreError, match="is held by process"):
        restore(settings, Project(settings).database, tmp_path / "all.tar", replace=True)
    assert not list(settings.data_dir.glob("re*-*"))


def test_a_damaged_backup_changes_nothing(settings: Settings, tmp_path: Path) -> None:
    path = tmp_path / "all.tar"
    back_up(settings, Project(settings).database, path)
    content = bytearray(path.read_bytes())
    content[content.rindex(b"staged")] ^= 1
    path.write_bytes(content)
    before = settings.database.read_bytes()
    with pytest.raises(StoreError, match=r"is damaged: shards/s1\.parquet is not what was"):
        restore(settings, Project(settings).database, path, replace=True)
    assert settings.database.read_bytes() == before
    assert not list(settings.data_dir.glob("re*-*"))


def restore_into(folder: Path, path: Path) -> None:
    settings = load_settings(data_dir=folder)
    restore(settings, Project(settings).database, path)


@pytest.mark.parametrize("content", [b"", b"no archive", b"\x1f\x8b broken"])
def test_what_is_no_backup_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "all.tar"
    path.write_bytes(content)
    with pytest.raises(StoreError, match=r"all\.tar is no whole backup"):
        restore_into(tmp_path / "data", path)


def test_an_archive_cannot_write_outside_the_data_directory(tmp_path: Path) -> None:
    path = tmp_path / "evil.tar"
    with tarfile.open(path, "w") as archive:
        archive.addfile(tarfile.TarInfo("../outside.txt"))
    with pytest.raises(StoreError, match=r"evil\.tar is no whole backup"):
        restore_into(tmp_path / "data", path)
    assert not (tmp_path / "outside.txt").exists()


def test_a_backup_needs_data_a_known_ending_and_a_free_name(
    settings: Settings, tmp_path: Path
) -> None:
    nothing = load_settings(data_dir=tmp_path / "none")
    with pytest.raises(StoreError, match=r"there is no .* to back up"):
        back_up(nothing, Project(nothing).database, tmp_path / "all.tar")
    with pytest.raises(StoreError, match=r"must end in \.tar, \.tar\.gz or \.tgz"):
        back_up(settings, Project(settings).database, tmp_path / "all.zip")
    (tmp_path / "all.tar").write_bytes(b"mine")
    with pytest.raises(StoreError, match="is there already: choose another name"):
        back_up(settings, Project(settings).database, tmp_path / "all.tar")
    with pytest.raises(StoreError, match="cannot be written"):
        back_up(settings, Project(settings).database, tmp_path / "no" / "all.tar")


def test_a_lost_or_broken_database_is_restored_beside_what_is_left(
    settings: Settings, tmp_path: Path
) -> None:
    back_up(settings, Project(settings).database, tmp_path / "all.tar")
    for spoil in (settings.database.unlink, lambda: settings.database.write_bytes(b"broken")):
        spoil()
        settings.database.with_name("pipeline.duckdb.wal").write_bytes(b"left behind")
        with pytest.raises(StoreError, match="is there already: use --replace"):
            restore(settings, Project(settings).database, tmp_path / "all.tar")
        restore(settings, Project(settings).database, tmp_path / "all.tar", replace=True)
        matches = rows_of(store_of(settings), "select persona_id from personas.hub")
        assert matches == [("a",), ("b",)]
        assert (settings.staging_dir / "s1.parquet").read_bytes() == b"staged"
        for old in settings.data_dir.glob("replaced-*"):
            shutil.rmtree(old)


def test_nothing_is_replaced_while_a_run_works_on_a_shard(
    settings: Settings, tmp_path: Path
) -> None:
    back_up(settings, Project(settings).database, tmp_path / "all.tar")
    holder = (
        "import sys\nfrom pathlib import Path\nfrom persona_pipeline.locks import exclusive_lock\n"
    )
    holder += "with exclusive_lock(Path(sys.argv[1])):\n"
    holder += "    print('in', flush=True)\n    sys.stdin.read()\n"
    command = [sys.executable, "-c", holder, str(settings.locks_dir / "s1")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT) as run:
        assert run.stdout is not None
        run.stdout.readline()
        with pytest.raises(StoreError, match=r"a run is going on: .*s1 is held"):
            restore(settings, Project(settings).database, tmp_path / "all.tar", replace=True)
        run.terminate()
    assert not list(settings.data_dir.glob("re*-*"))


def test_what_is_restored_is_published(settings: Settings, tmp_path: Path) -> None:
    back_up(settings, Project(settings).database, tmp_path / "all.tar")
    store_of(settings).replace([hub("s1", "c")], [], run_id="r")
    store_of(settings).publish()
    restore(settings, Project(settings).database, tmp_path / "all.tar", replace=True)
    assert snapshot_rows(store_of(settings), "select persona_id from personas.hub") == [
        ("a",),
        ("b",),
    ]
