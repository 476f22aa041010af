"""Test a watched folder and the daemon: new files are bought once, and run to the end."""

import json
import os
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import dagster as dg
import duckdb
import pytest

from tests.support.deployment import Deployment, deployed
from tests.support.served_model import ServedModel, serve_model
from tests.support.small_job import SmallJob, make_small_job

TEXT = "How {0} were caught in the bay, who went out for them, and what the village made of them. "


@pytest.fixture
def job(tmp_path: Path) -> SmallJob:
    result = make_small_job(tmp_path)
    (tmp_path / "inbox").mkdir()
    return result


def drop(job: SmallJob, name: str, *fish: str) -> Path:
    """Write a file with a page for each fish, last modified a while ago."""
    path = job.folder / "inbox" / name
    path.write_text("".join(json.dumps({"text": TEXT.format(one) * 4}) + "\n" for one in fish))
    age(path)
    return path


def age(path: Path) -> None:
    then = time.time() - 60
    os.utime(path, (then, then))


class Watcher:
    """A deployment that watches the inbox, and what was asked of the model."""

    def __init__(self, deployment: Deployment, model: ServedModel) -> None:
        self.deployment, self.model = deployment, model

    def rows(self, sql: str) -> list[tuple[object, ...]]:
        snapshot = self.deployment.data / "published.duckdb"
        if not snapshot.is_file():
            return []
        with duckdb.connect(str(snapshot), read_only=True) as connection:
            return connection.sql(sql).fetchall()

    def wait(self, is_so: Callable[[], bool], seconds: float = 1200) -> None:
        deadline = time.monotonic() + seconds
        while not is_so():
            if time.monotonic() > deadline:
                runs = [(run["status"], run["tags"]) for run in self.deployment.runs()]
                pytest.fail(f"{runs}\n{self.deployment.log('daemon').read_text()[-3000:]}")
            time.sleep(0.3)

    def wait_for_shards(self, count: int) -> list[str]:
        """Wait until so many shards have run all stages; return their names, in order."""
        done = "select shard from runs.stages group by shard having count(*) = 7 order by shard"
        self.wait(lambda: self._has("runs") and len(self.rows(done)) == count)
        self.wait(lambda: not self.deployment.is_running())
        return [str(shard) for (shard,) in self.rows(done)]

    def _has(self, schema: str) -> bool:
        return bool(self.rows(f"select 1 from duckdb_schemas() where schema_name = '{schema}'"))

    def states(self) -> dict[object, object]:
        return dict(self.rows("select file, state from corpus.files"))  # type: ignore[arg-type] # pairs

    def versions(self, shard: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
        """Return the data version of every asset of a shard."""
        monkeypatch.chdir(self.deployment.home)
        versions = {}
        with dg.DagsterInstance.from_config(str(self.deployment.home)) as instance:
            for key in instance.all_asset_keys():
                record = instance.get_latest_data_version_record(key, partition_key=shard)
                if record and record.asset_materialization and record.asset_materialization.tags:
                    tags = record.asset_materialization.tags
                    versions[key.to_user_string()] = tags["dagster/data_version"]
        return versions


def test_what_is_dropped_into_the_inbox_is_bought_once_and_nothing_is_lost(
    tmp_path: Path, job: SmallJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serve_model() as model:
        settings = job.settings(model, tmp_path, watch=job.folder / "inbox", watch_seconds=3)
        del settings["data_dir"], settings["source"]
        with deployed(tmp_path / "home", 2, **settings) as deployment:
            watcher = Watcher(deployment, model)
            drop(job, "monday.jsonl", "herring", "cod")
            deployment.start()
            [first] = watcher.wait_for_shards(1)
            bought, versions = Counter(model.billed), watcher.versions(first, monkeypatch)

            drop(job, "tuesday.jsonl", "eel")
            [_, second] = watcher.wait_for_shards(2)
            # two personas of one page, and a record of each in two domains
            assert (model.billed - bought).total() == 2 + 2 * 2
            assert watcher.versions(first, monkeypatch) == versions
            own = (
                f"select count(*) from llm.calls where shard = '{second}' and stage != 'embeddings'"
            )
            assert watcher.rows(own) == [(6,)]

            drop(job, "monday.jsonl", "herring", "plaice")  # changed: cod is gone from it
            drop(job, "broken.jsonl").write_text('{"text": "no end')
            age(job.folder / "inbox" / "broken.jsonl")
            (job.folder / "inbox" / "tuesday.jsonl").unlink()
            watcher.wait_for_shards(3)
            watcher.wait(lambda: len(watcher.states()) == 3 and "gone" in watcher.states().values())
            assert watcher.states() == {
                "monday.jsonl": "changed",
                "tuesday.jsonl": "gone",
                "broken.jsonl": "rejected",
            }
            assert watcher.rows("select count(*) from corpus.documents") == [(4,)]
            assert watcher.rows("select file, reason from corpus.rejected") == [
                ("broken.jsonl", "broken_json")
            ]
            assert watcher.rows("select bool_and(is_balanced) from marts.funnel") == [(True,)]
            runs = deployment.runs()
            assert {run["status"] for run in runs} == {"SUCCESS"}
            time.sleep(8)  # more ticks
            assert len(deployment.runs()) == len(runs)
    assert model.billed_twice == 0
