"""Test the storage that keeps its files open, beside Dagster's own."""

import sqlite3
from contextlib import closing
from pathlib import Path

import dagster as dg
from dagster._core.instance.ref import InstanceRef
from dagster._core.storage.sqlite_storage import DagsterSqliteStorage
from dagster._core.test_utils import create_run_for_test

from assets.instance import open_instance
from assets.instance_storage import OpenEventLog, OpenStorage
from persona_pipeline.settings import load_settings

ROOT = Path(__file__).parents[2]


def test_a_command_keeps_few_files_open_and_dagsters_own_storage_reads_them(
    tmp_path: Path,
) -> None:
    """A command has a run for each shard, each with a file of events: a thousand would not do."""
    settings = load_settings(data_dir=tmp_path)
    with open_instance(settings, ROOT) as instance:
        runs = [create_run_for_test(instance) for _ in range(4)]
        for run in [*runs, runs[0]]:
            instance.report_engine_event("It was here.", run)
        storage = instance.event_log_storage
        assert isinstance(storage, OpenEventLog)
        assert set(storage.engines) - {"index"} == {runs[0].run_id}
        counts = [len(instance.all_logs(run.run_id)) for run in runs]
        own = {"storage": {"sqlite": {"base_dir": str(settings.dagster_dir.absolute())}}}
        ref = InstanceRef.from_dir(str(settings.dagster_dir), config_dir=str(ROOT), overrides=own)
        with dg.DagsterInstance.from_ref(ref) as other:
            assert [len(other.all_logs(run.run_id)) for run in runs] == counts == [2, 1, 1, 1]
            assert len(other.get_runs()) == 4
    assert storage.engines == {}


def test_the_file_of_a_run_has_the_tables_that_dagster_gives_it(tmp_path: Path) -> None:
    tables = list[list[tuple[object, ...]]]()
    for storage in (OpenStorage, DagsterSqliteStorage):
        folder = tmp_path / storage.__name__
        opened = storage(str(folder))
        with opened.event_log_storage.run_connection("run"):  # type: ignore[attr-defined] # of SQLite
            pass
        opened.dispose()
        [path] = folder.rglob("run.db")
        with closing(sqlite3.connect(path)) as connection:
            tables.append(
                [
                    *connection.execute("select type, name, sql from sqlite_master order by 1, 2"),
                    *connection.execute("select version_num from alembic_version"),
                    *connection.execute("pragma journal_mode"),
                ]
            )
    assert tables[0] == tables[1]
    assert len(tables[0]) > 20
