"""Run the command line in a process of its own, and read what it leaves in the snapshot."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest

from tests.support.forked import run_forked

ROOT = Path(__file__).parent.parent.parent
COMMAND = [sys.executable, "-m", "persona_pipeline"]

BYTECODE = {
    "PYTHONDONTWRITEBYTECODE": "",
    "PYTHONPYCACHEPREFIX": str(Path(tempfile.gettempdir(), "persona-pipeline-bytecode")),
}
"""Keep bytecode in a folder: where it is forbidden, each process compiles 2,400 modules in 5 s."""


def command_environment(**settings: object) -> dict[str, str]:
    chosen = {f"PERSONA_PIPELINE_{name.upper()}": str(value) for name, value in settings.items()}
    return os.environ | BYTECODE | chosen


def run_command(*arguments: str, **settings: object) -> subprocess.CompletedProcess[str]:
    """Run the command line in the checkout, in a process of its own."""
    return run_forked(arguments, command_environment(**settings), seconds=3600)


def start_command(*arguments: str, **settings: object) -> subprocess.Popen[str]:
    """Start the command line, and return while it runs."""
    return subprocess.Popen(
        [*COMMAND, *arguments],
        cwd=ROOT,
        env=command_environment(**settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_until(is_so: Callable[[], bool], run: subprocess.Popen[str], seconds: float = 600) -> None:
    """Wait until something is so; fails when the process ends before."""
    deadline = time.monotonic() + seconds
    while not is_so():
        if run.poll() is not None or time.monotonic() > deadline:
            run.kill()
            pytest.fail("".join(run.communicate()))
        time.sleep(0.01)


def read_tables(snapshot: Path) -> dict[str, list[tuple[object, ...]]]:
    """Return the data of every table, without run, times and durations."""
    with duckdb.connect(str(snapshot), read_only=True) as connection:
        names = connection.sql(
            "select table_schema || '.' || table_name from information_schema.tables "
            "where table_type = 'BASE TABLE' and table_schema not in ('main', 'runs')"
        ).fetchall()
        without = "columns(c -> c not in ('run_id', 'created_at', 'latency_ms', 'attempts'))"
        return {
            name: connection.sql(f"select {without} from {name} order by all").fetchall()
            for (name,) in names
        }


def write_pages(folder: Path) -> Path:
    folder.mkdir()
    for number, trade in enumerate(["mill", "forge", "dye", "bell", "rope", "salt"]):
        text = f"How {trade} works were run in the valley, who worked there, and what they made. "
        (folder / f"{number}.md").write_text(f"# The {trade} works\n\n{text * 4}", encoding="utf-8")
    return folder
