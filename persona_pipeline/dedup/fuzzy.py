"""The second opinion on pairs below the Jaccard threshold: typos, inflection, one other word."""

import numpy as np
import polars as pl
from rapidfuzz.fuzz import ratio
from rapidfuzz.process import cpdist

from persona_pipeline.dedup.characters import SPACELESS_RULE
from persona_pipeline.dedup.scratch import Scratch


def fuzzy_scores(
    scratch: Scratch, pairs: pl.DataFrame, texts: pl.DataFrame, *, threads: int
) -> pl.Series:
    """For each pair, rapidfuzz's ratio (0 to 100) of the two sets' sorted distinct words.

    Args:
        scratch: where the words are cut.
        pairs: first_key, second_key: keys of word sets.
        texts: key, persona: one text of each of these word sets, whichever.
        threads: for rapidfuzz.
    """
    scratch.load("texts", texts)
    scratch.create("words", {"spaceless": f"({SPACELESS_RULE}+)"})
    words = scratch.fetch("dedup/word_texts")
    sides = [
        pairs.select(key=name).join(words, on="key", how="left", maintain_order="left")["words"]
        for name in ("first_key", "second_key")
    ]
    lists = (side.to_list() for side in sides)
    scores = cpdist(*lists, scorer=ratio, workers=threads, dtype=np.float64)
    return pl.Series("fuzzy_score", scores, dtype=pl.Float64)
