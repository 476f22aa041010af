"""Build the assets of group `personas` that compare, decide, keep, select and sweep."""

from collections.abc import Sequence

import dagster as dg
from pydantic import Field

from assets.metadata.plots import lengths_of_hub, plot_metadata
from assets.metadata.svg import line_plot
from assets.metadata.tables import SAMPLE_ROWS, Metadata, as_markdown, describe_table
from assets.resources import StoreResource
from assets.shard_assets import OWNERS, shard_asset, shard_table
from assets.stage_run import StageRun
from persona_pipeline.dedup.words.word_sets import TOKENIZER_VERSION
from persona_pipeline.hashing import stable_id
from persona_pipeline.hub.comparison import compare_shards
from persona_pipeline.hub.decisions import deduplicate, hub_rows
from persona_pipeline.hub.plan import DedupPlan
from persona_pipeline.hub.selection import SelectionSummary, select_personas, summarize_selection
from persona_pipeline.hub.selection_rules import check_selection, how_to_configure
from persona_pipeline.hub.state import DedupState, read_dedup_state, shards_without_vectors
from persona_pipeline.hub.sweep import SweepStep, sweep, sweep_rows, sweep_thresholds
from persona_pipeline.locks import exclusive_lock
from persona_pipeline.project import Project
from persona_pipeline.sql import read_sql
from persona_pipeline.stage_names import COMPARISON, DEDUPLICATION, HUB
from persona_pipeline.steps import outdated_hubs
from persona_pipeline.store.done_steps import Reason

COMPARED = {
    "fingerprints": "One row is one candidate, with the hashes of its text for deduplication.",
    "pairs": "One row is two similar word sets or texts, whichever personas have them.",
}


SELECTIONS = ["personas", "selections"]
SWEEP = ["personas", "sweep"]


def build_hub_assets(project: Project) -> Sequence[dg.AssetsDefinition]:
    """Build the assets from candidates to the hub, and those made from the hub on demand."""
    return [
        _pairs_asset(project),
        _duplicates_asset(project),
        _hub_asset(project),
        _selections_asset(project),
        _sweep_asset(project),
    ]


def _pairs_asset(project: Project) -> dg.AssetsDefinition:
    plan, lock = project.dedup_plan, project.settings.locks_dir / DEDUPLICATION
    version = stable_id(plan.comparison.version_text(), TOKENIZER_VERSION)
    tables = [
        shard_table(
            f"personas/{name}",
            deps=["personas/candidates", "personas/embeddings"],
            kinds={"numba"},
            code_version=version,
            description=description,
        )
        for name, description in COMPARED.items()
    ]

    @shard_asset(project, COMPARISON, *tables, name="personas__pairs")
    def pairs(run: StageRun) -> Metadata:
        with exclusive_lock(lock):
            compared = compare_shards(run.store, plan, again=_to_compare_again(run))
            run.commit(compared)
        if without := shards_without_vectors(run.store, plan):
            dg.get_dagster_logger().warning(
                "%s have no vectors of %s and are not compared by meaning: materialize "
                "personas/embeddings for them",
                without,
                plan.embedding_model,
            )
        return {"shards_compared": [rows.shard for rows in compared]}

    return pairs


def _duplicates_asset(project: Project) -> dg.AssetsDefinition:
    plan, lock = project.dedup_plan, project.settings.locks_dir / DEDUPLICATION
    table = shard_table(
        "personas/duplicates",
        deps=["personas/fingerprints", "personas/pairs"],
        kinds={"sql"},
        code_version=stable_id(plan.thresholds.version_text()),
    )

    @shard_asset(project, DEDUPLICATION, table)
    def duplicates(run: StageRun) -> Metadata:
        """One row is one persona removed as a duplicate, with its keeper, layer and similarity.

        The earlier shard wins. Later shards are decided again with this one.
        """
        with exclusive_lock(lock):
            if changed := compare_shards(run.store, plan):  # changed since personas/pairs was made
                run.commit(changed, is_last=False)
            again = run.task.why.reason in {Reason.INPUT, Reason.OUTPUT, Reason.FORCED}
            run.commit(deduplicate(run.store, plan, run.shard, again=again))
        return {}

    return duplicates


