"""Run 'dagster dev' on a copy of the checkout, with a test's own data directory."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.commands import ROOT, command_environment


def copy_checkout(copy: Path) -> Path:
    for name in ("assets", "persona_pipeline", "sql"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("dagster.yaml", "workspace.yaml", "pyproject.toml"):
        shutil.copy(ROOT / name, copy / name)
    return copy


@contextmanager
def dagster_dev(checkout: Path, **settings: object) -> Iterator[str]:
    port = free_port()
    log = checkout / "dagster-dev.log"
    with log.open("w") as output:
        server = subprocess.Popen(
            [Path(sys.executable).with_name("dagster"), "dev", "-p", str(port)],
            cwd=checkout,
            env=command_environment(**settings),
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        wait_for(f"http://127.0.0.1:{port}/server_info", log)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(server.pid, signal.SIGINT)
        try:
            server.wait(timeout=120)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)


def ask(url: str, query: str, **variables: object) -> dict[str, Any]:
    """Return the first field of the answer of Dagster's GraphQL."""
    body = json.dumps({"query": query, "variables": variables}).encode()
    request = urllib.request.Request(f"{url}/graphql", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=300) as response:
        answer = json.load(response)
    assert "errors" not in answer, answer["errors"]
    [field] = answer["data"].values()
    return dict(field)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def register_source(home: Path, environment: Mapping[str, str]) -> None:
    """Run the job that registers the source, on the instance of this folder."""
    command = ["dagster", "job", "execute", "-m", "assets.definitions", "-j", "register_source"]
    done = subprocess.run(
        [Path(sys.executable).with_name(command[0]), *command[1:]],
        cwd=home,
        env={**environment, "DAGSTER_HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def wait_for(url: str, log: Path) -> None:
    deadline = time.monotonic() + 600
    while time.monotonic() < deadline:
        try:
            urllib.request.urlopen(url, timeout=60).close()
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.5)
        else:
            return
    pytest.fail(f"dagster dev did not start:\n{log.read_text()[-3000:]}")
