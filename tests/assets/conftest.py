from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from assets.definitions import build_definitions
from assets.jobs import MAIN_JOB, REGISTER_JOB
from assets.resources import Models
from persona_pipeline.project import Project
from persona_pipeline.settings import load_settings
from persona_pipeline.store.store import Store

QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


class Platform:
    """The code location on the fake model, in a folder of its own."""

    def __init__(self, folder: Path, instance: dg.DagsterInstance, **arguments: object) -> None:
        pages = folder / "pages"
        pages.mkdir(exist_ok=True)
        self.settings = load_settings(
            data_dir=folder / "data",
            source=str(pages),
            model="fake/demo",
            embedding_model="fake/embedder",
            min_chars=10,
            documents=None,
            **arguments,
        )
        self.pages = pages
        self.models = Models(self.settings)
        self.instance = instance
        self.project = Project(self.settings)
        self.definitions = build_definitions(self.project, self.models)
        self.store = Store(self.settings.database, self.settings.snapshot)

    def write_page(self, name: str, text: str) -> None:
        (self.pages / f"{name}.txt").write_text(text, encoding="utf-8")

    def register(self) -> list[str]:
        job = self.definitions.resolve_job_def(REGISTER_JOB)
        job.execute_in_process(instance=self.instance, run_config=QUIET)
        shards = self.store.query("select shard from corpus.shards order by shard_number")
        return shards["shard"].to_list()

    def run(self, shard: str) -> dg.ExecuteInProcessResult:
        job = self.definitions.resolve_job_def(MAIN_JOB)
        return job.execute_in_process(
            instance=self.instance, run_config=QUIET, partition_key=shard, raise_on_error=False
        )

    def materialize(
        self, *keys: str, shard: str | None = None, to: str | None = None
    ) -> dg.ExecuteInProcessResult:
        """The assets of one shard, or of the shards from `shard` up to `to` in one run."""
        tags = {
            "dagster/asset_partition_range_start": shard or "",
            "dagster/asset_partition_range_end": to or "",
        }
        job = self.definitions.resolve_implicit_global_asset_job_def()
        return job.execute_in_process(
            instance=self.instance,
            run_config=QUIET,
            partition_key=None if to else shard,
            tags=tags if to else None,
            asset_selection=[dg.AssetKey.from_user_string(key) for key in keys],
            raise_on_error=False,
        )

    def version(self, key: str, shard: str) -> str:
        """The data version of one shard of an asset."""
        record = self.instance.get_latest_data_version_record(
            dg.AssetKey.from_user_string(key), partition_key=shard
        )
        assert record is not None
        assert record.asset_materialization is not None
        return (record.asset_materialization.tags or {})["dagster/data_version"]

    def rows(self, table: str) -> list[tuple[object, ...]]:
        """The table's data, without what names the run."""
        return self.store.query(
            f"select * exclude (run_id, created_at) from {table} order by all"
        ).rows()


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral


@pytest.fixture
def platform(tmp_path: Path, instance: dg.DagsterInstance) -> Platform:
    """Four pages in two shards."""
    result = Platform(tmp_path, instance, shard_size=2)
    for number in range(4):
        result.write_page(
            f"page{number}", f"Page {number} tells how a {number}-arm windmill is built."
        )
    return result
