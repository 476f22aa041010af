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
from tests.support.platform import (
    TABLES,
    execute,
    open_local_instance,
    open_platform,
    run_all,
    runs_of_shards,
    to_do,
)

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


GROUPS: dict[str, tuple[dict[str, object], list[list[int]]]] = {
    "a cap": ({"max_tokens": 10_000_000}, [[0], [1], [2], [3]]),
    "together": ({}, [[0, 1, 2, 3]]),
    "at most so many": ({"shards_per_run": 3}, [[0, 1, 2], [3]]),
}


def test_neighbouring_shards_go_into_one_run_and_leave_the_tables_of_one_by_one(
    tmp_path: Path,
) -> None:
    rows = dict[str, dict[str, list[tuple[object, ...]]]]()
    for group, (settings, runs) in GROUPS.items():
        (home := tmp_path / group).mkdir()
        with open_local_instance(home) as instance:
            chosen = {"shard_size": 1, "data_dir": home / "data", **settings}
            platform = open_platform(tmp_path, instance, **chosen)
            run_all(platform)
            shards = platform.shards()
            assert runs_of_shards(platform) == [[shards[at] for at in run] for run in runs], group
            rows[group] = {name: platform.rows(name) for name in TABLES}
    assert rows["together"] == rows["at most so many"] == rows["a cap"]


def test_a_finished_shard_between_two_others_is_in_no_run(tmp_path: Path) -> None:
    with open_local_instance(tmp_path) as instance:
        platform = open_platform(tmp_path, instance, shard_size=1)
        run_all(platform)
        first, second, third, fourth = platform.shards()
        execute(
            platform, f"update runs.steps set version = 'old' where shard in ('{first}', '{third}')"
        )
        run_all(platform)
        assert runs_of_shards(platform)[1:] == [[first], [third]]
        assert to_do(platform) == {shard: {} for shard in (first, second, third, fourth)}


def test_what_concerns_all_shards_is_done_once_for_those_of_a_run(tmp_path: Path) -> None:
    with open_local_instance(tmp_path) as instance:
        platform = open_platform(tmp_path, instance, shard_size=1)
        run_all(platform)
        first, *others = platform.shards()
        for key in ("personas/duplicates", "personas/hub", "synthetic/duplicates"):
            assert "skipped" not in platform.materialization(key, first).metadata
            for shard in others:
                skipped = platform.materialization(key, shard).metadata["skipped"]
                assert "an earlier shard of this run" in str(skipped.value)
