"""How an asset goes through the shards of its run, and reports each table of each."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import dagster as dg

from assets.metadata.tables import Metadata, ShardOfTable, describe_shard
from assets.stage_run import Resources, StageRun, stage_run
from persona_pipeline.store.data_folder import DataFolder
from persona_pipeline.store.store import Store

Results = Iterator[dg.MaterializeResult[None]]
DATA_VERSION = "dagster/data_version"


def run_shards(
    context: dg.AssetExecutionContext,
    folder: DataFolder,
    tables: Sequence[str],
    work: Callable[[StageRun], Metadata],
    resources: Resources,
) -> Results:
    """Do `work` for each shard of the run; its metadata and that of each table is the shard's.

    A shard is committed when it is done, and reported even if a later one fails. Other shards that
    got other rows are reported, too.
    """
    store = resources[0]
    result: dict[str, dict[str, ShardOfTable]] = {}
    touched = set[str]()
    try:
        for shard in context.partition_keys:
            waited = store.waited_s
            with stage_run(folder, shard, context.run.run_id, resources) as run:
                metadata = work(run)
                described = describe_shard(run.store, tables, shard)
                metadata["lock_wait_seconds"] = round(run.store.waited_s - waited, 2)
                for of_table in described.values():
                    of_table.metadata.update(metadata)
                result[shard] = described
                touched |= run.touched
    except BaseException:
        _report_each(context, result)
        raise
    yield from report(context, result)
    others = sorted(touched - set(result))
    _report_each(context, _changed(context, store, tables, others))


def report(
    context: dg.AssetExecutionContext, result: Mapping[str, Mapping[str, ShardOfTable]]
) -> Results:
    """The materialization of every table (`schema.table`) of every shard, with its metadata.

    Dagster gives all partitions of a run one data version, so those of a run of several are
    reported again, each with its own: else rewriting one of them with the same rows would make
    everything after it stale.
    """
    [tables, *others] = result.values()
    for table, rows in tables.items():
        key = dg.AssetKey(table.split("."))
        if others:
            yield dg.MaterializeResult(asset_key=key)
        else:
            version = dg.DataVersion(rows.version)
            yield dg.MaterializeResult(asset_key=key, metadata=rows.metadata, data_version=version)
    if others:
        _report_each(context, result)


def _report_each(
    context: dg.AssetExecutionContext, result: Mapping[str, Mapping[str, ShardOfTable]]
) -> None:
    for shard, tables in result.items():
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
    """Those tables of the shards that Dagster knows with other rows than they have now."""
    matches: dict[str, dict[str, ShardOfTable]] = {}
    for shard in shards:
        for table, rows in describe_shard(store, tables, shard).items():
            key = dg.AssetKey(table.split("."))
            last = context.instance.get_latest_data_version_record(key, partition_key=shard)
            event = last.asset_materialization if last else None
            if event and (event.tags or {}).get(DATA_VERSION) != rows.version:
                matches.setdefault(shard, {})[table] = rows
    return matches
