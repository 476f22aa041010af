"""List the steps of a shard, what each depends on, and which of them are to do.

What only decides how an answer is bought, such as the address of a server, is no part of a step's
version: bought answers stay.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import duckdb
from pydantic import JsonValue
from pydantic_core import to_jsonable_python

from persona_pipeline.hashing import code_version, stable_id
from persona_pipeline.hub.plan import DedupPlan
from persona_pipeline.hub.state import (
    read_decisions,
    read_states,
    stale_states,
    undecided_shards,
)
from persona_pipeline.personas.plan import PersonaPlan, stage_prompt
from persona_pipeline.settings import Settings
from persona_pipeline.stage_names import (
    COMPARISON,
    CORPUS,
    DEDUPLICATION,
    EMBEDDINGS,
    HUB,
    PERSONA_TO_PERSONA,
    QUALITY_RULES,
    RECORD_DEDUPLICATION,
    TEXT_TO_PERSONA,
    stages_before,
)
from persona_pipeline.store.done_steps import (
    OUTPUT_VERSIONS,
    Part,
    Reason,
    Step,
    Undone,
    why_undone,
)
from persona_pipeline.store.store import Store
from persona_pipeline.synthesis.domain import Domain
from persona_pipeline.synthesis.records import SynthesisPlan
from persona_pipeline.synthesis.tables import table_name

EXTRACTED, RELATED = Part("personas.extracted"), Part("personas.related")
CANDIDATES, EMBEDDED = Part("personas.candidates"), Part("personas.embeddings")


@dataclass(frozen=True, slots=True)
class Plans:
    """What the stages of a project ask, compare and keep.

    Attributes:
        settings: the models, and what is asked of them.
        personas: the plan of each persona stage, by its name.
        dedup: how personas are deduplicated.
        domains: each domain with its plan.
    """

    settings: Settings
    personas: Mapping[str, PersonaPlan]
    dedup: DedupPlan
    domains: Sequence[tuple[Domain, SynthesisPlan]]


def steps_of_shard(plans: Plans) -> dict[str, Step]:
    """List the steps that every shard goes through, by name, in their order."""
    steps = [*_persona_steps(plans), *_hub_steps(plans.dedup)]
    steps += [_domain_step(plans.settings, domain, plan) for domain, plan in plans.domains]
    steps.append(_record_deduplication(plans))
    return {step.name: step for step in steps}


def undone_steps(
    store: Store, steps: Iterable[Step], plan: DedupPlan, shards: Sequence[str]
) -> dict[str, dict[str, Undone]]:
    """Tell which steps of the shards a run has to do.

    Args:
        store: the migrated database.
        steps: the steps of a shard, in their order.
        plan: how personas are deduplicated now.
        shards: the names of registered shards.

    Returns:
        For each shard, why a step is to do, by the step's name, in the order of the steps. A shard
        with nothing to do has no step.
    """
    ordered = list(steps)
    with store.connect(read_only=True) as connection:
        undone = why_undone(connection, ordered, shards)
        outdated = {
            step.name: _OUTDATED[step.name](connection, plan)
            for step in ordered
            if step.name in _OUTDATED
        }
    return {
        shard: {
            step.name: why
            for step in ordered
            if (why := undone[shard].get(step.name) or _why_again(outdated, step.name, shard))
        }
        for shard in shards
    }


def outdated_hubs(store: Store, step: Step) -> list[str]:
    """List the decided shards whose hub is not what it was made from, or not what was made.

    An earlier shard has changed whom they keep. `step` is the step of the hub.
    """
    with store.connect(read_only=True) as connection:
        shards = [each.shard for each in read_decisions(connection) if each.basis is not None]
        undone = why_undone(connection, [step], shards)
    reasons = {shard: why[step.name].reason for shard, why in undone.items() if why}
    return [shard for shard, reason in reasons.items() if reason in {Reason.INPUT, Reason.OUTPUT}]


def _uncompared(connection: duckdb.DuckDBPyConnection, plan: DedupPlan) -> set[str]:
    return {state.shard for state in stale_states(read_states(connection, plan), plan)}


def _undecided(connection: duckdb.DuckDBPyConnection, plan: DedupPlan) -> set[str]:
    return {*undecided_shards(connection, plan)}


_OUTDATED = {COMPARISON: _uncompared, DEDUPLICATION: _undecided}
"""Functions that list the shards whose rows depend on other shards that have changed."""


def _why_again(outdated: Mapping[str, set[str]], step: str, shard: str) -> Undone | None:
    return Undone(Reason.OTHER_SHARDS) if shard in outdated.get(step, ()) else None


def _persona_steps(plans: Plans) -> list[Step]:
    """List the steps from the staged texts to the vectors of candidates."""
    settings = plans.settings
    asking, relating = plans.personas[TEXT_TO_PERSONA], plans.personas[PERSONA_TO_PERSONA]
    verbs: JsonValue = [*map(str, asking.verbs)]
    asked: list[JsonValue] = [verbs, asking.granularity, asking.document_chars]
    related: list[JsonValue] = [relating.hops, relating.fan_out, relating.language]
    prompts = [stage_prompt(name).version for name in (TEXT_TO_PERSONA, PERSONA_TO_PERSONA)]
    return [
        Step(
            CORPUS,
            version=_version(CORPUS),
            reads=(Part("corpus.shards"),),
            writes=(Part("corpus.documents"), Part("corpus.rejected"), _counts(CORPUS)),
        ),
        Step(
            TEXT_TO_PERSONA,
            version=_version(
                TEXT_TO_PERSONA, prompts[0], *asked, *_models(settings, TEXT_TO_PERSONA)
            ),
            reads=(Part("corpus.documents"),),
            writes=(EXTRACTED, *_rest_of_personas(TEXT_TO_PERSONA), *_bought(TEXT_TO_PERSONA)),
        ),
        Step(
            PERSONA_TO_PERSONA,
            version=_version(
                PERSONA_TO_PERSONA, *prompts, *related, *_models(settings, PERSONA_TO_PERSONA)
            ),
            reads=(EXTRACTED,),
            writes=(RELATED, *_rest_of_personas(PERSONA_TO_PERSONA), *_bought(PERSONA_TO_PERSONA)),
        ),
        Step(
            QUALITY_RULES,
            version=_version(QUALITY_RULES, relating.language, *prompts),
            reads=(EXTRACTED, RELATED),
            writes=(CANDIDATES, *_rest_of_personas(QUALITY_RULES)),
        ),
        Step(
            EMBEDDINGS,
            version=_version(EMBEDDINGS, settings.embedding_model, settings.needs_vectors),
            reads=(CANDIDATES,),
            writes=(EMBEDDED, *_bought(EMBEDDINGS)),
        ),
    ]


def _hub_steps(plan: DedupPlan) -> list[Step]:
    """List the steps that compare, decide and keep personas."""
    compared = (Part("personas.fingerprints"), Part("personas.pairs"))
    removed = Part("personas.duplicates")
    comparison = (plan.comparison.version_text(), plan.embedding_model)
    return [
        Step(
            COMPARISON,
            version=_version(COMPARISON, *comparison),
            reads=(CANDIDATES, EMBEDDED),
            writes=compared,
            is_of_all=True,
        ),
        Step(
            DEDUPLICATION,
            version=_version(DEDUPLICATION, plan.thresholds.version_text()),
            reads=(*compared, *_versions_before(DEDUPLICATION)),
            writes=(removed, _counts(DEDUPLICATION)),
            is_of_all=True,
        ),
        Step(
            HUB,
            version=_version(HUB),
            reads=(EXTRACTED, RELATED, CANDIDATES, compared[0], removed),
            writes=(Part("personas.hub"),),
            is_of_all=True,
        ),
    ]


def _domain_step(settings: Settings, domain: Domain, plan: SynthesisPlan) -> Step:
    table = table_name(domain)
    offered = [Part("personas.hub"), *_versions_before(table)]
    if plan.selection is not None:
        offered.append(Part("personas.selections", plan.selection))
    packs: JsonValue = to_jsonable_python(domain.packs)
    return Step(
        table,
        version=_version(
            table,
            domain.prompt.version,
            to_jsonable_python(domain.file.options),
            packs,
            str(plan.prompting),
            plan.records_per_shard,
            plan.selection,
            *_models(settings, table),
        ),
        reads=tuple(offered),
        writes=(
            Part(table),
            Part("synthetic.rejected", domain.name),
            _counts(table),
            *_bought(table),
        ),
    )


def _record_deduplication(plans: Plans) -> Step:
    domains = [domain for domain, _ in plans.domains]
    rules: JsonValue = {domain.name: [*domain.file.dedup.version_fields()] for domain in domains}
    thresholds: JsonValue = {**plans.settings.record_thresholds}
    texts: JsonValue = {domain.name: domain.file.text for domain in domains}
    return Step(
        RECORD_DEDUPLICATION,
        version=_version(RECORD_DEDUPLICATION, rules, thresholds, texts),
        reads=tuple(Part(table_name(domain)) for domain in domains),
        writes=(Part("synthetic.duplicates"),),
        is_of_all=True,
    )


def _models(settings: Settings, stage: str) -> list[JsonValue]:
    """List the models of a stage, and what they are asked in another way than the prompt says."""
    models = settings.models_for(stage)
    options = [settings.request_options.version(model, stage) for model in models]
    return [[*models], to_jsonable_python(options), settings.reasoning_tokens]


def _rest_of_personas(stage: str) -> tuple[Part, ...]:
    """List what a persona stage leaves beside the personas that it keeps."""
    return Part("personas.rejected", stage), _counts(stage)


def _versions_before(stage: str) -> list[Part]:
    """List the versions that `runs.stages` notes of a stage's input: a change makes it outdated."""
    return [Part(OUTPUT_VERSIONS, name) for name in stages_before(stage)]


def _counts(stage: str) -> Part:
    return Part("runs.stages", stage)


def _bought(stage: str) -> tuple[Part, ...]:
    """List what a stage that asks models leaves: its calls, and the note of a stop."""
    return Part("llm.calls", stage), Part("runs.stops", stage)


def _version(step: str, *fields: JsonValue) -> str:
    """Return the version of a step: of the program, which has the tables, and of its settings."""
    return stable_id(code_version(), step, *fields)
