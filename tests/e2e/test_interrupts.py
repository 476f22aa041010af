"""Test a run that is asked to end: answers that were billed are kept, and never billed again."""

import signal
import time
from pathlib import Path

import pytest

from tests.support.commands import run_command, start_command, wait_until
from tests.support.served_model import serve_model
from tests.support.small_job import IN_FLIGHT, journaled, make_small_job

LONGEST_END = 60
"""Seconds, on the slowest machine; a fast one takes 1, of which 0.8 are for calls in flight."""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_asked_to_end_keeps_every_answer_that_was_billed(
    tmp_path: Path, how: signal.Signals
) -> None:
    job = make_small_job(tmp_path)
    with serve_model(seconds=0.3) as model:
        settings = job.settings(model, tmp_path / "data")
        run = start_command("run", **settings)
        wait_until(lambda: model.billed.total() > IN_FLIGHT and model.in_flight > 1, run)
        run.send_signal(how)
        sent = time.monotonic()
        _, complaints = run.communicate(timeout=600)
        seconds = time.monotonic() - sent

        assert run.returncode == 130
        assert seconds < LONGEST_END
        assert "Traceback" not in complaints
        assert "stopped; every finished answer is kept" in complaints
        assert model.billed == journaled(tmp_path / "data")
        assert model.billed.total() < 12

        model.seconds = 0
        again = run_command("run", **settings)

    assert again.returncode == 0, again.stdout + again.stderr
    assert model.billed_twice == 0
    assert not list((tmp_path / "data" / "journal").glob("*.jsonl"))
