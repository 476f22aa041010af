"""Build the assets of tables that several stages write to. They report what the tables hold."""

import dagster as dg

from assets.metadata.tables import describe_shards
from assets.resources import StoreResource
from assets.shard_assets import AT_ONCE, OWNERS, SHARDS, refresh_condition
from assets.shard_runs import Results, report
from persona_pipeline.project import Project


def build_shared_table_assets(project: Project) -> dg.AssetsDefinition:
    """Build the asset that reports rejected rows, calls and stages."""
    synthetic = [["synthetic", domain] for domain in project.domains]
    asking = [["personas", "extracted"], ["personas", "related"]]
    tables_of_all = {
        ("personas", "rejected"): (
            [*asking, ["personas", "candidates"]],
            "One row is one persona rejected by a failed call or by a quality rule.",
        ),
        ("synthetic", "rejected"): (
            synthetic,
            "One row is one rejected record: its domain, reason and raw answer.",
        ),
        ("llm", "calls"): (
            [*asking, *synthetic],
            "One row is one bought answer: request, response, tokens, price. It is bought once.",
        ),
        ("runs", "stages"): (
            [["personas", "hub"], *synthetic],
            "One row is the last run of one stage on one shard: rows read and rows requested.",
        ),
    }

    @dg.multi_asset(
        name="shared_tables",
        partitions_def=SHARDS,
        backfill_policy=AT_ONCE,
        specs=[
            dg.AssetSpec(
                list(key),
                deps=deps,
                group_name="marts" if key[0] in {"llm", "runs"} else key[0],
                kinds={"duckdb"},
                owners=OWNERS,
                automation_condition=refresh_condition(),
                description=f"{description} The stages before it write it; this asset reports it.",
            )
            for key, (deps, description) in tables_of_all.items()
        ],
    )
    def reports(context: dg.AssetExecutionContext, duckdb: StoreResource) -> Results:
        names = [".".join(key) for key in tables_of_all]
        store, shards = duckdb.store, context.partition_keys
        yield from report(context, describe_shards(store, names, shards))

    return reports
