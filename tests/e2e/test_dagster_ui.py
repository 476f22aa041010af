import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import pytest
from playwright.sync_api import Page, sync_playwright

from tests.support.commands import run_command
from tests.support.dagster_server import copy_checkout, dagster_dev

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chrome")
QUIET_BROWSER = [
    "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-quic",
]  # fmt: skip
SHARD = "wikipedia-00000"

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium on this machine: apt-get install chromium"
)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_checkout(tmp_path_factory.mktemp("checkout"))


def settings(checkout: Path) -> dict[str, object]:
    return {
        "data_dir": checkout / "data",
        "model": "fake/demo",
        "embedding_model": "fake/embedder",
        "documents": 3,
    }


@contextmanager
def browser_page() -> Iterator[Page]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET_BROWSER)
        try:
            yield browser.new_page(viewport={"width": 1440, "height": 900})
        finally:
            browser.close()


def record_count(checkout: Path) -> int:
    with duckdb.connect(str(checkout / "data" / "published.duckdb"), read_only=True) as connection:
        [(count,)] = connection.sql("select count(*) from synthetic.math").fetchall()
    return int(count)


def test_the_ui_shows_the_graph_and_materializes_one_shard_of_one_domain(checkout: Path) -> None:
    done = run_command("run", **settings(checkout))
    assert done.returncode == 0, done.stdout + done.stderr
    with duckdb.connect(str(checkout / "data" / "pipeline.duckdb")) as connection:
        connection.execute("delete from synthetic.math")

    with dagster_dev(checkout, **settings(checkout)) as url, browser_page() as page:
        page.goto(f"{url}/asset-groups/")
        for group in ("corpus", "personas", "synthetic", "marts"):
            page.get_by_text(group, exact=True).first.wait_for(timeout=60_000)

        page.goto(f"{url}/assets/synthetic/math?view=partitions")
        page.get_by_text(SHARD).first.wait_for(timeout=60_000)
        page.get_by_role("button", name="Materialize…").first.click()
        page.get_by_role("button", name="All", exact=True).click()  # there is one shard
        page.get_by_role("button", name=re.compile("^Launch")).click()

        deadline = time.monotonic() + 120
        while record_count(checkout) == 0 and time.monotonic() < deadline:
            time.sleep(1)

    assert record_count(checkout) > 0
