"""Test Dagster's runs, partitions and events in PostgreSQL, with the deployed file."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from tests.support.commands import ROOT, run_command
from tests.support.platform import Platform

pytest.importorskip("dagster_postgres", reason="not installed: uv sync --extra postgres")

from tests.support.postgres_server import postgres_programs, rows, serve_postgres

PROGRAMS = postgres_programs()
pytestmark = [
    pytest.mark.postgres,
    pytest.mark.skipif(
        PROGRAMS is None, reason="no PostgreSQL on this machine: apt-get install postgresql"
    ),
]
TRADES = ("mill", "forge", "dye")


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """Start a server, and set DAGSTER_HOME to a folder with the deployed file."""
    assert PROGRAMS is not None
    home = tmp_path / "home"
    home.mkdir()
    shutil.copy(ROOT / "deploy" / "dagster.postgres.yaml", home / "dagster.yaml")
    with serve_postgres(PROGRAMS) as environment:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("DAGSTER_HOME", str(home))
        monkeypatch.setenv("DAGSTER_LOCAL_DIR", str(tmp_path / "local"))
        yield environment


def runs(server: dict[str, str]) -> list[tuple[object, ...]]:
    return rows(server, "select pipeline_name, status from runs order by id")


def partitions(server: dict[str, str]) -> list[tuple[object, ...]]:
    return rows(server, "select partitions_def_name, partition from dynamic_partitions order by 2")


def materialized(server: dict[str, str], asset: str) -> set[object]:
    """Return the shards of an asset."""
    query = "select partition from event_logs where dagster_event_type = 'ASSET_MATERIALIZATION'"
    return {shard for (shard,) in rows(server, f"{query} and asset_key = '{asset}'")}


def test_the_main_job_keeps_its_runs_partitions_and_materializations_in_postgresql(
    tmp_path: Path, server: dict[str, str]
) -> None:
    with dg.DagsterInstance.get() as instance:
        platform = Platform(tmp_path, instance, shard_size=2, domains=["math"])
        for trade in TRADES:
            platform.write_page(trade, f"How a {trade} is run, who works there, and what it makes.")
        shards = platform.register()
        for shard in shards:
            assert platform.run(shard).success

    assert len(shards) == 2
    assert runs(server) == [("register_source", "SUCCESS"), *[("main", "SUCCESS")] * 2]
    assert partitions(server) == [("shards", shard) for shard in shards]
    for asset in ('["corpus", "documents"]', '["personas", "hub"]', '["synthetic", "math"]'):
        assert materialized(server, asset) == set(shards)

    with dg.DagsterInstance.get() as instance:  # opened again: nothing was in memory only
        assert set(instance.get_dynamic_partitions("shards")) == set(shards)
        assert instance.get_latest_materialization_event(dg.AssetKey(["marts", "funnel"]))


def test_the_command_line_runs_on_the_instance_of_dagster_home(
    tmp_path: Path, server: dict[str, str], pages: Path
) -> None:
    settings = {
        "data_dir": tmp_path / "data",
        "source": pages,
        "model": "fake/demo",
        "embedding_model": "fake/embedder",
        "domains": "math",
    }
    done = run_command("run", **settings)
    assert done.returncode == 0, done.stdout + done.stderr

    assert runs(server) == [("register_source", "SUCCESS"), ("main", "SUCCESS")]
    [(_, shard)] = partitions(server)
    assert materialized(server, '["personas", "hub"]') == {shard}
    assert not (tmp_path / "data" / "dagster").exists()


@pytest.mark.usefixtures("server")
def test_a_wrong_password_ends_a_command_with_what_postgresql_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSTER_POSTGRES_PASSWORD", "another-secret")
    done = run_command("run", data_dir=tmp_path / "data", model="fake/demo")

    assert done.returncode == 1
    assert "the Dagster instance in" in done.stderr
    assert "password authentication failed" in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert "another-secret" not in done.stderr
