"""The plan of a deduplication: thresholds, comparison, model, resources."""

from dataclasses import dataclass

from persona_pipeline.dedup.resources import Resources
from persona_pipeline.dedup.rules import Comparison, Thresholds
from persona_pipeline.dedup.vectors.search import EXACT_UP_TO
from persona_pipeline.dedup.words.set_cache import SetCache


@dataclass(frozen=True, slots=True)
class DedupPlan:
    """How a project's personas are deduplicated."""

    thresholds: Thresholds
    comparison: Comparison
    embedding_model: str
    cache: SetCache
    resources: Resources
    exact_up_to: int = EXACT_UP_TO
    """Personas in the first shards, whose texts are compared exactly by meaning."""
