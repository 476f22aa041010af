"""Show the pairs of personas that are closest to a threshold, on either side."""

import polars as pl

from persona_pipeline.dedup.rules import TOLERANCE

SHOWN = 5
"""Pairs that a step shows at most on each side of its threshold."""
EXAMPLES = ("persona_id", "persona", "other_id", "other_persona", "similarity")
"""Columns of the pairs that a step shows."""


def closest_removed(texts: pl.DataFrame, removed: pl.DataFrame) -> pl.DataFrame:
    """Return the removed personas that a slightly higher threshold would have kept.

    Personas with the same words are left out, since every threshold removes them.
    """
    near = removed.filter(pl.col("layer") == "jaccard", pl.col("similarity") < 1 - TOLERANCE)
    pairs = near.rename({"kept_id": "other_id"}).sort("similarity", "persona_id")
    return _with_texts(pairs, texts)


def closest_kept(
    fingerprints: pl.DataFrame, pairs: pl.DataFrame, threshold: float, kept: pl.DataFrame
) -> pl.DataFrame:
    """Return the kept pairs of which a slightly lower threshold would have removed one persona.

    At most one kept persona has a given word set, so no pair is listed twice.
    """
    keyed = fingerprints.join(kept, left_on="id", right_on="persona_id", how="semi").select(
        "set_key", persona_id="id"
    )
    below = pairs.filter(
        pl.col("layer") != "semantic", pl.col("similarity") < threshold - TOLERANCE
    )
    near = (
        below.join(keyed, left_on="first_key", right_on="set_key")
        .join(keyed.rename({"persona_id": "other_id"}), left_on="second_key", right_on="set_key")
        .sort("similarity", "persona_id", "other_id", descending=[True, False, False])
    )
    return _with_texts(near, kept)


def _with_texts(pairs: pl.DataFrame, texts: pl.DataFrame) -> pl.DataFrame:
    """Return the first pairs with their texts, each persona at most once on each side.

    Otherwise one cluster would fill the list with nearly the same text.
    """
    one = texts.select("persona_id", "persona")
    other = texts.select(other_id="persona_id", other_persona="persona")
    return (
        pairs.unique("persona_id", keep="first", maintain_order=True)
        .unique("other_id", keep="first", maintain_order=True)
        .head(SHOWN)
        .join(one, on="persona_id", maintain_order="left")
        .join(other, on="other_id", maintain_order="left")
        .select(*EXAMPLES)
    )
