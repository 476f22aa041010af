"""Score the spelling of pairs below the Jaccard threshold: typos, inflection, one other word."""

import numpy as np
import polars as pl
from rapidfuzz.fuzz import ratio
from rapidfuzz.process import cpdist

from persona_pipeline.dedup.resources import Resources
from persona_pipeline.dedup.scratch import open_scratch
from persona_pipeline.dedup.words.characters import RULES


def fuzzy_scores(pairs: pl.DataFrame, texts: pl.DataFrame, resources: Resources) -> pl.Series:
    """Return, per pair, rapidfuzz's ratio of the two sets' sorted distinct words.

    The ratio is a Float64 from 0 to 100. It is null where a set has no text here, since rapidfuzz
    itself takes a missing text for a quite different one.

    Args:
        pairs: first_key, second_key: keys of word sets.
        texts: key, text: one text of each of these word sets, whichever.
        resources: memory and threads.
    """
    threads = resources.threads
    with open_scratch(memory_limit=resources.memory_bytes, threads=threads) as scratch:
        scratch.load("texts", texts)
        scratch.create("words", RULES)
        words = scratch.fetch("dedup/word_texts")
    first, second = (
        pairs.select(key=name).join(words, on="key", how="left", maintain_order="left")["words"]
        for name in ("first_key", "second_key")
    )
    scores = cpdist(
        first.to_list(), second.to_list(), scorer=ratio, workers=threads, dtype=np.float64
    )
    matches = pl.DataFrame({"first": first, "second": second, "score": scores})
    is_known = pl.col("first").is_not_null() & pl.col("second").is_not_null()
    return matches.select(fuzzy_score=pl.when(is_known).then("score"))["fuzzy_score"]
