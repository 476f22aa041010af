"""From candidates to the hub: embed them, decide across shards who stays, keep the rest."""

from collections.abc import Mapping, Sequence

import duckdb
import polars as pl

from persona_pipeline.dedup.resolve import open_resolver
from persona_pipeline.dedup.rules import Thresholds
from persona_pipeline.hub.plan import DedupPlan
from persona_pipeline.hub.state import decision_bases, read_decisions
from persona_pipeline.sql import fetch, read_sql
from persona_pipeline.stage_names import DEDUPLICATION
from persona_pipeline.store.stage_rows import FunnelCounts, StageRows
from persona_pipeline.store.store import Store

STAGE = DEDUPLICATION
LAST = 1 << 62
"""After every shard."""
RESOLVED = {
    "basis": pl.String,
    "jaccard_threshold": pl.Float64,
    "cosine_threshold": pl.Float64,
    "fuzzy_threshold": pl.Float64,
}


def deduplicate(store: Store, plan: DedupPlan, shard: str) -> list[StageRows]:
    """The duplicates of this shard, and of every shard whose decisions are out of date.

    The earlier shard wins, so what is kept of a shard depends only on it and on those before it:
    the first one that is out of date, and all after it, are decided again.
    """
    with store.connect(read_only=True) as connection:
        decisions = read_decisions(connection)
        bases = decision_bases(decisions, plan)
        outdated = [
            decision.shard_number
            for decision in decisions
            if decision.shard == shard or decision.basis != bases.get(decision.shard)
        ]
        first = min(outdated, default=LAST)
        shards = [each.shard for each in decisions if each.shard_number >= first]
        if shard not in shards:  # it was never compared
            shards.append(shard)
        counts = fetch(connection, read_sql("personas/candidate_counts"), {"shards": shards})
        numbers = {decision.shard: decision.shard_number for decision in decisions}
        ranked, pairs = read_ranked(connection, shards, numbers)
    matches = _decide(plan, ranked, pairs, first)
    of_shard = matches.partition_by("shard", as_dict=True, include_key=False)
    nothing, candidates = matches.drop("shard").clear(), dict(counts.iter_rows())
    return [
        StageRows(
            shard=each,
            stage=STAGE,
            tables={
                "personas.duplicates": of_shard.get((each,), nothing),
                "runs.resolved": _resolved(bases.get(each), plan.thresholds),
            },
            funnel=FunnelCounts(candidates.get(each, 0), candidates.get(each, 0)),
        )
        for each in shards
    ]


def _decide(plan: DedupPlan, ranked: pl.DataFrame, pairs: pl.DataFrame, first: int) -> pl.DataFrame:
    """The rows of personas.duplicates of the shards from number `first` on."""
    with open_resolver(ranked, pairs, plan.resources) as resolver:
        removed = resolver.resolve(plan.thresholds, from_rank=first)
    return removed.join(ranked.select("id", "shard"), on="id").rename({"id": "persona_id"})


def _resolved(basis: str | None, thresholds: Thresholds) -> pl.DataFrame:
    row = (basis, thresholds.jaccard, thresholds.cosine, thresholds.fuzzy)
    return pl.DataFrame([] if basis is None else [row], schema=RESOLVED, orient="row")


def hub_rows(kept: pl.DataFrame, shards: Sequence[str]) -> list[StageRows]:
    """The hub's rows of each of `shards`: what is `kept` of its candidates."""
    return [
        StageRows(
            shard=shard,
            stage="hub",
            tables={"personas.hub": _of_shard(kept, shard)},
        )
        for shard in shards
    ]


def _of_shard(rows: pl.DataFrame, shard: str) -> pl.DataFrame:
    return rows.filter(pl.col("shard") == shard).drop("shard")


NUMBERS = {"shard": pl.String, "shard_number": pl.Int64}
ENGINE_NAMES = {"persona_id": "id", "shard_number": "rank"}


def read_ranked(
    connection: duckdb.DuckDBPyConnection, shards: Sequence[str], numbers: Mapping[str, int]
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Read the fingerprints and the pairs that may decide about these shards.

    Of other shards only those that were kept; `numbers` has the number of every shard. The columns
    persona_id and shard_number are id and rank here, as the engine calls them.
    """
    parameters = {"shards": list(shards)}
    pairs = fetch(connection, read_sql("personas/ranked_pairs"), parameters).unique()
    connection.register("ranked_pairs", pairs)
    ranked = fetch(connection, read_sql("personas/ranked"), parameters).unique(
        ["shard", "persona_id"]
    )
    # not in SQL: a join on strings takes four times as long there
    places = pl.DataFrame(list(numbers.items()), NUMBERS, orient="row")
    return ranked.join(places, on="shard").rename(ENGINE_NAMES), pairs
