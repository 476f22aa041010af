"""Build the assets of group `personas` from documents to candidates: ask, judge, embed."""

from collections.abc import Sequence
from typing import Final

import dagster as dg

from assets.metadata.tables import Metadata
from assets.shard_assets import shard_asset, shard_table
from assets.stage_run import StageRun
from persona_pipeline.hashing import stable_id
from persona_pipeline.hub.embeddings import embed_candidates
from persona_pipeline.models import open_embedder
from persona_pipeline.personas.persona_to_persona import persona_to_persona
from persona_pipeline.personas.plan import PersonaPlan, stage_prompt
from persona_pipeline.personas.quality import apply_quality_rules
from persona_pipeline.personas.text_to_persona import text_to_persona
from persona_pipeline.project import Project
from persona_pipeline.stage_names import (
    EMBEDDINGS,
    PERSONA_TO_PERSONA,
    QUALITY_RULES,
    TEXT_TO_PERSONA,
)
from persona_pipeline.store.done_steps import Reason

ASKING_VERSION = 1
"""Version of the way in which code versions of assets that ask a model are made."""


DOCUMENTS_SQL: Final = """
-- One row per accepted document of a shard.
-- reads: corpus.documents   params: $shard
select document_id, title, text
from corpus.documents
where shard = $shard
order by document_id
"""

EXTRACTED_SQL: Final = """
-- One row per Text-to-Persona answer of a shard.
-- reads: personas.extracted   params: $shard
select persona_id, persona, call_key
from personas.extracted
where shard = $shard
order by persona_id
"""

RELATED_SQL: Final = """
-- One row per Persona-to-Persona answer of a shard.
-- reads: personas.related   params: $shard
select persona_id, persona, call_key
from personas.related
where shard = $shard
order by persona_id
"""

CANDIDATES_SQL: Final = """
-- One row per candidate of a shard.
-- reads: personas.candidates   params: $shard
select persona_id, persona
from personas.candidates
where shard = $shard
order by persona_id
"""


def build_persona_assets(project: Project) -> Sequence[dg.AssetsDefinition]:
    """Build the assets from documents to candidates."""
    return [
        _extracted_asset(project),
        _related_asset(project),
        _candidates_asset(project),
        _embeddings_asset(project),
    ]


def _extracted_asset(project: Project) -> dg.AssetsDefinition:
    plan = project.persona_plan(TEXT_TO_PERSONA)
    version = _version(TEXT_TO_PERSONA, plan, plan.granularity, *plan.verbs)
    table = shard_table(
        "personas/extracted", deps=["corpus/documents"], kinds={"llm"}, code_version=version
    )

    @shard_asset(project, TEXT_TO_PERSONA, table, buys=True)
    def extracted(run: StageRun) -> Metadata:
        """One row is one Text-to-Persona answer: who reads, writes, likes or dislikes a page."""
        documents = run.read(DOCUMENTS_SQL)
        gateway = run.gateway(TEXT_TO_PERSONA)
        return run.commit([text_to_persona(documents, plan, gateway, run.shard)])

    return extracted


def _related_asset(project: Project) -> dg.AssetsDefinition:
    plan = project.persona_plan(PERSONA_TO_PERSONA)
    version = _version(PERSONA_TO_PERSONA, plan, plan.hops, plan.fan_out)
    table = shard_table(
        "personas/related", deps=["personas/extracted"], kinds={"llm"}, code_version=version
    )

    @shard_asset(project, PERSONA_TO_PERSONA, table, buys=True)
    def related(run: StageRun) -> Metadata:
        """One row is one Persona-to-Persona answer: a person close to another; their relation."""
        personas = run.read(EXTRACTED_SQL)
        gateway = run.gateway(PERSONA_TO_PERSONA)
        return run.commit([persona_to_persona(personas, plan, gateway, run.shard)])

    return related


def _candidates_asset(project: Project) -> dg.AssetsDefinition:
    plan = project.persona_plan(PERSONA_TO_PERSONA)
    table = shard_table(
        "personas/candidates", deps=["personas/extracted", "personas/related"], kinds={"python"}
    )

    @shard_asset(project, QUALITY_RULES, table)
    def candidates(run: StageRun) -> Metadata:
        """One row is one persona, of either origin, that passed the quality rules."""
        extracted = run.read(EXTRACTED_SQL)
        related = run.read(RELATED_SQL)
        run.commit([apply_quality_rules(extracted, related, plan, run.shard)])
        return {}

    return candidates


def _embeddings_asset(project: Project) -> dg.AssetsDefinition:
    settings = project.settings
    version = stable_id(settings.embedding_model)
    table = shard_table(
        "personas/embeddings", deps=["personas/candidates"], kinds={"python"}, code_version=version
    )

    @shard_asset(project, EMBEDDINGS, table, buys=True)
    def embeddings(run: StageRun) -> Metadata:
        """One row is the vector of one candidate, for the semantic layer of deduplication."""
        personas = run.read(CANDIDATES_SQL)
        stored = run.read("select * from personas.embeddings where shard = $shard")
        if run.task.why.reason == Reason.FORCED:
            stored = stored.clear()
        gateway, embedder = run.gateway(EMBEDDINGS), None
        if settings.needs_vectors:
            embedder = open_embedder(settings, gateway, run.shard)
        return run.commit([embed_candidates(personas, stored, embedder, run.shard)])

    return embeddings


def _version(stage: str, plan: PersonaPlan, *settings: str | int) -> str:
    options = plan.options.version(plan.model, stage)
    return stable_id(ASKING_VERSION, stage_prompt(stage).version, plan.model, *settings, *options)
