import random
import signal
import subprocess
import time
from pathlib import Path

from tests.support.commands import COMMAND, ROOT, command_environment, read_tables, run_command
from tests.support.served_model import ServedModel, serve_model

IN_FLIGHT = 4
KILLS = 2


def settings_for(model: ServedModel, pages: Path, data: Path) -> dict[str, object]:
    return {
        "data_dir": data,
        "source": pages,
        "model": "openai/served",
        "api_base": model.url,
        "embedding_model": "fake/embedder",
        "max_concurrency": IN_FLIGHT,
        "hops": 2,
        "domains": "math,npc",
    }


def interrupt_after(
    calls: int, how: signal.Signals, served: ServedModel, **settings: object
) -> int:
    """Start a run and send it a signal once the model was asked so often; its exit status."""
    run = subprocess.Popen(
        [*COMMAND, "run"],
        cwd=ROOT,
        env=command_environment(**settings),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    goal = served.billed.total() + calls
    while run.poll() is None and served.billed.total() < goal:
        time.sleep(0.01)
    run.send_signal(how)
    return run.wait(timeout=600)


def test_a_run_killed_again_and_again_ends_with_the_tables_of_an_undisturbed_one(
    tmp_path: Path, pages: Path
) -> None:
    rng = random.Random(7)
    with serve_model(seconds=0.05) as model:
        settings = settings_for(model, pages, tmp_path / "killed")
        for _ in range(KILLS):
            status = interrupt_after(rng.randint(2, 15), signal.SIGKILL, model, **settings)
            assert status == -signal.SIGKILL
        finished = run_command("run", **settings)
        assert finished.returncode == 0, finished.stdout + finished.stderr
        assert model.billed_twice <= KILLS * IN_FLIGHT

    with serve_model() as undisturbed:
        settings = settings_for(undisturbed, pages, tmp_path / "undisturbed")
        assert run_command("run", **settings).returncode == 0

    killed = read_tables(tmp_path / "killed" / "published.duckdb")
    assert killed == read_tables(tmp_path / "undisturbed" / "published.duckdb")
    assert killed["synthetic.math"]
    assert not list((tmp_path / "killed" / "journal").glob("*.jsonl"))


def test_ctrl_c_ends_a_run_at_once_and_what_was_bought_is_kept(tmp_path: Path, pages: Path) -> None:
    with serve_model(seconds=0.05) as model:
        settings = settings_for(model, pages, tmp_path / "data")
        assert interrupt_after(8, signal.SIGINT, model, **settings) == 130
        assert run_command("run", **settings).returncode == 0

    assert model.billed_twice <= IN_FLIGHT
