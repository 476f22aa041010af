"""Test what buying promises: caps, keys, outages, changed prompts, shared answers."""

import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.commands import read_tables, run_command, start_command, wait_until
from tests.support.served_model import ServedModel, serve_model
from tests.support.small_job import IN_FLIGHT, SmallJob, make_small_job

KEY = "sk-canary-9f1c27d4e05b8a63"
USD_PER_MILLION = 2.0
PRICES = json.dumps(
    {"openai/served": {"input": USD_PER_MILLION, "output": USD_PER_MILLION}},
)
RECORDS = 3
"""Of each domain: as many as `records_per_shard` asks for."""


@dataclass(frozen=True)
class Done:
    """A finished run that nothing disturbed. Tests read it or copy it."""

    job: SmallJob
    data: Path
    printed: str
    billed: int
    tokens: int

    @property
    def tables(self) -> dict[str, list[tuple[object, ...]]]:
        return read_tables(self.data / "published.duckdb")


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Done:
    job = make_small_job(tmp_path_factory.mktemp("job"))
    data = job.folder / "data"
    with serve_model() as model:
        run = run_command("run", **job.settings(model, data, api_key=KEY))
    assert run.returncode == 0, run.stdout + run.stderr
    assert model.billed_twice == 0
    return Done(job, data, run.stdout + run.stderr, model.billed.total(), model.tokens)


@pytest.fixture
def model() -> Iterator[ServedModel]:
    with serve_model() as served:
        yield served


def bill(model: ServedModel) -> float:
    return model.tokens * USD_PER_MILLION / 1_000_000


def files_with_key(data: Path) -> list[Path]:
    files = [path for path in data.rglob("*") if path.is_file()]
    assert {"pipeline.duckdb", "runs.db", "claims"} <= {path.name for path in files}
    return [path for path in files if KEY.encode() in path.read_bytes()]


def test_a_run_at_its_cap_stops_under_it_and_goes_on_when_it_is_started_again(
    tmp_path: Path, done: Done, model: ServedModel
) -> None:
    cap = round(0.75 * done.tokens * USD_PER_MILLION / 1_000_000, 5)
    settings = done.job.settings(model, tmp_path / "data", prices=PRICES)
    statuses: list[int] = []
    while statuses[-1:] != [0]:
        spent = bill(model)
        run = run_command("run", "--max-usd", str(cap), **settings)
        statuses.append(run.returncode)
        assert bill(model) - spent <= cap
        if run.returncode:
            assert run.returncode == 3, run.stdout + run.stderr
            printed = " ".join(run.stdout.split())
            assert f"stopped at budget: {cap:g} USD (this run). Everything bought is" in printed
            assert "Left: about" in printed
            assert "Traceback" not in run.stderr
        assert len(statuses) < 5, run.stdout + run.stderr

    assert set(statuses[:-1]) == {3}
    assert model.billed_twice == 0
    tables = read_tables(tmp_path / "data" / "published.duckdb")
    assert without_cost(tables) == without_cost(done.tables)


def test_a_cap_in_usd_needs_a_price_or_leave_to_go_without(
    tmp_path: Path, done: Done, model: ServedModel
) -> None:
    settings = done.job.settings(model, tmp_path / "data")
    refused = run_command("run", "--max-usd", "5", **settings)
    assert refused.returncode == 1
    assert "nobody knows the price of openai/served" in refused.stderr
    assert model.received == 0

    run = start_command("run", "--max-usd", "5", "--allow-unknown-price", **settings)
    wait_until(lambda: model.billed.total() > 0, run)
    run.kill()
    run.communicate()


def test_two_runs_started_at_once_buy_every_answer_once_and_agree(
    tmp_path: Path, done: Done, model: ServedModel
) -> None:
    model.seconds = 0.05
    settings = done.job.settings(model, tmp_path / "data")
    runs = [start_command("run", **settings) for _ in range(2)]
    for run in runs:
        printed, complaints = run.communicate(timeout=1200)
        assert run.returncode == 0, printed + complaints

    assert model.billed_twice == 0
    assert set(model.embedded.values()) == {1}
    assert read_tables(tmp_path / "data" / "published.duckdb") == done.tables


