"""Group `personas`: diverse subsets of the hub, made on demand."""

import dagster as dg

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
from persona_pipeline.personas.selection_rules import how_to_configure
from persona_pipeline.settings import Settings

SELECTIONS = ["personas", "selections"]


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
        context: dg.AssetExecutionContext, duckdb: StoreResource
    ) -> dg.MaterializeResult[None]:
        """One row is one persona of a diverse subset of the hub, in the order of selection.

        Made on demand, and no part of the main job: a selection stays as it is, also when shards
        come, until this is materialized again (or 'persona-pipeline select'), so that the domains
        that draw from it buy nothing new by themselves.
        """
        store = duckdb.store
        store.migrate()
        if not settings.selections:
            return dg.MaterializeResult(metadata={"no selection": how_to_configure("diverse")})
        plan, made = dedup_plan(settings), Metadata()
        with turn(settings.locks_dir / STAGE):
            for name, rules in settings.selections.items():
                rows = select_personas(store, plan, name, rules)
                store.replace(rows, [], run_id=context.run.run_id)
                made |= _describe(summarize_selection(store, name, SAMPLE_ROWS), rules.count)
        return dg.MaterializeResult(
            metadata={**made, **describe_table(store, "personas.selections")}
        )

    return selections


def _describe(made: SelectionSummary, wanted: int | None) -> Metadata:
    numbers = {
        "personas": made.count,
        "personas missing": wanted - made.count if wanted and wanted > made.count else None,
        "smallest distance": made.smallest,
        "median distance": made.median,
        "sample": as_markdown(made.first),
    }
    return {f"{made.name}: {what}": is_ for what, is_ in numbers.items() if is_ is not None}
