"""The code location on the fake model, and a finished project that a test may change."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg

from assets.definitions import build_definitions
from assets.instance import storage_in
from assets.jobs import MAIN_JOB, REGISTER_JOB
from assets.main_job import MainJob
from assets.resources import Models
from assets.shard_assets import shards_of_run
from persona_pipeline.project import Project
from persona_pipeline.settings import load_settings
from persona_pipeline.store.store import Store

DOMAINS = ("math", "tool")
"""Two of the six domains: one with a check of its own, one without options."""
TABLES = [
    *("corpus.documents", "corpus.rejected", "personas.extracted", "personas.related"),
    *("personas.candidates", "personas.rejected", "personas.embeddings", "personas.fingerprints"),
    *("personas.pairs", "personas.duplicates", "personas.hub", "synthetic.math", "synthetic.tool"),
    *("synthetic.rejected", "synthetic.duplicates", "marts.funnel"),
]
"""Tables of a finished project that do not say when or by which run they were written."""
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


class Platform:
    """The code location on the fake model, in a folder of its own, with two domains."""

    def __init__(self, folder: Path, instance: dg.DagsterInstance, **arguments: object) -> None:
        pages = folder / "pages"
        pages.mkdir(exist_ok=True)
        self.arguments = {
            "data_dir": folder / "data",
            "source": str(pages),
            "model": "fake/demo",
            "embedding_model": "fake/embedder",
            "domains": DOMAINS,
            "min_chars": 10,
            "documents": None,
            **arguments,
        }
        self.settings = load_settings(**self.arguments)
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
        return self.shards()

    def shards(self) -> list[str]:
        """Return the names of the registered shards, in order."""
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
        """Materialize the assets of one shard, or in one run of those from `shard` up to `to`."""
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

    def materialization(self, key: str, shard: str) -> dg.AssetMaterialization:
        """Return the latest materialization of one shard of an asset."""
        record = self.instance.get_latest_data_version_record(
            dg.AssetKey.from_user_string(key), partition_key=shard
        )
        assert record is not None
        assert record.asset_materialization is not None
        return record.asset_materialization

    def version(self, key: str, shard: str) -> str:
        """Return the data version of one shard of an asset."""
        return (self.materialization(key, shard).tags or {})["dagster/data_version"]

    def rows(self, table: str) -> list[tuple[object, ...]]:
        """Return the table's data, without run and time."""
        return self.store.query(
            f"select * exclude (run_id, created_at) from {table} order by all"
        ).rows()


def open_platform(folder: Path, instance: dg.DagsterInstance, **arguments: object) -> Platform:
    """Write four pages, which make two shards, and register none."""
    result = Platform(folder, instance, **{"shard_size": 2, **arguments})
    for number in range(4):
        result.write_page(
            f"page{number}", f"Page {number} tells how a {number}-arm windmill is built."
        )
    return result


def open_local_instance(home: Path) -> dg.DagsterInstance:
    """Open an instance in a folder, as the command line does; it sends nothing anywhere."""
    quiet = {"telemetry": {"enabled": False}}
    return dg.DagsterInstance.local_temp(str(home), overrides=quiet | storage_in(home))


def run_all(platform: Platform) -> None:
    """Run the main job as the command does."""
    job = MainJob(platform.project, platform.definitions, platform.instance, {})
    job.run(job.register())


def runs_of_shards(platform: Platform) -> list[list[str]]:
    """Return the shards of each run of the main job, the first run first."""
    runs = platform.instance.get_runs(dg.RunsFilter(job_name="main"))
    return [[*shards_of_run(run, platform.shards())] for run in reversed(runs)]


def to_do(platform: Platform) -> dict[str, dict[str, str]]:
    """Return why a step of a shard is to do, by shard and step."""
    undone = platform.project.undone_steps(platform.shards())
    return {
        shard: {name: str(why) for name, why in steps.items()} for shard, steps in undone.items()
    }


def execute(platform: Platform, sql: str) -> None:
    with platform.store.transaction() as connection:
        connection.execute(sql)


class KeptProject:
    """A project that is made once, and restored before each test.

    It lies in the same folder each time: the database holds paths of its pages.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self._kept = folder / "project", folder / "kept"
        self.folder.mkdir(parents=True)

    @contextmanager
    def instance(self) -> Iterator[dg.DagsterInstance]:
        """Open the project's Dagster instance, which is on disk."""
        home = self.folder / "instance"
        home.mkdir(exist_ok=True)
        with open_local_instance(home) as kept:
            yield kept

    def keep(self) -> None:
        """Remember all files as they are now."""
        shutil.copytree(self.folder, self._kept)

    def put_back(self) -> None:
        """Make all files what they were."""
        shutil.rmtree(self.folder)
        shutil.copytree(self._kept, self.folder)
