"""Group `personas`: from documents to the hub of kept personas."""

from collections.abc import Sequence

import dagster as dg

from assets.hub import build_duplicates_asset, build_hub_asset, build_pairs_asset
from assets.metadata.tables import Metadata
from assets.resources import Models, StoreResource
from assets.shard_assets import AT_ONCE, OWNERS, SHARDS, refresh_condition, some_at_once
from assets.shard_runs import Results, run_shards
from assets.stage_run import StageRun
from persona_pipeline.hashing import stable_id
from persona_pipeline.hub.embeddings import embed_candidates
from persona_pipeline.models import open_embedder
from persona_pipeline.personas.persona_to_persona import persona_to_persona
from persona_pipeline.personas.plan import stage_prompt
from persona_pipeline.personas.quality import apply_quality_rules
from persona_pipeline.personas.text_to_persona import text_to_persona
from persona_pipeline.project import persona_plan
from persona_pipeline.settings import Settings
from persona_pipeline.sql import read_sql
from persona_pipeline.stage_names import EMBEDDINGS, PERSONA_TO_PERSONA, TEXT_TO_PERSONA

ASKING_VERSION = 1
"""Of what the code versions of assets that ask a model hash."""


def build_persona_assets(settings: Settings) -> Sequence[dg.AssetsDefinition]:
    """The assets of the persona stages."""
    return [
        *_asking_assets(settings),
        *_judging_assets(settings),
        build_pairs_asset(settings),
        build_duplicates_asset(settings),
        build_hub_asset(settings),
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
            gateway = run.gateway(models, TEXT_TO_PERSONA)
            return run.commit([text_to_persona(documents, asking, gateway, run.shard)])

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
            gateway = run.gateway(models, PERSONA_TO_PERSONA)
            return run.commit([persona_to_persona(personas, relating, gateway, run.shard)])

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
            gateway, embedder = run.gateway(models, EMBEDDINGS), None
            if settings.needs_vectors:
                embedder = open_embedder(settings, gateway, run.shard)
            return run.commit([embed_candidates(personas, stored, embedder, run.shard)])

        yield from run_shards(context, duckdb, settings, ["personas.embeddings"], embed)

    return [candidates, embeddings]


def _version(prompt: str, *settings: str | int) -> str:
    return stable_id(ASKING_VERSION, stage_prompt(prompt).version, *settings)[:12]
