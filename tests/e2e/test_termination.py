"""A run that is terminated in Dagster: what was billed is kept, as after Ctrl-C."""

import time
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest

from tests.support.commands import command_environment, run_command
from tests.support.dagster_server import ask, copy_checkout, dagster_dev, register_source
from tests.support.served_model import serve_model
from tests.support.small_job import IN_FLIGHT, journaled, make_small_job

LAUNCH = """
mutation ($job: JobOrPipelineSelector!, $tags: [ExecutionTag!]) {
  launchRun(executionParams: {selector: $job, executionMetadata: {tags: $tags}}) {
    __typename
    ... on LaunchRunSuccess { run { runId } }
    ... on PythonError { message }
  }
}
"""
TERMINATE = """
mutation ($run: String!) {
  terminateRun(runId: $run) { __typename ... on PythonError { message } }
}
"""
STATUS = "query ($run: ID!) { runOrError(runId: $run) { ... on Run { status } } }"
LOCATION = {
    "repositoryLocationName": "persona_pipeline",
    "repositoryName": "__repository__",
    "jobName": "main",
}


def only_shard(snapshot: Path) -> str:
    with duckdb.connect(str(snapshot), read_only=True) as connection:
        [(shard,)] = connection.sql("select shard from corpus.shards").fetchall()
    return str(shard)


def wait_until(is_so: Callable[[], bool], log: Path, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > deadline:
            pytest.fail(log.read_text()[-3000:])
        time.sleep(0.02)


def test_a_run_terminated_in_dagster_keeps_every_answer_that_was_billed(tmp_path: Path) -> None:
    checkout, job = copy_checkout(tmp_path / "checkout"), make_small_job(tmp_path)
    with serve_model(seconds=0.3) as model:
        settings = job.settings(model, checkout / "data")
        register_source(checkout, command_environment(**settings))
        shard = only_shard(checkout / "data" / "published.duckdb")
        tags = [{"key": "dagster/partition", "value": shard}]
        with dagster_dev(checkout, **settings) as url:
            launched = ask(url, LAUNCH, job=LOCATION, tags=tags)
            assert launched["__typename"] == "LaunchRunSuccess", launched
            run = launched["run"]["runId"]
            log = checkout / "dagster-dev.log"
            wait_until(lambda: model.billed.total() > IN_FLIGHT and model.in_flight > 1, log)
            terminated = ask(url, TERMINATE, run=run)
            assert terminated["__typename"] == "TerminateRunSuccess", terminated
            wait_until(lambda: ask(url, STATUS, run=run)["status"] == "CANCELED", log, 15)

        assert model.billed == journaled(checkout / "data")
        assert model.billed.total() < 12
        model.seconds = 0
        again = run_command("run", **settings)

    assert again.returncode == 0, again.stdout + again.stderr
    assert model.billed_twice == 0
