"""Test backfills through the daemon: beside a reader, and while processes are killed.

Two shards and one kill by default; eight shards, and as many kills as are asked for, with

    pytest tests/e2e/test_backfill.py -m chaos -n 0 --kills 25 --log-cli-level=INFO
"""

import logging
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import dagster as dg
import duckdb
import pytest

from tests.support.commands import read_tables
from tests.support.deployment import Deployment, deployed
from tests.support.served_model import ServedModel, serve_model
from tests.support.small_job import IN_FLIGHT, SmallJob, make_small_job

LOG = logging.getLogger(__name__)
TRADES = ("rope", "glass", "paper", "brick", "cider", "lime", "oar", "sail")
FEW, ALL = 2, len(TRADES)
READER = """
import sys, time
import duckdb

shell = duckdb.connect(sys.argv[1], read_only=True)
while True:
    print(*shell.sql("select count(*) from personas.hub").fetchone(), flush=True)
    time.sleep(0.2)
"""


def make_job(tmp_path: Path, pages: int) -> SmallJob:
    """Make a small job with so many pages, each of which becomes a shard."""
    result = make_small_job(tmp_path)
    for trade in TRADES[:pages]:
        text = f"How {trade} was made on the coast, who did the work, and what became of it. "
        (tmp_path / "pages" / f"{trade}.md").write_text(f"# {trade}\n\n{text * 4}")
    for old in tmp_path.glob("pages/[0-9].md"):
        old.unlink()
    return result


def settings(job: SmallJob, model: ServedModel) -> dict[str, object]:
    chosen = job.settings(model, job.folder, shard_size=1, shards_per_run=1, documents="all")
    del chosen["data_dir"]
    return chosen


def register(deployment: Deployment) -> list[str]:
    deployment.register()
    with duckdb.connect(str(deployment.data / "published.duckdb"), read_only=True) as connection:
        rows = connection.sql("select shard from corpus.shards order by shard_number").fetchall()
    return [shard for (shard,) in rows]


@contextmanager
def shell_on(snapshot: Path) -> Iterator[subprocess.Popen[str]]:
    """Keep a user's read-only shell open while the block runs."""
    shell = subprocess.Popen(
        [sys.executable, "-c", READER, str(snapshot)], stdout=subprocess.PIPE, text=True
    )
    try:
        yield shell
    finally:
        shell.kill()
        shell.communicate()


def lock_wait(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return the seconds that each stage waited for the database, from its materializations."""
    monkeypatch.chdir(deployment.home)  # dagster.yaml's paths are relative
    with dg.DagsterInstance.from_config(str(deployment.home)) as instance:
        return [
            float(str(event.asset_materialization.metadata["lock_wait_seconds"].value))
            for key in instance.all_asset_keys()
            for event in instance.fetch_materializations(key, limit=1000).records
            if event.asset_materialization
            and "lock_wait_seconds" in event.asset_materialization.metadata
        ]


@pytest.mark.chaos
def test_eight_shards_at_once_succeed_while_a_shell_reads_the_snapshot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = make_job(tmp_path, ALL)
    with (
        serve_model(seconds=0.1) as model,
        deployed(tmp_path / "home", ALL, **settings(job, model)) as deployment,
    ):
        shards = register(deployment)
        assert len(shards) == ALL
        deployment.start()
        with shell_on(deployment.data / "published.duckdb") as shell:
            backfill = deployment.backfill(shards)
            deployment.wait_until_idle(backfill)
            assert shell.poll() is None

        statuses = [run["status"] for run in deployment.runs()]
        assert statuses.count("SUCCESS") == ALL + 1, statuses  # and the registration
        logs = "".join(deployment.log(name).read_text() for name in ("daemon", "webserver"))
        assert "Conflicting lock" not in logs
        assert "is held by" not in logs
        waits = lock_wait(deployment, monkeypatch)
        assert len(waits) >= ALL * 10
        LOG.info("waited for the lock: %.1f s", sum(waits))
    with duckdb.connect(str(deployment.data / "published.duckdb"), read_only=True) as connection:
        [(stages, balanced, current)] = connection.sql(
            "select count(*), count(*) filter (is_balanced), count(*) filter (is_current) "
            "from marts.funnel"
        ).fetchall()
    assert stages == balanced == current == ALL * 7
    assert model.billed_twice == 0


@pytest.mark.parametrize(
    ("count", "kills"), [(FEW, 1), pytest.param(ALL, None, marks=pytest.mark.chaos)]
)
def test_killed_runs_and_daemons_lose_nothing_and_leave_nothing_behind(
    tmp_path: Path, count: int, kills: int | None, request: pytest.FixtureRequest
) -> None:
    job, rng = make_job(tmp_path, count), random.Random(11)
    kills = kills or int(request.config.getoption("--kills"))
    with (
        serve_model(seconds=0.3) as model,
        deployed(tmp_path / "home", 4, **settings(job, model)) as deployment,
        ExitStack() as opened,
    ):
        shards = register(deployment)
        shell = opened.enter_context(shell_on(deployment.data / "published.duckdb"))
        deployment.start()
        backfill, killed = deployment.backfill(shards), {"run": 0, "daemon": 0}
        while not model.billed:  # the first dies while it buys
            assert not deployment.is_idle(backfill), deployment.runs()
            time.sleep(0.2)
        while sum(killed.values()) < kills:
            if killed["run"]:
                time.sleep(rng.uniform(0.5, 4))
            what = "daemon" if killed["run"] and rng.random() < 0.2 else "run"
            killed[what] += kill_one(deployment, rng, what)
            if deployment.is_idle(backfill):
                backfill = deployment.backfill(shards)
        deployment.wait_until_idle(backfill)
        backfill = deployment.backfill(shards)
        deployment.wait_until_idle(backfill)
        last = deployment.runs()[:count]
        assert [run["status"] for run in last] == ["SUCCESS"] * count
        LOG.info("killed %s; paid twice %d of %d", killed, model.billed_twice, model.billed.total())
        assert model.billed_twice <= killed["run"] * IN_FLIGHT + killed["daemon"] * 4 * IN_FLIGHT
        deployment.wait_for_workers()
        assert shell.poll() is None

    with (
        serve_model() as other,
        deployed(tmp_path / "undisturbed", 1, **settings(job, other)) as undisturbed,
    ):
        done = undisturbed.command("run", "--documents", "all")
        assert done.returncode == 0, done.stdout + done.stderr
    tables = read_tables(deployment.data / "published.duckdb")
    assert tables == read_tables(undisturbed.data / "published.duckdb")
    assert len(tables["synthetic.riddle"]) > 0
    assert not list((deployment.data / "journal").glob("*.jsonl"))
    assert not list(deployment.data.glob("*.tmp"))


def kill_one(deployment: Deployment, rng: random.Random, what: str) -> int:
    """Kill a run's process, or the daemon (and start it again); how many were killed."""
    if what == "daemon":
        deployment.kill_daemon()
        deployment.start_daemon()
        return 1
    workers = deployment.workers()
    if not workers:
        return 0
    try:
        os.kill(rng.choice(workers), signal.SIGKILL)
    except ProcessLookupError:  # it has just ended
        return 0
    return 1
