"""Decide across shards which candidates are duplicates, and build the hub from the rest."""

from collections.abc import Mapping, Sequence
from typing import Final

import duckdb
import polars as pl

from persona_pipeline.dedup.resolve import open_resolver
from persona_pipeline.dedup.rules import Thresholds
from persona_pipeline.hub.plan import DedupPlan
from persona_pipeline.hub.state import decision_bases, read_decisions
from persona_pipeline.sql import fetch, read_sql
from persona_pipeline.stage_names import DEDUPLICATION, HUB
from persona_pipeline.store.stage_rows import FunnelCounts, StageRows
from persona_pipeline.store.store import Store

STAGE = DEDUPLICATION
LAST = 1 << 62
"""A shard number after that of every shard."""
RESOLVED = {
    "basis": pl.String,
    "jaccard_threshold": pl.Float64,
    "cosine_threshold": pl.Float64,
    "fuzzy_threshold": pl.Float64,
}
"""Columns of `runs.resolved`."""
NUMBERS = {"shard": pl.String, "shard_number": pl.Int64}
ENGINE_NAMES = {"persona_id": "id", "shard_number": "rank"}
"""Columns of the frame that gives each shard its number."""


def deduplicate(
    store: Store, plan: DedupPlan, shard: str, *, again: bool = False
) -> list[StageRows]:
    """Decide the duplicates of every shard that is out of date; return this shard's in any case.

    An earlier shard has priority, so a shard's duplicates depend only on it and on the shards
    before it. The first shard that is out of date and all shards after it are decided again. So is
    this shard where its stored rows are not those that were decided, or with `again`.

    Returns:
        One item per decided shard, with its rows of `personas.duplicates` and `runs.resolved`. One
        of this shard, with the rows that are stored where these are up to date.
    """
    with store.connect(read_only=True) as connection:
        decisions = read_decisions(connection)
        bases = decision_bases(decisions, plan)
        numbers = {decision.shard: decision.shard_number for decision in decisions}
        stored = fetch(connection, STORED_DUPLICATES_SQL, {"shard": shard})
        outdated = {each.shard for each in decisions if each.basis != bases.get(each.shard)}
        if again or not _is_intact(connection, shard, stored):
            outdated.add(shard)
        first = min((numbers[name] for name in outdated if name in numbers), default=LAST)
        shards = [each.shard for each in decisions if each.shard_number >= first]
        candidates = _candidate_counts(connection, [*shards, shard])
        ranked = read_ranked(connection, shards, numbers) if shards else None
    duplicates = _decide(plan, *ranked, first) if ranked else {}
    if shard not in shards:  # up to date, or it was never compared
        duplicates[shard] = stored if shard in numbers else stored.clear()
        shards.append(shard)
    return [
        StageRows(
            shard=each,
            stage=STAGE,
            tables={
                "personas.duplicates": duplicates.get(each, stored.clear()),
                "runs.resolved": _resolved(bases.get(each), plan.thresholds),
            },
            funnel=FunnelCounts(candidates.get(each, 0), candidates.get(each, 0)),
        )
        for each in shards
    ]


def hub_rows(kept: pl.DataFrame, shards: Sequence[str]) -> list[StageRows]:
    """Split the kept personas (with their shard) into the rows of `personas.hub` of each shard.

    A shard that keeps nobody gets an item without rows, which empties its part of the hub.
    """
    of_shard = {shard: kept.filter(pl.col("shard") == shard).drop("shard") for shard in shards}
    return [StageRows(shard, HUB, {"personas.hub": rows}) for shard, rows in of_shard.items()]


