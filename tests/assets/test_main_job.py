import io
import json
from pathlib import Path

import dagster as dg
import pytest

from assets import corpus
from assets.main_job import ShortLogFailures, open_main_job
from assets.shard_assets import add_shards
from persona_pipeline.project import open_project
from persona_pipeline.store.store import Store

ROOT = Path(__file__).parents[2]


def test_a_run_goes_on_with_its_shards_when_another_registers_them_at_the_same_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The row of a shard has the last run that registered it."""
    pages = tmp_path / "pages.jsonl"
    texts = [f"Page {number}, which is long enough to be kept. " * 9 for number in (1, 2)]
    pages.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))

    def register_again(instance: dg.DagsterInstance, store: Store) -> None:
        with store.transaction() as connection:
            connection.execute("update corpus.shards set run_id = 'of another process'")
        add_shards(instance, store)

    monkeypatch.setattr(corpus, "add_shards", register_again)
    project = open_project(
        source=pages, shard_size=1, model="fake/demo", data_dir=tmp_path / "data"
    )
    with open_main_job(project, ROOT) as job:
        names = job.register()
    assert [name[-6:] for name in names] == ["-00000", "-00001"]


def test_what_dagster_says_of_an_event_that_it_could_not_store_is_one_line() -> None:
    target = io.StringIO()
    stream = ShortLogFailures(target)
    stream.write("Exception while writing logger call to event log: disk I/O error\n[SQL: ...]\n")
    print("other\nlines", file=stream)
    stream.flush()
    assert target.getvalue().splitlines() == [
        "Exception while writing logger call to event log: disk I/O error",
        "other",
        "lines",
    ]