def test_the_api_key_is_in_no_file_and_on_no_screen(done: Done) -> None:
    assert not files_with_key(done.data)
    assert KEY not in done.printed


def test_a_bad_key_stops_the_run_at_once_and_is_not_repeated(
    tmp_path: Path, done: Done, model: ServedModel
) -> None:
    model.refusal = (401, "Incorrect API key provided: {key}. You can find yours in your account.")
    run = start_command("run", **done.job.settings(model, tmp_path / "data", api_key=KEY))
    wait_until(lambda: model.received > 0, run)
    printed, complaints = run.communicate(timeout=600)

    assert run.returncode == 1
    assert 1 <= model.received <= IN_FLIGHT
    message = " ".join(complaints.split())
    assert (
        "model openai/served cannot be used: HTTP 401: Incorrect API key provided: (api_key)."
        in message
    )
    assert "Check --model, --api-base and the API key" in message
    assert "then run 'persona-pipeline doctor'" in message
    assert "Traceback" not in complaints
    assert KEY not in printed + complaints
    assert not files_with_key(tmp_path / "data")


def test_a_changed_prompt_buys_the_answers_of_its_own_domain_again_and_no_others(
    tmp_path: Path, done: Done, model: ServedModel
) -> None:
    shutil.copytree(done.data, tmp_path / "data")
    shutil.copytree(done.job.folder / "domains", tmp_path / "domains")
    prompt = tmp_path / "domains" / "toast" / "prompt.j2"
    prompt.write_text("Raise a glass. " + prompt.read_text())
    settings = done.job.settings(model, tmp_path / "data", domain_dirs=tmp_path / "domains")
    again = run_command("run", **settings)

    assert again.returncode == 0, again.stdout + again.stderr
    assert len(model.billed) == model.received == RECORDS
    assert all("Raise a glass." in prompt for prompt in model.billed)
    tables = read_tables(tmp_path / "data" / "published.duckdb")
    assert tables["synthetic.riddle"] == done.tables["synthetic.riddle"]
    assert tables["synthetic.toast"] != done.tables["synthetic.toast"]


def test_an_outage_of_seconds_is_waited_for_and_fails_no_row(
    tmp_path: Path, done: Done, model: ServedModel
) -> None:
    model.seconds = 0.1
    run = start_command("run", **done.job.settings(model, tmp_path / "data"))
    wait_until(lambda: model.billed.total() > IN_FLIGHT, run)
    model.refusal = (503, "overloaded")
    time.sleep(6)
    refused = model.received - model.billed.total()
    model.refusal = None
    printed, complaints = run.communicate(timeout=1200)

    assert run.returncode == 0, printed + complaints
    assert refused > IN_FLIGHT
    assert model.billed_twice == 0
    assert read_tables(tmp_path / "data" / "published.duckdb") == done.tables


def test_answers_that_a_colleague_exports_make_the_same_tables_for_free(
    tmp_path: Path, done: Done, model: ServedModel
) -> None:
    settings = done.job.settings(model, tmp_path / "data")
    before = run_command("estimate", **settings)
    assert "text_to_persona" in before.stdout
    assert "synthetic.toast" in before.stdout
    assert f"about {done.billed + 12} calls" in before.stdout, before.stdout + before.stderr

    answers = str(tmp_path / "answers.parquet")
    assert run_command("calls", "export", answers, data_dir=done.data).returncode == 0
    imported = run_command("calls", "import", answers, data_dir=tmp_path / "data")
    assert imported.returncode == 0, imported.stderr
    run = run_command("run", **settings)
    assert run.returncode == 0, run.stdout + run.stderr
    assert read_tables(tmp_path / "data" / "published.duckdb") == done.tables
    assert "about 0 calls" in run_command("estimate", **settings).stdout
    assert model.received == 0


def without_cost(
    tables: dict[str, list[tuple[object, ...]]],
) -> dict[str, list[tuple[object, ...]]]:
    """Return all tables but `llm.calls`, whose prices another run may not know."""
    return {name: rows for name, rows in tables.items() if name != "llm.calls"}
