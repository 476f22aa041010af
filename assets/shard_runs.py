"""How an asset goes through the shards of its run, and reports each table of each."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import dagster as dg

from assets.resources import StoreResource
from assets.stage_runs import Metadata, StageRun, describe_table, stage_run
from persona_pipeline.settings import Settings
from persona_pipeline.store import Store

Results = Iterator[dg.MaterializeResult[None]]
AT_ONCE = dg.BackfillPolicy.single_run()
"""Of assets that buy nothing: 200 shards cost one start of a process (3 CPU-seconds), not 200."""
DATA_VERSION = "dagster/data_version"


def some_at_once(settings: Settings) -> dg.BackfillPolicy:
    """Of assets that buy answers: a few shards in a run, whose budget they share."""
    return dg.BackfillPolicy.multi_run(max_partitions_per_run=settings.shards_per_run)


def run_shards(
    context: dg.AssetExecutionContext,
    duckdb: StoreResource,
    settings: Settings,
    tables: Sequence[str],
    work: Callable[[StageRun], Metadata],
) -> Results:
    """Do `work` for each shard of the run; its metadata and that of each table is the shard's.

    A shard is committed when it is done, and reported even if a later one fails.
    """
    made: dict[str, dict[str, Metadata]] = {}
    try:
        for shard in context.partition_keys:
            with stage_run(context, duckdb, settings, shard) as run:
                told = work(run)
                made[shard] = {
                    table: {**told, **describe_table(run.store, table, shard)} for table in tables
                }
    except BaseException:
        _report_each(context, duckdb.store, made)
        raise
    yield from report(context, duckdb.store, made)


def report(
    context: dg.AssetExecutionContext,
    store: Store,
    made: Mapping[str, Mapping[str, Metadata]],
) -> Results:
    """The materialization of every table (`schema.table`) of every shard, with its metadata.

    Dagster gives all partitions of a run one data version, so those of a run of several are
    reported again, each with its own: else rewriting one of them with the same rows would make
    everything after it stale.
    """
    shards = list(made)
    for table in made[shards[0]]:
        key = dg.AssetKey(table.split("."))
        if len(shards) == 1:
            [metadata] = (tables[table] for tables in made.values())
            version = dg.DataVersion(content_version(store, table, shards[0]))
            yield dg.MaterializeResult(asset_key=key, metadata=metadata, data_version=version)
        else:
            yield dg.MaterializeResult(asset_key=key)
    if len(shards) > 1:
        _report_each(context, store, made)


def _report_each(
    context: dg.AssetExecutionContext,
    store: Store,
    made: Mapping[str, Mapping[str, Metadata]],
) -> None:
    for shard, tables in made.items():
        for table, metadata in tables.items():
            context.log_event(
                dg.AssetMaterialization(
                    asset_key=dg.AssetKey(table.split(".")),
                    partition=shard,
                    metadata=metadata,
                    tags={DATA_VERSION: content_version(store, table, shard)},
                )
            )


def content_version(store: Store, table: str, shard: str) -> str:
    """The same for the same rows, whoever wrote them, when, and in which order."""
    rows = f"select * exclude (run_id, created_at) from {table} where shard = $shard"
    query = f"select count(*) as rows, sum(hash(content)::hugeint) as sum from ({rows}) as content"
    [(count, total)] = store.query(query, {"shard": shard}).rows()
    return f"{count}-{int(total or 0) % 2**64:016x}"
