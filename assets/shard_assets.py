"""Build assets that are partitioned by shard."""

import inspect
from collections.abc import Callable, Iterable, Sequence

import dagster as dg

from assets.resources import Models, StoreResource
from assets.shard_runs import Results, ShardAsset, Work, run_shards
from persona_pipeline.project import Project
from persona_pipeline.store.store import Store

SHARDS = dg.DynamicPartitionsDefinition(name="shards")
REGISTERED = dg.DataVersion("registered")
"""Data version of the assets that register shards: a new shard makes no other shard stale."""
OWNERS = ["team:data"]
PARTITION = "dagster/partition"
RANGE_START = "dagster/asset_partition_range_start"
RANGE_END = "dagster/asset_partition_range_end"
"""Tags of a run: its partition, or the first and the last of its partitions."""
AT_ONCE = dg.BackfillPolicy.single_run()
"""Policy of assets that buy nothing: 200 shards cost one process start (3 CPU-seconds), not 200."""


def asset_keys(names: Iterable[str]) -> list[dg.AssetKey]:
    """Turn names such as `personas/hub` into asset keys."""
    return [dg.AssetKey.from_user_string(name) for name in names]


def shard_table(
    name: str,
    *,
    deps: Iterable[str],
    kinds: Iterable[str],
    code_version: str | None = None,
    description: str | None = None,
) -> dg.AssetSpec:
    """Describe a table of an asset that is partitioned by shard.

    Args:
        name: `schema/table`, which is the asset key and the table.
        deps: the names of the tables that it is made from.
        kinds: the tools that make it, beside DuckDB.
        code_version: hash of prompt and settings, if Dagster shall show a change of these.
        description: what one row is; default: the docstring of the work.
    """
    [key] = asset_keys([name])
    return dg.AssetSpec(
        key,
        deps=asset_keys(deps),
        group_name=key.path[0],
        kinds={*kinds, "duckdb"},
        owners=OWNERS,
        code_version=code_version and code_version[:12],
        description=description,
    )


def shard_asset(
    project: Project,
    step: str,
    *tables: dg.AssetSpec,
    name: str | None = None,
    buys: bool = False,
    refreshes: bool = True,
) -> Callable[[Work], dg.AssetsDefinition]:
    """Return a decorator that makes an asset of the work on one shard.

    Args:
        project: the data and the settings.
        step: the name of the step that the asset does.
        tables: the tables that the asset writes, as `shard_table` describes them.
        name: the name of the asset's step; default: that of the first table.
        buys: whether the asset asks models. If so, no automation runs it, and a run of a backfill
            has a few shards, which share its budget.
        refreshes: whether the asset is run again after its input has got other rows.
    """
    policy = _few_at_once(project) if buys else AT_ONCE
    condition = refresh_condition() if refreshes and not buys else None
    names = [".".join(table.key.path) for table in tables]

    def decorate(work: Work) -> dg.AssetsDefinition:
        shard_work = ShardAsset(project.steps[step], names, work)

        @dg.multi_asset(
            name=name or "__".join(tables[0].key.path),
            specs=[
                table.replace_attributes(
                    description=table.description or inspect.getdoc(work),
                    automation_condition=condition,
                )
                for table in tables
            ],
            partitions_def=SHARDS,
            backfill_policy=policy,
        )
        def asset(
            context: dg.AssetExecutionContext,
            duckdb: StoreResource,
            models: dg.ResourceParam[Models],
        ) -> Results:
            yield from run_shards(context, project, shard_work, (duckdb.store, models))

        return asset

    return decorate


def refresh_condition() -> dg.AutomationCondition[dg.AssetKey | dg.AssetCheckKey]:
    """Build the condition that requests an asset once after its input has got other rows.

    `since` requests one run for each change. A run that fails is not requested again until
    something else changes. A table that was rewritten with the same rows keeps its data version,
    so no asset after it runs. Assets that buy have no condition: no automation spends money.
    """
    has_changed = dg.AutomationCondition.any_deps_match(
        dg.AutomationCondition.data_version_changed()
    )
    was_handled = dg.AutomationCondition.newly_requested() | dg.AutomationCondition.newly_updated()
    return (
        has_changed.since(was_handled)
        & ~dg.AutomationCondition.missing()
        & ~dg.AutomationCondition.any_deps_in_progress()
        & ~dg.AutomationCondition.in_progress()
    ).with_label("refresh")


def shards_of_run(run: dg.DagsterRun, partitions: Sequence[str]) -> Sequence[str]:
    """Return the shards that a run is of, in the order of Dagster's partitions."""
    first = run.tags.get(RANGE_START) or run.tags.get(PARTITION, "")
    last = run.tags.get(RANGE_END) or first
    if not {first, last}.issubset(partitions):
        return []
    return partitions[partitions.index(first) : partitions.index(last) + 1]


def add_shards(instance: dg.DagsterInstance, store: Store) -> None:
    """Make every registered shard a partition."""
    rows = store.query("select shard from corpus.shards order by shard_number")
    instance.add_dynamic_partitions(str(SHARDS.name), rows["shard"].to_list())


def _few_at_once(project: Project) -> dg.BackfillPolicy:
    most = project.settings.shards_per_run
    return dg.BackfillPolicy.multi_run(max_partitions_per_run=most)
