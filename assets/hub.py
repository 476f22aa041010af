"""Group `personas`, from candidates to the hub: compare, decide, keep, select, sweep."""

from collections.abc import Sequence

import dagster as dg
from pydantic import Field

from assets.metadata.plots import lengths_of_hub, plot_metadata
from assets.metadata.svg import line_plot
from assets.metadata.tables import SAMPLE_ROWS, Metadata, as_markdown, describe_table
from assets.resources import StoreResource
from assets.shard_assets import AT_ONCE, OWNERS, SHARDS, refresh_condition
from assets.shard_runs import Results, run_shards
from assets.stage_run import StageRun
from persona_pipeline.dedup.words.word_sets import TOKENIZER_VERSION
from persona_pipeline.hashing import stable_id
from persona_pipeline.hub.comparison import compare_shards
from persona_pipeline.hub.decisions import STAGE, deduplicate, hub_rows
from persona_pipeline.hub.plan import DedupPlan
from persona_pipeline.hub.selection import SelectionSummary, select_personas, summarize_selection
from persona_pipeline.hub.selection_rules import check_selection, how_to_configure
from persona_pipeline.hub.state import DedupState, read_dedup_state, shards_without_vectors
from persona_pipeline.hub.sweep import SweepStep, sweep, sweep_rows, sweep_thresholds
from persona_pipeline.locks import exclusive_lock
from persona_pipeline.project import dedup_plan
from persona_pipeline.settings import Settings
from persona_pipeline.sql import read_sql

COMPARED = {
    "fingerprints": "One row is what deduplication knows of one candidate: hashes of its text.",
    "pairs": "One row is two word sets or texts that are similar, whichever personas have them.",
}


def build_pairs_asset(settings: Settings) -> dg.AssetsDefinition:
    plan = dedup_plan(settings)

    @dg.multi_asset(
        name="personas__pairs",
        specs=[
            dg.AssetSpec(
                ["personas", name],
                deps=[["personas", "candidates"], ["personas", "embeddings"]],
                description=description,
                group_name="personas",
                kinds={"numba", "duckdb"},
                owners=OWNERS,
                automation_condition=refresh_condition(),
                code_version=stable_id(plan.comparison.version_text(), TOKENIZER_VERSION)[:12],
            )
            for name, description in COMPARED.items()
        ],
        partitions_def=SHARDS,
        backfill_policy=AT_ONCE,
    )
    def pairs(context: dg.AssetExecutionContext, duckdb: StoreResource) -> Results:
        def compare(run: StageRun) -> Metadata:
            with exclusive_lock(settings.locks_dir / STAGE):
                compared = compare_shards(run.store, plan)
                run.commit(compared)
            if without := shards_without_vectors(run.store, plan):
                context.log.warning(
                    "%s have no vectors of %s and are not compared by meaning: materialize "
                    "personas/embeddings for them",
                    without,
                    plan.embedding_model,
                )
            return {"shards_compared": [rows.shard for rows in compared]}

        tables = [f"personas.{name}" for name in COMPARED]
        yield from run_shards(context, duckdb, settings, tables, compare)

    return pairs


def build_duplicates_asset(settings: Settings) -> dg.AssetsDefinition:
    plan = dedup_plan(settings)

    @dg.asset(
        key=["personas", "duplicates"],
        deps=[["personas", "fingerprints"], ["personas", "pairs"]],
        group_name="personas",
        kinds={"sql", "duckdb"},
        owners=OWNERS,
        partitions_def=SHARDS,
        backfill_policy=AT_ONCE,
        automation_condition=refresh_condition(),
        code_version=stable_id(plan.thresholds.version_text())[:12],
    )
    def duplicates(context: dg.AssetExecutionContext, duckdb: StoreResource) -> Results:
        """One row is one persona removed as a duplicate: of which, in which layer, how similar.

        The earlier shard wins. Later shards are decided again with this one.
        """

        def decide(run: StageRun) -> Metadata:
            with exclusive_lock(settings.locks_dir / STAGE):
                if changed := compare_shards(run.store, plan):  # since personas/pairs was made
                    run.commit(changed)
                run.commit(deduplicate(run.store, plan, run.shard))
            return {}

        yield from run_shards(context, duckdb, settings, ["personas.duplicates"], decide)

    return duplicates


def build_hub_asset(settings: Settings) -> dg.AssetsDefinition:
    @dg.asset(
        key=["personas", "hub"],
        deps=[["personas", "candidates"], ["personas", "duplicates"]],
        group_name="personas",
        kinds={"sql", "duckdb"},
        owners=OWNERS,
        partitions_def=SHARDS,
        backfill_policy=AT_ONCE,
        automation_condition=refresh_condition(),
    )
    def hub(context: dg.AssetExecutionContext, duckdb: StoreResource) -> Results:
        """One row is one kept persona, with the root document of its chain: the collection."""

        def keep(run: StageRun) -> Metadata:
            with exclusive_lock(settings.locks_dir / STAGE):
                shards = run.read(read_sql("personas/hub_shards"))["shard"].to_list()
                run.commit(hub_rows(run.read(read_sql("personas/hub"), shards=shards), shards))
            return {"lengths": lengths_of_hub(run.store)}

        yield from run_shards(context, duckdb, settings, ["personas.hub"], keep)

    return hub


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
        plan, result = dedup_plan(settings), Metadata()
        with exclusive_lock(settings.locks_dir / STAGE):
            for name in config.names or settings.selections:
                rules = settings.selections[name]
                chosen = select_personas(store, plan, name, rules)
                store.replace(chosen.rows, [], run_id=context.run.run_id)
                summary = summarize_selection(store, name, SAMPLE_ROWS)
                result |= _describe(summary, rules.count, chosen.describe_removed() or None)
        return dg.MaterializeResult(
            metadata={**result, **describe_table(store, "personas.selections")}
        )

    return selections


def _describe(result: SelectionSummary, wanted: int | None, removed: str | None) -> Metadata:
    numbers = {
        "personas": result.count,
        "personas missing": wanted - result.count if wanted and wanted > result.count else None,
        "removed as too similar": removed,
        "smallest distance": result.smallest,
        "median distance": result.median,
        "sample": as_markdown(result.first),
    }
    return {f"{result.name}: {what}": value for what, value in numbers.items() if value is not None}


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
        steps, state = sweep(store, plan, sweep_thresholds()), read_dedup_state(store, plan)
        rows = sweep_rows(steps)
        store.replace([rows], [], run_id=context.run.run_id)
        return dg.MaterializeResult(
            metadata={
                **describe_table(store, "personas.sweep"),
                "sample": as_markdown(rows.tables["personas.sweep"]),  # all of them: they are few
                "plot": _plot(steps, state, plan),
                "decided_at": [str(thresholds) for thresholds in state.thresholds],
                "shards_not_compared": state.uncompared,
                "shards_not_decided": state.undecided,
            }
        )

    return sweep_of_personas


def _plot(
    steps: Sequence[SweepStep], state: DedupState, plan: DedupPlan
) -> dg.MarkdownMetadataValue:
    svg = line_plot(
        [(step.threshold, step.kept) for step in steps],
        title="Personas kept",
        x_label="Jaccard threshold",
        y_label="personas kept",
        mark=(state.thresholds or [plan.thresholds])[0].jaccard,
    )
    return plot_metadata("personas kept", svg)
