"""Run the command line in a fork of a process that has imported half of what a run needs.

A small run takes 6.5 s then, and 8 s otherwise.
"""

import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
IMPORTED = [__name__, "dagster", "dagster._core.storage.sqlite_storage", "pydantic", "jsonschema"]
"""What every run imports. Not among it: numpy, polars and duckdb, whose threads no fork has."""


def run_forked(
    arguments: Sequence[str], environment: Mapping[str, str], seconds: float
) -> subprocess.CompletedProcess[str]:
    """Run a command in the checkout; its status and output are those of a process of its own.

    How long a start takes, and what a command imports, it cannot tell.
    """
    with tempfile.TemporaryDirectory() as folder:
        outputs = [str(Path(folder, name)) for name in ("stdout", "stderr")]
        process = _server().Process(target=_command, args=(arguments, dict(environment), outputs))
        process.start()
        process.join(seconds)
        if process.exitcode is None:
            process.kill()
            process.join()
        printed = [Path(path).read_text(encoding="utf-8") for path in outputs]
        status = process.exitcode
    process.close()
    assert status is not None
    return subprocess.CompletedProcess(arguments, status, *printed)


@cache
def _server() -> ForkServerContext:
    """Start the process that each command is a fork of. It has one thread, and no environment."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(IMPORTED)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        patch.setenv("PYTHONPATH", str(ROOT))
        forkserver.ensure_running()
    return context


def _command(arguments: Sequence[str], environment: dict[str, str], outputs: list[str]) -> None:
    for number, path in enumerate(outputs, start=1):
        file = os.open(path, os.O_WRONLY | os.O_CREAT)
        os.dup2(file, number)
        os.close(file)
    sys.stdout, sys.stderr = (
        open(number, "w", buffering=1, encoding="utf-8", closefd=False)  # noqa: SIM115 - as in Python
        for number in (1, 2)
    )
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(ROOT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv = ["persona-pipeline", *arguments]
    from persona_pipeline.cli import main  # noqa: PLC0415 - libraries read the environment

    main()
