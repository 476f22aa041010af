"""List the stages of a shard: their names, the tables they fill, and the stages they read."""

from collections.abc import Iterable
from dataclasses import dataclass

CORPUS = "corpus"
TEXT_TO_PERSONA = "text_to_persona"
PERSONA_TO_PERSONA = "persona_to_persona"
QUALITY_RULES = "quality_rules"
EMBEDDINGS = "embeddings"
"""A stage of `llm.calls` and the settings. It rejects no row, so the funnel does not count it."""
COMPARISON = "comparison"
DEDUPLICATION = "deduplication"
HUB = "hub"
RECORD_DEDUPLICATION = "record_deduplication"


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage that `marts.funnel` counts."""

    name: str
    table: str
    """The table that holds the rows it keeps."""
    reads: tuple[str, ...]
    """Names of the stages whose output it depends on."""


STAGES = (
    Stage(CORPUS, "corpus.documents", reads=()),
    Stage(TEXT_TO_PERSONA, "personas.extracted", reads=(CORPUS,)),
    Stage(PERSONA_TO_PERSONA, "personas.related", reads=(TEXT_TO_PERSONA,)),
    Stage(QUALITY_RULES, "personas.candidates", reads=(TEXT_TO_PERSONA, PERSONA_TO_PERSONA)),
    Stage(DEDUPLICATION, "personas.hub", reads=(QUALITY_RULES,)),
)
"""The stages that every shard goes through, in their order; the domains' stages follow."""
DOMAIN_PREFIX = "synthetic."
HUB_STAGES = (QUALITY_RULES, DEDUPLICATION)
"""The stages that make the hub, which is the candidates without duplicates."""


def domain_stage(domain: str) -> str:
    """Return the name of a domain's stage, which is also the name of its table."""
    return f"{DOMAIN_PREFIX}{domain}"


def stages_of(domains: Iterable[str]) -> list[Stage]:
    """List the stages of a shard in their order, with one for each of `domains`."""
    names = map(domain_stage, domains)
    return [*STAGES, *(Stage(name, name, reads=HUB_STAGES) for name in names)]


def funnel_stages(domains: Iterable[str]) -> list[str]:
    """List the names of the stages of a shard that `marts.funnel` counts, in their order."""
    return [stage.name for stage in stages_of(domains)]


def stages_before(stage: str) -> list[str]:
    """List the names of the stages that this one reads, sorted; none for an unknown stage."""
    if stage.startswith(DOMAIN_PREFIX):
        return sorted(HUB_STAGES)
    return sorted(name for each in STAGES if each.name == stage for name in each.reads)
