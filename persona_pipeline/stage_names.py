"""What the stages are called: in settings, in the funnel, in `llm.calls`."""

from collections.abc import Iterable

CORPUS = "corpus"
TEXT_TO_PERSONA = "text_to_persona"
PERSONA_TO_PERSONA = "persona_to_persona"
QUALITY_RULES = "quality_rules"
EMBEDDINGS = "embeddings"
DEDUPLICATION = "deduplication"


def domain_stage(domain: str) -> str:
    """The stage of a domain, which is the name of its table, too."""
    return f"synthetic.{domain}"


def funnel_stages(domains: Iterable[str]) -> list[str]:
    """Every stage that a shard goes through and that `marts.funnel` counts."""
    first = [CORPUS, TEXT_TO_PERSONA, PERSONA_TO_PERSONA, QUALITY_RULES, DEDUPLICATION]
    return [*first, *map(domain_stage, domains)]


def stages_before(stage: str) -> list[str]:
    """The stages whose rows this one reads, sorted. The hub: candidates without duplicates."""
    before = {
        TEXT_TO_PERSONA: [CORPUS],
        PERSONA_TO_PERSONA: [TEXT_TO_PERSONA],
        QUALITY_RULES: [PERSONA_TO_PERSONA, TEXT_TO_PERSONA],
        DEDUPLICATION: [QUALITY_RULES],
    }
    is_domain = stage.startswith(domain_stage(""))
    return [DEDUPLICATION, QUALITY_RULES] if is_domain else before.get(stage, [])