def _hub_asset(project: Project) -> dg.AssetsDefinition:
    lock = project.settings.locks_dir / DEDUPLICATION
    table = shard_table(
        "personas/hub", deps=["personas/candidates", "personas/duplicates"], kinds={"sql"}
    )

    @shard_asset(project, HUB, table)
    def hub(run: StageRun) -> Metadata:
        """One row is one kept persona, with the root document of its chain: the collection."""
        with exclusive_lock(lock):
            shards = sorted({*run.task.due, *outdated_hubs(run.store, run.task.step)})
            run.commit(hub_rows(run.read(read_sql("personas/hub"), shards=shards), shards))
        return {"lengths": lengths_of_hub(run.store)}

    return hub


def _to_compare_again(run: StageRun) -> list[str]:
    """Return the shard if its pairs are not what they were, or all is done again."""
    why = run.task.why
    return [run.shard] if why.is_damaged or why.reason == Reason.FORCED else []


class SelectionsConfig(dg.Config):
    """The selections to make."""

    names: list[str] = Field(default=[], description="selections to make; none: all configured")


def _selections_asset(project: Project) -> dg.AssetsDefinition:
    settings = project.settings

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

        It is not part of the main job. A selection stays as it is when shards are added, so the
        domains that draw from it buy nothing new by themselves. Materialize this asset, or run
        'persona-pipeline select', to make it again. 'persona-pipeline run' makes the selections
        that its domains draw from and that were never made.
        """
        store = duckdb.store
        store.migrate()
        for name in config.names:
            check_selection(name, settings.selections)
        if not settings.selections:
            return dg.MaterializeResult(metadata={"no selection": how_to_configure("diverse")})
        plan, metadata = project.dedup_plan, Metadata()
        with exclusive_lock(settings.locks_dir / DEDUPLICATION):
            for name in config.names or settings.selections:
                rules = settings.selections[name]
                chosen = select_personas(store, plan, name, rules)
                store.replace(chosen.rows, [], run_id=context.run.run_id)
                summary = summarize_selection(store, name, SAMPLE_ROWS)
                metadata |= _describe(summary, rules.count, chosen.describe_removed() or None)
        return dg.MaterializeResult(
            metadata={**metadata, **describe_table(store, "personas.selections")}
        )

    return selections


def _describe(summary: SelectionSummary, wanted: int | None, removed: str | None) -> Metadata:
    numbers = {
        "personas": summary.count,
        "personas missing": wanted - summary.count if wanted and wanted > summary.count else None,
        "removed as too similar": removed,
        "smallest distance": summary.smallest,
        "median distance": summary.median,
        "sample": as_markdown(summary.first),
    }
    return {
        f"{summary.name}: {what}": value for what, value in numbers.items() if value is not None
    }


def _sweep_asset(project: Project) -> dg.AssetsDefinition:
    plan = project.dedup_plan

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
        """One row is one Jaccard threshold, with the number of personas that it would keep.

        It is made on demand and is not part of the main job, since it resolves all shards a dozen
        times. 'persona-pipeline dedup sweep' shows the pairs that are closest to each threshold.
        """
        store = duckdb.store
        store.migrate()
        steps, state = sweep(store, plan, sweep_thresholds()), read_dedup_state(store, plan)
        rows = sweep_rows(steps)
        store.replace([rows], [], run_id=context.run.run_id)
        return dg.MaterializeResult(
            metadata={
                **describe_table(store, "personas.sweep"),
                "sample": as_markdown(rows.tables["personas.sweep"]),  # all rows: they are few
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
