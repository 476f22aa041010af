"""Decide which of the similar rows stay: greedy keep-first, by rounds of joins."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import polars as pl

from persona_pipeline.dedup.resources import Resources
from persona_pipeline.dedup.rules import FUZZY_FROM, TOLERANCE, Thresholds
from persona_pipeline.dedup.scratch import Scratch, open_scratch

OFF: Final = 1e9
"""A threshold that no similarity reaches."""

FINGERPRINTS = {
    "id": pl.String(),
    "rank": pl.Int64(),
    "quality": pl.Float64(),
    "sequence_key": pl.UInt64(),
    "set_key": pl.UInt64(),
    "text_key": pl.UInt64(),
}
"""One row per row of the table. `id` has the dtype that the caller's column has."""
PLACED = ("place", "rank", "sequence_key", "set_key", "text_key")
PAIRS = {
    "layer": pl.String(),
    "first_key": pl.UInt64(),
    "second_key": pl.UInt64(),
    "similarity": pl.Float64(),
    "fuzzy_score": pl.Float64(),
}
"""One row per similar pair. The keys are text keys in the layer semantic, else set keys."""
EXACT_KEYS = {
    "id": pl.String(),
    "layer": pl.String(),
    "layer_order": pl.Int64(),
    "key": pl.UInt64(),
}
"""One row per row of the table and exact key that it shares with others.

`layer_order` is below 1: exact keys come before all other layers.
"""


KEEPERS = {
    "place": pl.UInt32(),
    "kept_place": pl.UInt32(),
    "layer": pl.String(),
    "similarity": pl.Float64(),
    "threshold": pl.Float64(),
    "fuzzy_score": pl.Float64(),
}
"""One row per row to remove, with its keeper: both as places in the ranking."""


class Resolver:
    """Similar rows in their ranking, and the pairs that decide which of them stay."""

    def __init__(
        self,
        scratch: Scratch | None,
        fingerprints: pl.DataFrame,
        pairs: pl.DataFrame,
        exact_keys: pl.DataFrame | None = None,
    ) -> None:
        """Load the rows in their ranking.

        The ids stay in Polars: rounds on numbers alone take half as long. `scratch` may be None
        where there are no rows.
        """
        ranked = rank_rows(fingerprints)
        self._ids, self._scratch = ranked["id"], scratch
        if scratch is not None:
            scratch.load("fingerprints", ranked.select(*PLACED))
            scratch.load("pairs", pairs.select(*PAIRS))
            scratch.load("exact_keys", _place_keys(ranked, exact_keys))

    def resolve(self, thresholds: Thresholds, *, from_rank: int | None = None) -> pl.DataFrame:
        """Return one row per row to remove, with its keeper.

        The kept rows are the lexicographically first maximal independent set: in the order of the
        ranking, a row stays unless one that stayed is similar to it in any layer. So no two kept
        rows are similar, and each removed row is similar to a kept row before it. Connected
        components promise neither. A round keeps every row that no undecided row precedes. A few
        rounds decide all.

        The keeper is the most similar kept row *before* the removed one, in the first layer that
        has one; of equally similar ones that with the higher fuzzy score, then the first ranked. A
        later row never is, however similar, since a new shard must not rewrite an old one.

        Args:
            thresholds: where each layer sets its threshold.
            from_rank: decide about rows from this rank on; rows before it are kept. The caller
                leaves out those that were removed. Default: decide about all.

        Returns:
            id, kept_id (both of the dtype of the fingerprints' ids), layer (String), similarity
            (Jaccard or cosine), threshold (of that layer) and fuzzy_score (of 100, null where none
            was computed), all Float64. Sorted by id.
        """
        scratch = self._scratch
        if scratch is None:
            return self._with_ids(pl.DataFrame(schema=KEEPERS))
        scratch.create("links", {**at_or_above(thresholds), "fuzzy_from": FUZZY_FROM - TOLERANCE})
        scratch.create("conflicting")
        first = -1 if from_rank is None else from_rank
        scratch.run(
            "create or replace table undecided as select place, set_key, text_key from conflicting "
            f"where rank >= {first}"
        )
        scratch.run("create or replace table open_places as select place from undecided")
        scratch.run(
            "create or replace table kept_now as select place, set_key, text_key from conflicting "
            f"where rank < {first}"
        )
        scratch.run("create or replace table kept as select place from kept_now")
        _decide_in_rounds(scratch)
        scratch.run(
            "create or replace table removed as from open_places anti join kept using (place)"
        )
        return self._with_ids(
            scratch.fetch("dedup/keepers", at_or_above(thresholds, tolerance=0.0))
        )

    def _with_ids(self, keepers: pl.DataFrame) -> pl.DataFrame:
        """Put ids in the place of places, and sort by them."""
        ids, kept_ids = (self._ids.gather(keepers[place]) for place in ("place", "kept_place"))
        named = keepers.select(
            ids.alias("id"), kept_ids.alias("kept_id"), pl.exclude("place", "kept_place")
        )
        return named.sort("id")


def _decide_in_rounds(scratch: Scratch) -> None:
    """Decide all undecided rows: of each round, those that no undecided row precedes are kept."""
    while True:
        scratch.create("dominated")
        scratch.create("undecided", query="still_undecided")
        if scratch.is_empty("undecided"):
            return
        scratch.create("kept_now")
        scratch.run("insert into kept select place from kept_now")


def rank_rows(fingerprints: pl.DataFrame) -> pl.DataFrame:
    """Sort by `rank`, then the better quality, then a stable hash of the text, then the id.

    The column `place` is added: 0 is the first of all.
    """
    order = (pl.col("rank"), -pl.col("quality"), "text_key", "id")
    return fingerprints.sort(*order).with_row_index("place")


def _place_keys(ranked: pl.DataFrame, exact_keys: pl.DataFrame | None) -> pl.DataFrame:
    """Return place, layer, layer_order and key of each exact key."""
    columns = [name for name in EXACT_KEYS if name != "id"]
    if exact_keys is None:
        nothing = pl.DataFrame(schema=EXACT_KEYS).select(columns)
        return ranked.select("place").clear().hstack(nothing)
    return ranked.select("id", "place").join(exact_keys, on="id").select("place", *columns)


@contextmanager
def open_resolver(
    fingerprints: pl.DataFrame,
    pairs: pl.DataFrame,
    resources: Resources,
    exact_keys: pl.DataFrame | None = None,
) -> Iterator[Resolver]:
    """Open a resolver in a scratch database of its own.

    Without rows, none is opened: it takes 60 ms, and a small run decides ten times, nine of them
    about nothing.

    Args:
        fingerprints: `FINGERPRINTS`; rows that are like no other one may be left out.
        pairs: `PAIRS`.
        resources: memory and threads of the database.
        exact_keys: `EXACT_KEYS`; default: none.
    """
    if fingerprints.is_empty():
        yield Resolver(None, fingerprints, pairs)
        return
    with open_scratch(memory_limit=resources.memory_bytes, threads=resources.threads) as scratch:
        yield Resolver(scratch, fingerprints, pairs, exact_keys)


def at_or_above(thresholds: Thresholds, tolerance: float = TOLERANCE) -> dict[str, float]:
    """Return the parameters of `sql/dedup/links.sql`: the similarity from which a pair counts."""
    limits = {
        "jaccard": thresholds.jaccard,
        "fuzzy": thresholds.fuzzy,
        "cosine": thresholds.cosine,
    }
    return {name: OFF if at is None else at - tolerance for name, at in limits.items()}
