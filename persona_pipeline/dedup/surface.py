"""The surface layer: personas whose words are nearly the same, by an exact set-similarity join."""

from persona_pipeline.dedup.combinations import build_combinations
from persona_pipeline.dedup.scratch import Scratch


def find_surface_pairs(scratch: Scratch, min_similarity: float) -> None:
    """Fills `pairs` with every pair whose word sets have at least this Jaccard similarity.

    Reads `normalized`, `priorities` and `exact`. Personas without a word are in no pair.
    """
    scratch.create("words")
    scratch.create("vocabulary")
    scratch.create("word_sets")
    sizes = scratch.fetch("select distinct size from word_sets")["size"].to_list()
    scratch.load("combinations", build_combinations(sizes, min_similarity))
    scratch.create("keys")
    scratch.create("candidate_pairs", {"min_similarity": min_similarity})
    scratch.create("pairs", {"min_similarity": min_similarity})