def read_ranked(
    connection: duckdb.DuckDBPyConnection, shards: Sequence[str], numbers: Mapping[str, int]
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Read the fingerprints and the pairs that the decisions about these shards need.

    Of other shards, only kept personas are read. Personas without a similar one are left out.

    Args:
        connection: to the project's database.
        shards: the shards to decide.
        numbers: the number of every shard, by its name.

    Returns:
        The fingerprints, one row per persona, and the pairs, one row per pair of keys. The columns
        persona_id and shard_number are called id and rank, as the engine calls them.
    """
    parameters = {"shards": list(shards)}
    pairs = fetch(connection, read_sql("personas/ranked_pairs"), parameters).unique()
    connection.register("ranked_pairs", pairs)
    ranked = fetch(connection, read_sql("personas/ranked"), parameters).unique(
        ["shard", "persona_id"]
    )
    # not in SQL, where this join on strings takes four times as long
    places = pl.DataFrame(list(numbers.items()), NUMBERS, orient="row")
    return ranked.join(places, on="shard").rename(ENGINE_NAMES), pairs


def removed_before(store: Store, plan: DedupPlan, first: int) -> pl.DataFrame:
    """Return shard and persona_id of whom the settings of now remove, before shard number `first`.

    These shards are compared. Those that are not decided as they are now are decided here.
    """
    with store.connect(read_only=True) as connection:
        decisions = [each for each in read_decisions(connection) if each.shard_number < first]
        bases = decision_bases(decisions, plan)
        numbers = {each.shard: each.shard_number for each in decisions}
        outdated = [each.shard_number for each in decisions if each.basis != bases.get(each.shard)]
        start = min(outdated, default=first)
        again = [shard for shard, number in numbers.items() if number >= start]
        before = [shard for shard, number in numbers.items() if number < start]
        stored = fetch(connection, REMOVED_SQL, {"shards": before})
        ranked = read_ranked(connection, again, numbers) if again else None
    decided = _decide(plan, *ranked, start) if ranked else {}
    parts = [
        rows.select(pl.lit(shard).alias("shard"), "persona_id") for shard, rows in decided.items()
    ]
    return pl.concat([stored, *parts])


def _is_intact(connection: duckdb.DuckDBPyConnection, shard: str, stored: pl.DataFrame) -> bool:
    """Tell whether the stored duplicates of a shard are those that were decided last."""
    written = connection.execute(DECIDED_VERSION_SQL, {"shard": shard}).fetchall()
    return written == [(StageRows(shard, STAGE, {"personas.duplicates": stored}).version(),)]


DECIDED_VERSION_SQL: Final = """
-- One row: the version of the duplicates that were last decided of the shard.
-- reads: runs.stages   params: $shard
select output_version
from runs.stages
where shard = $shard and stage = 'deduplication'
"""


REMOVED_SQL: Final = """
-- One row per persona of these shards that was removed as a duplicate.
-- reads: personas.duplicates   params: $shards
select shard, persona_id
from personas.duplicates
where shard in (select unnest($shards))
"""


STORED_DUPLICATES_SQL: Final = """
-- One row per persona of the shard that was removed as a duplicate.
-- reads: personas.duplicates   params: $shard
select persona_id, kept_id, layer, similarity, threshold, fuzzy_score
from personas.duplicates
where shard = $shard
order by persona_id
"""


CANDIDATE_COUNTS_SQL: Final = """
-- One row per shard of these that has candidates.
-- reads: personas.candidates   params: $shards
select shard, count(*) as candidate_count
from personas.candidates
where shard in (select unnest($shards))
group by shard
"""


def _candidate_counts(
    connection: duckdb.DuckDBPyConnection, shards: Sequence[str]
) -> Mapping[str, int]:
    return dict(fetch(connection, CANDIDATE_COUNTS_SQL, {"shards": list(shards)}).iter_rows())


def _decide(
    plan: DedupPlan, ranked: pl.DataFrame, pairs: pl.DataFrame, first: int
) -> dict[str, pl.DataFrame]:
    """Return the rows of `personas.duplicates` by shard, from shard number `first` on."""
    with open_resolver(ranked, pairs, plan.resources) as resolver:
        removed = resolver.resolve(plan.thresholds, from_rank=first)
    rows = removed.join(ranked.select("id", "shard"), on="id").rename({"id": "persona_id"})
    parts = rows.partition_by("shard", as_dict=True, include_key=False)
    return {str(shard): part for (shard,), part in parts.items()}


def _resolved(basis: str | None, thresholds: Thresholds) -> pl.DataFrame:
    row = (basis, thresholds.jaccard, thresholds.cosine, thresholds.fuzzy)
    return pl.DataFrame([] if basis is None else [row], schema=RESOLVED, orient="row")
