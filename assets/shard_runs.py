"""Run an asset's work on each shard of a run, and report each table of each shard."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

import dagster as dg

from assets.metadata.tables import Metadata, ShardOfTable, describe_shards
from assets.stage_run import Resources, StageRun, Task, stage_run
from persona_pipeline.errors import StoreError
from persona_pipeline.project import Project
from persona_pipeline.store.done_steps import Step
from persona_pipeline.store.store import Store

Results = Iterator[dg.MaterializeResult[None]]
DATA_VERSION = "dagster/data_version"
Work = Callable[[StageRun], Metadata]
NOTHING_CHANGED = "nothing was done: input, settings and program are what they were"

DONE_BEFORE = "nothing was left to do: an earlier shard of this run did it for this one, too"


class ShardAsset(NamedTuple):
    """What an asset does for one shard."""

    step: Step
    """The step, with the version of the program that was loaded."""
    tables: Sequence[str]
    """The tables that it writes, as `schema.table`."""
    work: Work
    """Does the step on one shard, and returns metadata for the asset's page."""


def run_shards(
    context: dg.AssetExecutionContext,
    project: Project,
    asset: ShardAsset,
    resources: Resources,
) -> Results:
    """Do the work for each shard of the run, and report the shard's tables with their metadata.

    A shard is committed when it is done, and reported even if a later one fails. Other shards whose
    rows have changed are reported, too. A shard for which the step is done is only reported.

    Args:
        context: Dagster's context of the asset.
        project: the data and the settings.
        asset: the step, its tables and its work.
        resources: the store and the models.
    """
    store, step = resources[0], asset.step
    done: dict[str, Metadata] = {}
    touched = set[str]()
    store.migrate()
    shards = context.partition_keys
    with store.reading():
        undone = project.undone_steps(shards, [step.name], store)
        due = [shard for shard in shards if undone[shard]]
        inputs = store.inputs_of(step, due)
    try:
        for shard in shards:
            why = undone[shard].get(step.name)
            if why and shard in touched:  # a shard before it has done the step for it, too
                why = project.undone_steps([shard], [step.name], store)[shard].get(step.name)
            if why:
                context.log.info("%s of %s: %s", step.name, shard, why)
                waited, task = store.waited_s, Task(step, why, inputs, due)
                with stage_run(task, shard, context.run.run_id, resources) as run:
                    metadata = asset.work(run)
                metadata["lock_wait_seconds"] = round(store.waited_s - waited, 2)
                done[shard] = metadata
                touched |= run.touched
            else:
                skipped = DONE_BEFORE if shard in touched else NOTHING_CHANGED
                done[shard] = {"skipped": skipped}
    except BaseException:
        with suppress(StoreError):  # or the error of the database would hide what has happened
            _report_each(context, _describe(store, asset, done))
        raise
    yield from report(context, _describe(store, asset, done))
    others = sorted(touched - set(done))
    _report_each(context, _changed(context, store, asset.tables, others))


def _describe(
    store: Store, asset: ShardAsset, done: Mapping[str, Metadata]
) -> dict[str, dict[str, ShardOfTable]]:
    """Describe the asset's tables of each shard, with the metadata of the step."""
    described = describe_shards(store, asset.tables, list(done))
    for shard, metadata in done.items():
        for of_table in described[shard].values():
            of_table.metadata.update(metadata)
    return described


def report(
    context: dg.AssetExecutionContext, done: Mapping[str, Mapping[str, ShardOfTable]]
) -> Results:
    """Yield the materialization of every table (`schema.table`) of every shard.

    Dagster gives all partitions of a run one data version. So the partitions of a run of several
    shards are reported again, each with its own version. Otherwise, rewriting one of them with the
    same rows would make everything after it stale.
    """
    [tables, *others] = done.values()
    for table, rows in tables.items():
        key = dg.AssetKey(table.split("."))
        if others:
            yield dg.MaterializeResult(asset_key=key)
        else:
            version = dg.DataVersion(rows.version)
            yield dg.MaterializeResult(asset_key=key, metadata=rows.metadata, data_version=version)
    if others:
        _report_each(context, done)


def _report_each(
    context: dg.AssetExecutionContext, done: Mapping[str, Mapping[str, ShardOfTable]]
) -> None:
    for shard, tables in done.items():
        for table, rows in tables.items():
            context.log_event(
                dg.AssetMaterialization(
                    asset_key=dg.AssetKey(table.split(".")),
                    partition=shard,
                    metadata=rows.metadata,
                    tags={DATA_VERSION: rows.version},
                )
            )


def _changed(
    context: dg.AssetExecutionContext, store: Store, tables: Sequence[str], shards: Sequence[str]
) -> dict[str, dict[str, ShardOfTable]]:
    """Return the tables, by shard, whose rows differ from what Dagster last recorded."""
    changed: dict[str, dict[str, ShardOfTable]] = {}
    for shard, described in describe_shards(store, tables, shards).items():
        for table, rows in described.items():
            key = dg.AssetKey(table.split("."))
            last = context.instance.get_latest_data_version_record(key, partition_key=shard)
            event = last.asset_materialization if last else None
            if event and (event.tags or {}).get(DATA_VERSION) != rows.version:
                changed.setdefault(shard, {})[table] = rows
    return changed
