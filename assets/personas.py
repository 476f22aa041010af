"""Group `personas`: from documents to the hub of kept personas."""

from collections.abc import Sequence

import dagster as dg

from assets.automation import refresh_condition
from assets.pictures import lengths_of_hub
from assets.resources import Models, StoreResource
from assets.shard_runs import AT_ONCE, Results, run_shards, some_at_once
from assets.stage_runs import OWNERS, SHARDS, StageRun
from assets.tables import Metadata
from persona_pipeline.dedup.word_sets import TOKENIZER_VERSION
from persona_pipeline.hashing import stable_id
from persona_pipeline.llm.models import open_embedder
from persona_pipeline.locks import turn
from persona_pipeline.personas.candidates import apply_quality_rules
from persona_pipeline.personas.comparison import compare_shards, dedup_plan, shards_without_vectors
from persona_pipeline.personas.deduplication import (
    STAGE,
    deduplicate,
    embed_candidates,
    keep_rest,
)
from persona_pipeline.personas.persona_to_persona import persona_to_persona
from persona_pipeline.personas.plan import (
    persona_plan,
    stage_prompt,
)
from persona_pipeline.personas.text_to_persona import text_to_persona
from persona_pipeline.settings import Settings
from persona_pipeline.sql_files import read_sql
from persona_pipeline.stage_names import EMBEDDINGS, PERSONA_TO_PERSONA, TEXT_TO_PERSONA

ASKING_VERSION = 1
"""Of what the code versions of assets that ask a model hash."""
COMPARED = {
    "fingerprints": "One row is what deduplication knows of one candidate: hashes of its text.",
    "pairs": "One row is two word sets or texts that are similar, whichever personas have them.",
}


def build_persona_assets(settings: Settings) -> Sequence[dg.AssetsDefinition]:
    """The assets of the persona stages."""
    return [
        *_asking_assets(settings),
        *_judging_assets(settings),
        _comparing_asset(settings),
        _deciding_asset(settings),
        _keeping_asset(settings),
    ]


def _asking_assets(settings: Settings) -> Sequence[dg.AssetsDefinition]:
    asking = persona_plan(settings, TEXT_TO_PERSONA)
    relating = persona_plan(settings, PERSONA_TO_PERSONA)

    @dg.asset(
        key=["personas", "extracted"],
        deps=[["corpus", "documents"]],
        group_name="personas",
        kinds={"llm", "duckdb"},
        owners=OWNERS,
        partitions_def=SHARDS,
        backfill_policy=some_at_once(settings),
        code_version=_version(TEXT_TO_PERSONA, asking.model, asking.granularity, *asking.verbs),
    )
    def extracted(
        context: dg.AssetExecutionContext, duckdb: StoreResource, models: dg.ResourceParam[Models]
    ) -> Results:
        """One row is one Text-to-Persona answer: who would read, write, like or dislike a page."""

        def ask(run: StageRun) -> Metadata:
            documents = run.read(read_sql("corpus/documents_of_shard"))
            buyer = run.buyer(models, TEXT_TO_PERSONA)
            return run.commit([text_to_persona(documents, asking, buyer, run.shard)])

        yield from run_shards(context, duckdb, settings, ["personas.extracted"], ask)

    @dg.asset(
        key=["personas", "related"],
        deps=[["personas", "extracted"]],
        group_name="personas",
        kinds={"llm", "duckdb"},
        owners=OWNERS,
        partitions_def=SHARDS,
        backfill_policy=some_at_once(settings),
        code_version=_version(PERSONA_TO_PERSONA, relating.model, relating.hops, relating.fan_out),
    )
    def related(
        context: dg.AssetExecutionContext, duckdb: StoreResource, models: dg.ResourceParam[Models]
    ) -> Results:
        """One row is one Persona-to-Persona answer: a person close to another, and how."""

        def ask(run: StageRun) -> Metadata:
            personas = run.read(read_sql("personas/extracted_of_shard"))
            buyer = run.buyer(models, PERSONA_TO_PERSONA)
            return run.commit([persona_to_persona(personas, relating, buyer, run.shard)])

        yield from run_shards(context, duckdb, settings, ["personas.related"], ask)

    return [extracted, related]


def _judging_assets(settings: Settings) -> Sequence[dg.AssetsDefinition]:
    plan = persona_plan(settings, PERSONA_TO_PERSONA)

    @dg.asset(
        key=["personas", "candidates"],
        deps=[["personas", "extracted"], ["personas", "related"]],
        group_name="personas",
        kinds={"python", "duckdb"},
        owners=OWNERS,
        partitions_def=SHARDS,
        backfill_policy=AT_ONCE,
        automation_condition=refresh_condition(),
    )
    def candidates(context: dg.AssetExecutionContext, duckdb: StoreResource) -> Results:
        """One row is one persona, of either origin, that passed the quality rules."""

        def judge(run: StageRun) -> Metadata:
            extracted = run.read(read_sql("personas/extracted_of_shard"))
            related = run.read(read_sql("personas/related_of_shard"))
            run.commit([apply_quality_rules(extracted, related, plan, run.shard)])
            return {}

        yield from run_shards(context, duckdb, settings, ["personas.candidates"], judge)

    @dg.asset(
        key=["personas", "embeddings"],
        deps=[["personas", "candidates"]],
        group_name="personas",
        kinds={"python", "duckdb"},
        owners=OWNERS,
        partitions_def=SHARDS,
        backfill_policy=some_at_once(settings),
        code_version=stable_id(settings.embedding_model)[:12],
    )
    def embeddings(
        context: dg.AssetExecutionContext, duckdb: StoreResource, models: dg.ResourceParam[Models]
    ) -> Results:
        """One row is the vector of one candidate, for the semantic layer of deduplication."""

        def embed(run: StageRun) -> Metadata:
            personas = run.read(read_sql("personas/candidates_of_shard"))
            stored = run.read("select * from personas.embeddings where shard = $shard")
            buyer, embedder = run.buyer(models, EMBEDDINGS), None
            if settings.needs_vectors:
                embedder = open_embedder(settings, buyer, run.shard)
            return run.commit([embed_candidates(personas, stored, embedder, run.shard)])

        yield from run_shards(context, duckdb, settings, ["personas.embeddings"], embed)

    return [candidates, embeddings]


def _comparing_asset(settings: Settings) -> dg.AssetsDefinition:
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
            with turn(settings.locks_dir / STAGE):
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


def _deciding_asset(settings: Settings) -> dg.AssetsDefinition:
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
            with turn(settings.locks_dir / STAGE):
                if changed := compare_shards(run.store, plan):  # since personas/pairs was made
                    run.commit(changed)
                run.commit(deduplicate(run.store, plan, run.shard))
            return {}

        yield from run_shards(context, duckdb, settings, ["personas.duplicates"], decide)

    return duplicates


def _keeping_asset(settings: Settings) -> dg.AssetsDefinition:
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
        """One row is one kept persona, with the document that its line began at: the collection."""

        def keep(run: StageRun) -> Metadata:
            with turn(settings.locks_dir / STAGE):
                shards = run.read(read_sql("personas/hub_shards"))["shard"].to_list()
                run.commit(keep_rest(run.read(read_sql("personas/hub"), shards=shards), shards))
            return {"lengths": lengths_of_hub(run.store)}

        yield from run_shards(context, duckdb, settings, ["personas.hub"], keep)

    return hub


def _version(prompt: str, *settings: str | int) -> str:
    return stable_id(ASKING_VERSION, stage_prompt(prompt).version, *settings)[:12]
