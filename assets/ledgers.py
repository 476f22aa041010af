"""Tables that several stages write to: their assets report what is in them."""

from collections.abc import Iterator

import dagster as dg

from assets.resources import StoreResource
from assets.stage_runs import OWNERS, SHARDS, describe_table, result
from persona_pipeline.domains.spec import Domain


def build_ledger_assets(domains: list[Domain]) -> dg.AssetsDefinition:
    """The reports on what was turned away and what was bought."""
    synthetic = [["synthetic", domain.name] for domain in domains]
    asking = [["personas", "extracted"], ["personas", "related"]]
    ledgers = {
        ("personas", "rejected"): (
            [*asking, ["personas", "candidates"]],
            "One row is one persona turned away: by a failed call, or by a quality rule.",
        ),
        ("synthetic", "rejected"): (
            synthetic,
            "One row is one record turned away: its domain, reason and raw answer.",
        ),
        ("llm", "calls"): (
            [*asking, *synthetic],
            "One row is one paid answer: request, response, tokens, price; never bought again.",
        ),
        ("runs", "stages"): (
            [["personas", "hub"], *synthetic],
            "One row is the last run of one stage on one shard: rows read and rows asked for.",
        ),
    }

    @dg.multi_asset(
        name="ledgers",
        partitions_def=SHARDS,
        specs=[
            dg.AssetSpec(
                list(key),
                deps=deps,
                group_name="marts" if key[0] in {"llm", "runs"} else key[0],
                kinds={"duckdb"},
                owners=OWNERS,
                description=f"{description} Written by the stages before it, reported here.",
            )
            for key, (deps, description) in ledgers.items()
        ],
    )
    def reports(
        context: dg.AssetExecutionContext, duckdb: StoreResource
    ) -> Iterator[dg.MaterializeResult[None]]:
        for key in ledgers:
            yield result(key, describe_table(duckdb.store, ".".join(key), context.partition_key))

    return reports
