"""Group `personas`: what other thresholds would keep, computed on demand."""

from collections.abc import Sequence

import dagster as dg

from assets.pictures import picture
from assets.resources import StoreResource
from assets.stage_runs import OWNERS
from assets.tables import as_markdown, describe_table
from persona_pipeline.personas.applied import Applied, read_applied
from persona_pipeline.personas.comparison import DedupPlan, dedup_plan
from persona_pipeline.personas.sweep import (
    SweepStep,
    sweep,
    sweep_rows,
    sweep_thresholds,
)
from persona_pipeline.plots import line_plot
from persona_pipeline.settings import Settings

SWEEP = ["personas", "sweep"]


def build_sweep_asset(settings: Settings) -> dg.AssetsDefinition:
    """The asset that tries other thresholds."""
    plan = dedup_plan(settings)

    @dg.asset(
        key=SWEEP,
        deps=[["personas", "duplicates"]],
        group_name="personas",
        kinds={"sql", "duckdb"},
        owners=OWNERS,
    )
    def sweep_of_personas(
        context: dg.AssetExecutionContext, duckdb: StoreResource
    ) -> dg.MaterializeResult[None]:
        """One row is one Jaccard threshold: how many personas it would keep, of all shards.

        Made on demand, and no part of the main job: it costs a dozen resolutions.
        'persona-pipeline dedup sweep' shows the pairs that are closest to each threshold.
        """
        store = duckdb.store
        store.migrate()
        steps, applied = sweep(store, plan, sweep_thresholds()), read_applied(store, plan)
        rows = sweep_rows(steps)
        store.replace([rows], [], run_id=context.run.run_id)
        return dg.MaterializeResult(
            metadata={
                **describe_table(store, "personas.sweep"),
                "sample": as_markdown(rows.tables["personas.sweep"]),  # all of them: they are few
                "plot": _plot(steps, applied, plan),
                "decided_at": [str(thresholds) for thresholds in applied.thresholds],
                "shards_not_compared": applied.uncompared,
                "shards_not_decided": applied.undecided,
            }
        )

    return sweep_of_personas


def _plot(
    steps: Sequence[SweepStep], applied: Applied, plan: DedupPlan
) -> dg.MarkdownMetadataValue:
    svg = line_plot(
        [(step.threshold, step.kept) for step in steps],
        title="Personas kept",
        x_label="Jaccard threshold",
        y_label="personas kept",
        mark=(applied.thresholds or [plan.thresholds])[0].jaccard,
    )
    return picture("personas kept", svg)
