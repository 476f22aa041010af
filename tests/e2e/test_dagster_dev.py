"""Test the UI of 'dagster dev': materialize one shard of one domain, and terminate a run."""

import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pytest
from playwright.sync_api import Page, sync_playwright

from tests.support.commands import command_environment, run_command
from tests.support.dagster_server import ask, copy_checkout, dagster_dev, register_source
from tests.support.served_model import ServedModel, serve_model
from tests.support.small_job import IN_FLIGHT, journaled, make_small_job

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chrome")
QUIET_BROWSER = [
    "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-quic",
]  # fmt: skip
PATIENCE_MS = 300_000
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


@dataclass(frozen=True)
class DevServer:
    """'dagster dev' on a small job whose source is registered, and the model that it buys from."""

    url: str
    checkout: Path
    model: ServedModel
    settings: dict[str, object]

    def rows(self, sql: str) -> list[tuple[object, ...]]:
        """Return the rows of a query on the snapshot."""
        snapshot = self.checkout / "data" / "published.duckdb"
        with duckdb.connect(str(snapshot), read_only=True) as connection:
            return connection.sql(sql).fetchall()

    def shard(self) -> str:
        """Return the name of the only shard."""
        [(shard,)] = self.rows("select shard from corpus.shards")
        return str(shard)

    def finish(self) -> None:
        """Run what is left, with a model that answers at once."""
        self.model.seconds = 0
        done = run_command("run", **self.settings)
        assert done.returncode == 0, done.stdout + done.stderr

    def wait_until(self, is_so: Callable[[], bool], seconds: float = 600) -> None:
        """Wait until something is so."""
        deadline = time.monotonic() + seconds
        while not is_so():
            if time.monotonic() > deadline:
                pytest.fail((self.checkout / "dagster-dev.log").read_text()[-3000:])
            time.sleep(0.02)


@pytest.fixture(scope="module")
def dev_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevServer]:
    """Start one server for both tests, since its four processes import for seconds."""
    folder = tmp_path_factory.mktemp("dev")
    checkout, job = copy_checkout(folder / "checkout"), make_small_job(folder)
    with serve_model(seconds=0.3) as model:
        settings = job.settings(model, checkout / "data")
        register_source(checkout, command_environment(**settings))
        with dagster_dev(checkout, **settings) as url:
            yield DevServer(url, checkout, model, settings)


def test_a_run_terminated_in_dagster_keeps_every_answer_that_was_billed(
    dev_server: DevServer,
) -> None:
    url, model = dev_server.url, dev_server.model
    tags = [{"key": "dagster/partition", "value": dev_server.shard()}]
    launched = ask(url, LAUNCH, job=LOCATION, tags=tags)
    assert launched["__typename"] == "LaunchRunSuccess", launched
    run = launched["run"]["runId"]
    dev_server.wait_until(lambda: model.billed.total() > IN_FLIGHT and model.in_flight > 1)
    terminated = ask(url, TERMINATE, run=run)
    assert terminated["__typename"] == "TerminateRunSuccess", terminated
    dev_server.wait_until(lambda: ask(url, STATUS, run=run)["status"] == "CANCELED")

    assert model.billed == journaled(dev_server.checkout / "data")
    assert model.billed.total() < 12
    dev_server.finish()
    assert model.billed_twice == 0


@contextmanager
def browser_page() -> Iterator[Page]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET_BROWSER)
        try:
            yield browser.new_page(viewport={"width": 1440, "height": 900})
        finally:
            browser.close()


@pytest.mark.ui
@pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium on this machine: apt-get install chromium"
)
def test_the_ui_shows_the_graph_and_materializes_one_shard_of_one_domain(
    dev_server: DevServer,
) -> None:
    dev_server.finish()
    records = "select * exclude (run_id, created_at) from synthetic.riddle order by all"
    before = dev_server.rows(records)
    with duckdb.connect(str(dev_server.checkout / "data" / "pipeline.duckdb")) as connection:
        connection.execute("delete from synthetic.riddle")

    url, shard = dev_server.url, dev_server.shard()
    newest = "select max(created_at) from synthetic.riddle"
    written = dev_server.rows(newest)
    with browser_page() as page:
        page.goto(f"{url}/asset-groups/")
        for group in ("corpus", "personas", "synthetic", "marts"):
            page.get_by_text(group, exact=True).first.wait_for(timeout=PATIENCE_MS)

        page.goto(f"{url}/assets/synthetic/riddle?view=partitions")
        page.get_by_text(shard).first.wait_for(timeout=PATIENCE_MS)
        page.get_by_role("button", name="Materialize…").first.click()
        page.get_by_role("button", name="All", exact=True).click()  # there is one shard
        page.get_by_role("button", name=re.compile("^Launch")).click()
        dev_server.wait_until(lambda: dev_server.rows(newest) not in (written, [(None,)]))

    assert dev_server.rows(records) == before
    assert before
