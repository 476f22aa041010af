"""Runs that buy in batches and are killed while they wait: every request is billed once."""

import random
import signal
import subprocess
import time
from pathlib import Path

from tests.support.batch_server import BatchServer, serve_batches
from tests.support.commands import COMMAND, ROOT, command_environment, read_tables, run_command

STAGES = 3
"""Batches of an undisturbed run: text to persona, persona to persona, math."""


def settings_for(server: BatchServer, pages: Path, data: Path) -> dict[str, object]:
    return {
        "data_dir": data,
        "source": pages,
        "documents": 3,
        "domains": "math",
        "model": "openai/served",
        "api_base": server.url,
        "embedding_model": "fake/embedder",
        "batch_poll_seconds": 0.2,
    }


def end_after(
    batches: int, how: signal.Signals, server: BatchServer, **settings: object
) -> tuple[int, float]:
    """Start a run and send it a signal once there are so many batches; its status and last time."""
    run = subprocess.Popen(
        [*COMMAND, "run", "--batch"],
        cwd=ROOT,
        env=command_environment(**settings),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while run.poll() is None and len(server.batches) < batches:
        time.sleep(0.002)
    time.sleep(random.Random(batches).choice([0.0, 0.005, 0.3]))
    run.send_signal(how)
    sent = time.monotonic()
    return run.wait(timeout=1200), time.monotonic() - sent


def test_a_run_killed_while_each_of_its_batches_is_under_way_pays_for_each_once(
    tmp_path: Path, pages: Path
) -> None:
    with serve_batches(BatchServer(delay=1.0)) as server:
        settings = settings_for(server, pages, tmp_path / "killed")
        for stage in range(1, STAGES + 1):
            status, _ = end_after(stage, signal.SIGKILL, server, **settings)
            assert status == -signal.SIGKILL
        finished = run_command("run", "--batch", **settings)
        assert finished.returncode == 0, finished.stdout + finished.stderr
        assert len(server.batches) == STAGES
        assert server.billed_twice == 0
        assert set(server.prompts.values()) == {1}

    with serve_batches(BatchServer()) as undisturbed:
        settings = settings_for(undisturbed, pages, tmp_path / "undisturbed")
        assert run_command("run", "--batch", **settings).returncode == 0

    killed = read_tables(tmp_path / "killed" / "published.duckdb")
    assert killed == read_tables(tmp_path / "undisturbed" / "published.duckdb")
    assert killed["synthetic.math"]
    assert len(killed["llm.calls"]) == len(server.billed)
    assert not list((tmp_path / "killed" / "batches").iterdir())
    assert not list((tmp_path / "killed" / "journal").glob("*.jsonl"))


def test_ctrl_c_ends_a_waiting_run_at_once_and_the_next_collects(
    tmp_path: Path, pages: Path
) -> None:
    with serve_batches(BatchServer(delay=3600)) as server:
        settings = settings_for(server, pages, tmp_path / "data")
        status, seconds = end_after(1, signal.SIGINT, server, **settings)
        assert status == 130
        assert seconds < 600  # a fast machine takes 1; the batch takes an hour
        server.finish()
        assert run_command("run", "--batch", **settings).returncode == 0
        assert len(server.batches) == STAGES
        assert server.billed_twice == 0
