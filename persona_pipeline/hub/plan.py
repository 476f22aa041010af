"""State how a project's personas are deduplicated."""

from dataclasses import dataclass

from persona_pipeline.dedup.resources import Resources
from persona_pipeline.dedup.rules import Comparison, Thresholds
from persona_pipeline.dedup.vectors.search import EXACT_UP_TO
from persona_pipeline.dedup.words.set_cache import SetCache


@dataclass(frozen=True, slots=True)
class DedupPlan:
    """All choices of a deduplication: what is compared, what is removed, and the resources."""

    thresholds: Thresholds
    """Similarities from which on one persona of a pair is removed."""
    comparison: Comparison
    """Similarities from which on pairs are stored, and the method that finds them."""
    embedding_model: str
    cache: SetCache
    """Word sets of compared shards, on disk."""
    resources: Resources
    exact_up_to: int = EXACT_UP_TO
    """Vectors of the first shards that are compared exactly; later ones use an IVF index."""
