"""Which of the similar personas stay: greedy keep-first, by rounds of joins."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import polars as pl

from persona_pipeline.dedup.resources import Resources
from persona_pipeline.dedup.rules import FUZZY_FROM, TOLERANCE, Thresholds
from persona_pipeline.dedup.scratch import Scratch, open_scratch

OFF: Final = 1e9
"""A threshold that nothing reaches."""

FINGERPRINTS = {
    "persona_id": pl.String(),
    "shard_number": pl.Int64(),
    "quality": pl.Float64(),
    "sequence_key": pl.UInt64(),
    "set_key": pl.UInt64(),
    "text_key": pl.UInt64(),
}
NUMBERED = ("place", "shard_number", "sequence_key", "set_key", "text_key")
PAIRS = {
    "layer": pl.String(),
    "first_key": pl.UInt64(),
    "second_key": pl.UInt64(),
    "similarity": pl.Float64(),
    "fuzzy_score": pl.Float64(),
}


class Resolver:
    """Similar personas ranked, whoever comes first is kept, and their pairs."""

    def __init__(self, scratch: Scratch, fingerprints: pl.DataFrame, pairs: pl.DataFrame) -> None:
        """The earlier shard, then the better quality, then a stable hash of the text, then the id.

        The ids stay here: rounds on numbers alone take half as long.
        """
        order = (pl.col("shard_number"), -pl.col("quality"), "text_key", "persona_id")
        ranked = fingerprints.sort(*order).with_row_index("place")
        self._persona_ids, self._scratch = ranked["persona_id"], scratch
        scratch.load("fingerprints", ranked.select(*NUMBERED))
        scratch.load("pairs", pairs.select(*PAIRS))

    def resolve(self, thresholds: Thresholds, *, from_shard: int | None = None) -> pl.DataFrame:
        """One row per persona to remove, and because of which.

        Columns: persona_id, kept_id, layer, similarity, threshold, fuzzy_score.

        The kept ones are the lexicographically first maximal independent set: walking down the
        line, a persona stays unless one that stayed is similar to it, in any layer. So no two kept
        ones are similar, and each removed one is similar to a kept one before it; connected
        components promise neither. A round keeps everyone whom no undecided persona precedes; a few
        rounds do.

        The keeper is the most similar kept persona *before* the removed one, of the first layer
        that has one. A later persona is never a keeper, however similar: a new shard must not
        rewrite an old one. So shards before `from_shard` are left as they are: whoever is given of
        them stays, and those that they lost must not be given.
        """
        scratch = self._scratch
        scratch.create("links", {**at_or_above(thresholds), "fuzzy_from": FUZZY_FROM - TOLERANCE})
        scratch.create("conflicting")
        first = -1 if from_shard is None else from_shard
        scratch.run(
            "create or replace table undecided as select place, set_key, text_key from conflicting "
            f"where shard_number >= {first}"
        )
        scratch.run("create or replace table open_places as select place from undecided")
        scratch.run(
            "create or replace table kept_now as select place, set_key, text_key from conflicting "
            f"where shard_number < {first}"
        )
        scratch.run("create or replace table kept as select place from kept_now")
        while True:
            scratch.create("dominated")
            scratch.create("undecided", query="still_undecided")
            if scratch.is_empty("undecided"):
                break
            scratch.create("kept_now")
            scratch.run("insert into kept select place from kept_now")
        scratch.run(
            "create or replace table removed as from open_places anti join kept using (place)"
        )
        return self._named(scratch.fetch("dedup/keepers", at_or_above(thresholds, tolerance=0.0)))

    def _named(self, matches: pl.DataFrame) -> pl.DataFrame:
        """With ids instead of places, sorted by them."""
        persona_ids, kept_ids = (
            self._persona_ids.gather(matches[place]) for place in ("place", "kept_place")
        )
        named = matches.select(
            persona_ids.alias("persona_id"),
            kept_ids.alias("kept_id"),
            pl.exclude("place", "kept_place"),
        )
        return named.sort("persona_id")


@contextmanager
def open_resolver(
    fingerprints: pl.DataFrame, pairs: pl.DataFrame, resources: Resources
) -> Iterator[Resolver]:
    """The line, in a scratch database of its own."""
    with open_scratch(memory_limit=resources.memory_bytes, threads=resources.threads) as scratch:
        yield Resolver(scratch, fingerprints, pairs)


def at_or_above(thresholds: Thresholds, tolerance: float = TOLERANCE) -> dict[str, float]:
    """The parameters of `sql/dedup/links.sql`: from where on a pair is one of its layer."""
    limits = {
        "jaccard": thresholds.jaccard,
        "fuzzy": thresholds.fuzzy,
        "cosine": thresholds.cosine,
    }
    return {name: OFF if at is None else at - tolerance for name, at in limits.items()}
