"""Run webserver and daemon as services of a copied checkout, and kill and restart them."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.commands import command_environment
from tests.support.dagster_server import ask, copy_checkout, free_port, register_source, wait_for

REPOSITORY = {"repositoryLocationName": "persona_pipeline", "repositoryName": "__repository__"}
BACKFILL = """
mutation ($params: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $params) {
    __typename
    ... on LaunchBackfillSuccess { backfillId }
    ... on PythonError { message }
  }
}
"""
RUNS = """
query { runsOrError { ... on Runs { results { runId status tags { key value } } } } }
"""
BACKFILL_STATUS = """
query ($id: String!) { partitionBackfillOrError(backfillId: $id) {
  ... on PartitionBackfill { status error { message } } } }
"""
LONGEST_BACKFILL = 3600.0
"""Seconds after which a backfill is taken to hang, on the slowest machine."""
ACTIVE = {"QUEUED", "STARTING", "STARTED", "CANCELING", "MANAGED"}
"""Not NOT_STARTED: so a daemon that is killed leaves a run it submits, and nothing waits for it."""


class Deployment:
    """The processes of one instance; `home` is the copy of the checkout and DAGSTER_HOME."""

    def __init__(self, home: Path, runs_at_once: int, settings: Mapping[str, object]) -> None:
        self.home = copy_checkout(home)
        self.data = home / "data"
        self._environment = command_environment(data_dir=self.data, **settings) | {
            "DAGSTER_HOME": str(home),
            "PYTHONPATH": str(home),
        }
        self._change("max_concurrent_runs", runs_at_once)
        self._change("poll_interval_seconds", 3)
        self._change("start_timeout_seconds", 120)
        self._services: dict[str, subprocess.Popen[bytes]] = {}
        self.url = ""

    def _change(self, name: str, value: int) -> None:
        file = self.home / "dagster.yaml"
        file.write_text(re.sub(rf"{name}: \d+", f"{name}: {value}", file.read_text()))

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the command line on this instance."""
        return subprocess.run(
            [sys.executable, "-m", "persona_pipeline", *arguments],
            cwd=self.home,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=1800,
            check=False,
        )

    def register(self) -> None:
        """Register the source. No shard is run."""
        register_source(self.home, self._environment)

    def start(self) -> None:
        """Start both services."""
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self._start("webserver", "dagster-webserver", "-p", str(port))
        wait_for(f"{self.url}/server_info", self.log("webserver"))
        self.start_daemon()

    def start_daemon(self) -> None:
        """Start the daemon, or start it again after it was killed."""
        self._start("daemon", "dagster-daemon", "run")

    def _start(self, name: str, program: str, *arguments: str) -> None:
        with self.log(name).open("a") as log:
            self._services[name] = subprocess.Popen(
                [Path(sys.executable).with_name(program), *arguments, "-w", "workspace.yaml"],
                cwd=self.home,
                env=self._environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def log(self, name: str) -> Path:
        return self.home / f"{name}.log"

    def kill_daemon(self) -> None:
        """Kill the daemon alone. Its code server and the runs go on, or notice it."""
        self._services["daemon"].kill()
        self._services["daemon"].wait()

    def stop(self) -> None:
        for service in self._services.values():
            if service.poll() is None:
                os.killpg(service.pid, signal.SIGTERM)
        for service in self._services.values():
            try:
                service.wait(timeout=120)
            except subprocess.TimeoutExpired:
                os.killpg(service.pid, signal.SIGKILL)

    def workers(self) -> list[int]:
        """Return the processes that work on runs."""
        return [
            int(folder.name)
            for folder in Path("/proc").iterdir()
            if folder.name.isdigit() and self._is_worker(folder)
        ]

    def wait_for_workers(self) -> None:
        """Wait until no such process is left. They end after their runs."""
        deadline = time.monotonic() + 300
        while workers := self.workers():
            assert time.monotonic() < deadline, workers
            time.sleep(0.2)

    def _is_worker(self, process: Path) -> bool:
        try:
            command = (process / "cmdline").read_bytes()
            environment = (process / "environ").read_bytes()
        except OSError:  # it has ended
            return False
        mine = f"DAGSTER_HOME={self.home}".encode() in environment.split(b"\0")
        return mine and b"spawn_main" in command

    def backfill(self, shards: list[str]) -> str:
        """Request a backfill of all of these shards of the main job."""
        selector = {"partitionSetName": "main_partition_set", "repositorySelector": REPOSITORY}
        params = {"selector": selector, "partitionNames": shards}
        launched = ask(self.url, BACKFILL, params=params)
        assert launched["__typename"] == "LaunchBackfillSuccess", launched
        return str(launched["backfillId"])

    def runs(self) -> list[dict[str, Any]]:
        return list(ask(self.url, RUNS)["results"])

    def is_idle(self, backfill: str) -> bool:
        """Tell whether the backfill has launched all its runs, and all have ended."""
        status = ask(self.url, BACKFILL_STATUS, id=backfill)["status"]
        return status not in {"REQUESTED", "CANCELING", "FAILING"} and not self.is_running()

    def is_running(self) -> bool:
        """Tell whether any run has not ended."""
        return any(run["status"] in ACTIVE for run in self.runs())

    def wait_until_idle(self, backfill: str) -> None:
        deadline = time.monotonic() + LONGEST_BACKFILL
        while not self.is_idle(backfill):
            if time.monotonic() > deadline:
                runs = [(run["runId"][:8], run["status"]) for run in self.runs()]
                pytest.fail(f"{runs}\n{self.log('daemon').read_text()[-3000:]}")
            time.sleep(0.5)


@contextmanager
def deployed(home: Path, runs_at_once: int, **settings: object) -> Iterator[Deployment]:
    deployment = Deployment(home, runs_at_once, settings)
    try:
        yield deployment
    finally:
        deployment.stop()
