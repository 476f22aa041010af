"""Group `personas`: diverse subsets of the hub, made on demand."""

import dagster as dg
from pydantic import Field

from assets.resources import StoreResource
from assets.stage_runs import OWNERS
from assets.tables import SAMPLE_ROWS, Metadata, as_markdown, describe_table
from persona_pipeline.locks import turn
from persona_pipeline.personas.comparison import dedup_plan
from persona_pipeline.personas.deduplication import STAGE
from persona_pipeline.personas.selection import (
    SelectionSummary,
    select_personas,
    summarize_selection,
)
from persona_pipeline.personas.selection_rules import check_selection, how_to_configure
from persona_pipeline.settings import Settings

SELECTIONS = ["personas", "selections"]


class SelectionsConfig(dg.Config):
    """Which selections are made."""

    names: list[str] = Field(default=[], description="selections to make; none: all configured")


def build_selections_asset(settings: Settings) -> dg.AssetsDefinition:
    """The asset that makes all configured selections."""

    @dg.asset(
        key=SELECTIONS,
        deps=[["personas", "hub"], ["personas", "embeddings"]],
        group_name="personas",
        kinds={"numba", "duckdb"},
        owners=OWNERS,
    )
    def selections(
        context: dg.AssetExecutionContext, config: SelectionsConfig, duckdb: StoreResource
    ) -> dg.MaterializeResult[None]:
        """One row is one persona of a diverse subset of the hub, in the order of selection.

        No part of the main job: a selection stays as it is, also when shards come, until this is
        materialized again (or 'persona-pipeline select'), so that the domains that draw from it buy
        nothing new by themselves. 'persona-pipeline run' makes those that its domains are to draw
        from and that were never made.
        """
        store = duckdb.store
        store.migrate()
        for name in config.names:
            check_selection(name, settings.selections)
        if not settings.selections:
            return dg.MaterializeResult(metadata={"no selection": how_to_configure("diverse")})
        plan, made = dedup_plan(settings), Metadata()
        with turn(settings.locks_dir / STAGE):
            for name in config.names or settings.selections:
                rules = settings.selections[name]
                chosen = select_personas(store, plan, name, rules)
                store.replace(chosen.rows, [], run_id=context.run.run_id)
                summary = summarize_selection(store, name, SAMPLE_ROWS)
                made |= _describe(summary, rules.count, chosen.describe_removed() or None)
        return dg.MaterializeResult(
            metadata={**made, **describe_table(store, "personas.selections")}
        )

    return selections


def _describe(made: SelectionSummary, wanted: int | None, removed: str | None) -> Metadata:
    numbers = {
        "personas": made.count,
        "personas missing": wanted - made.count if wanted and wanted > made.count else None,
        "removed as too similar": removed,
        "smallest distance": made.smallest,
        "median distance": made.median,
        "sample": as_markdown(made.first),
    }
    return {f"{made.name}: {what}": is_ for what, is_ in numbers.items() if is_ is not None}
