"""Build the assets of group `marts`: views for people, and the law that no row is lost."""

from collections.abc import Iterator, Sequence
from datetime import timedelta

import dagster as dg

from assets.metadata.plots import topics
from assets.metadata.tables import describe_table, result
from assets.resources import StoreResource
from assets.shard_assets import OWNERS, refresh_condition
from persona_pipeline.project import Project

FUNNEL = ["marts", "funnel"]


def build_mart_assets(project: Project) -> Sequence[dg.AssetsDefinition]:
    """Build the views over the tables, and the funnel whose counts must balance."""
    return [_build_funnel(project), _build_views()]


def _build_funnel(project: Project) -> dg.AssetsDefinition:
    hours = project.settings.fresh_within_hours
    freshness = None if hours is None else dg.FreshnessPolicy.time_window(timedelta(hours=hours))

    @dg.asset(
        key=FUNNEL,
        deps=[
            ["runs", "stages"],
            ["corpus", "rejected"],
            ["personas", "rejected"],
            ["synthetic", "rejected"],
            ["synthetic", "duplicates"],
        ],
        group_name="marts",
        kinds={"sql", "duckdb"},
        owners=OWNERS,
        automation_condition=refresh_condition(),
        freshness_policy=freshness,  # a run of any shard ends with it
    )
    def funnel(duckdb: StoreResource) -> dg.MaterializeResult[None]:
        """One row is one stage of one shard: rows in = kept + rejected + duplicates + failed."""
        return dg.MaterializeResult(metadata=describe_table(duckdb.store, "marts.funnel"))

    return funnel


def _build_views() -> dg.AssetsDefinition:
    views = {
        "lineage": (
            [["synthetic", "duplicates"]],
            "One row is one record with what it comes from: personas, page, URL, licence, call.",
        ),
        "cost": (
            [["llm", "calls"]],
            "One row is one stage, shard and model: calls, tokens and price.",
        ),
        "pairs": (
            [["personas", "pairs"], ["personas", "duplicates"]],
            "One row is one pair of similar personas: how similar, and whether one was removed.",
        ),
        "coverage": (
            [["corpus", "documents"], ["personas", "hub"], ["synthetic", "duplicates"]],
            "One row is one source, topic and language: documents, personas, records, and gaps.",
        ),
        "samples": (
            [["marts", "lineage"]],
            "One row is one sampled record, five of each domain, to read.",
        ),
    }

    @dg.multi_asset(
        name="marts",
        group_name="marts",
        specs=[
            dg.AssetSpec(
                ["marts", name],
                deps=[*deps, FUNNEL],
                kinds={"sql", "duckdb"},
                owners=OWNERS,
                automation_condition=refresh_condition(),
                description=description,
            )
            for name, (deps, description) in views.items()
        ],
    )
    def marts(duckdb: StoreResource) -> Iterator[dg.MaterializeResult[None]]:
        store = duckdb.store
        with store.reading():
            metadata = {name: describe_table(store, f"marts.{name}") for name in views}
            metadata["coverage"]["topics"] = topics(store)
        for name, of_view in metadata.items():
            yield result(["marts", name], of_view)

    return marts
