"""A finished project that a test may break, and what its checks say then."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg

from assets.checks import LAWS, MEASURES, build_checks
from assets.resources import StoreResource
from persona_pipeline.project import Project
from persona_pipeline.settings import Settings
from persona_pipeline.store.store import Store
from tests.support.platform import QUIET, Platform

NAMES = {check.name for check in (*LAWS, *MEASURES)}
LATER = "now() at time zone 'UTC' + interval 1 hour"


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What Dagster recorded of one check."""

    evaluation: dg.AssetCheckEvaluation

    @property
    def outcome(self) -> str:
        """passed, WARN or ERROR."""
        return "passed" if self.evaluation.passed else self.evaluation.severity.value

    def __getitem__(self, name: str) -> Any:  # noqa: ANN401 - any metadata
        return self.evaluation.metadata[name].value


@dataclass(frozen=True, slots=True)
class CheckedProject:
    """A copy of the finished project."""

    settings: Settings

    @property
    def store(self) -> Store:
        return Store(self.settings.database, self.settings.snapshot)

    def change(self, *statements: str) -> None:
        """Run statements on the database."""
        with self.store.connect() as connection:
            for statement in statements:
                connection.execute(statement)

    def count(self, table: str) -> int:
        return int(self.store.query(f"select count(*) from {table}").item())

    def check(self, name: str, **other: object) -> CheckResult:
        """Execute one check, with `other` settings."""
        return self.check_all(name, **other)[name]

    def check_all(self, *names: str, **other: object) -> dict[str, CheckResult]:
        """Execute some checks, and nothing else."""
        settings = self.settings.model_copy(update=other)
        checks = build_checks(Project(settings))
        keys = [key for step in checks for key in step.check_keys if key.name in names]
        job = dg.define_asset_job("checks", selection=dg.AssetSelection.checks(*keys))
        store = StoreResource(database=str(settings.database), snapshot=str(settings.snapshot))
        definitions = dg.Definitions(asset_checks=checks, jobs=[job], resources={"duckdb": store})
        result = definitions.resolve_job_def("checks").execute_in_process(
            run_config=QUIET, raise_on_error=False
        )
        return results(result)


def results(result: dg.ExecuteInProcessResult) -> dict[str, CheckResult]:
    """Return the checks that a run executed, by name."""
    return {each.check_name: CheckResult(each) for each in result.get_asset_check_evaluations()}


def finish_project(folder: Path) -> tuple[CheckedProject, dict[str, str]]:
    """Make two shards of six pages with removed personas and records; return how checks ended."""
    with dg.DagsterInstance.ephemeral() as instance:
        result = Platform(
            folder,
            instance,
            shard_size=6,
            domains=["math", "tool"],
            records_per_shard=None,
            jaccard_threshold=0.3,
            store_pairs_from=0.2,
            fuzzy_threshold=90.0,
            record_thresholds={"math": 0.1},
        )
        for number in range(12):
            result.write_page(f"page{number:02}", f"Page {number} tells how a mill is built.")
        checks: dict[str, CheckResult] = {}
        shards = result.register()
        for shard in (*shards, *shards):  # the second run changes nothing, and checks as much
            checks |= results(result.run(shard))
    return CheckedProject(result.settings), {name: each.outcome for name, each in checks.items()}


def copy_project(project: CheckedProject, folder: Path) -> CheckedProject:
    """Copy the project's database to another folder."""
    settings = project.settings.model_copy(update={"data_dir": folder / "data"})
    settings.data_dir.mkdir()
    shutil.copy(project.settings.database, settings.database)
    return CheckedProject(settings)


def copy_row(table: str, where: str = "true", **changed: str) -> str:
    """Return a statement that adds a row again, with other values in some columns."""
    replaced = ", ".join(f"{value} as {column}" for column, value in changed.items())
    star = f"* replace ({replaced})" if changed else "*"
    return f"insert into {table} by name select {star} from {table} where {where} limit 1"


def kept_pair(
    similarity: float, layer: str = "jaccard", key: str = "set_key", score: str = "null"
) -> str:
    """Return a statement that makes two personas of the hub similar."""
    return (
        "insert into personas.pairs by name "
        f"select min(shard) as shard, '{layer}' as layer, min({key}) as first_key, "
        f"max({key}) as second_key, {similarity} as similarity, {score} as fuzzy_score "
        "from (select fingerprints.* from personas.fingerprints "
        "semi join personas.hub using (persona_id) order by persona_id limit 2)"
    )
