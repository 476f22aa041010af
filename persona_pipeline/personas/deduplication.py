"""From candidates to the hub: embed them, decide across shards who stays, keep the rest."""

from collections.abc import Sequence
from dataclasses import dataclass

import duckdb
import polars as pl

from persona_pipeline.dedup.resolve import open_line
from persona_pipeline.dedup.rules import Thresholds
from persona_pipeline.hashing import stable_id
from persona_pipeline.llm.clients.embeddings import Embedder
from persona_pipeline.personas.comparison import DedupPlan
from persona_pipeline.personas.line import read_line
from persona_pipeline.sql_files import fetch, read_sql
from persona_pipeline.stage_names import DEDUPLICATION
from persona_pipeline.stages import FunnelCounts, StageRows
from persona_pipeline.store import Store

STAGE = DEDUPLICATION
LAST = 1 << 62
"""After every shard."""
RESOLVED = {
    "basis": pl.String,
    "jaccard_threshold": pl.Float64,
    "cosine_threshold": pl.Float64,
    "fuzzy_threshold": pl.Float64,
}

EMBEDDINGS: dict[str, pl.DataType | type[pl.DataType]] = {
    "persona_id": pl.String,
    "model": pl.String,
    "embedding": pl.List(pl.Float32),
}


def embed_candidates(
    candidates: pl.DataFrame, stored: pl.DataFrame, embedder: Embedder | None, shard: str
) -> StageRows:
    """One vector per candidate (persona_id, persona); those `stored` for this model are reused.

    Without an embedder, as nobody needs vectors: those that are stored, of any model.
    """
    mine = stored.filter(pl.col("model") == embedder.model) if embedder else stored
    known = mine.select(*EMBEDDINGS).join(candidates, on="persona_id", how="semi")
    return StageRows(
        shard=shard,
        stage="embeddings",
        tables={"personas.embeddings": _with_new(known, candidates, embedder).sort("persona_id")},
    )


def _with_new(
    known: pl.DataFrame, candidates: pl.DataFrame, embedder: Embedder | None
) -> pl.DataFrame:
    if embedder is None:
        return known
    new = candidates.join(known, on="persona_id", how="anti", maintain_order="left")
    vectors = embedder.embed(new["persona"].to_list()).tolist() if len(new) else []
    made = pl.DataFrame(
        {
            "persona_id": new["persona_id"],
            "model": [embedder.model] * len(new),
            "embedding": vectors,
        },
        schema=EMBEDDINGS,
    )
    return pl.concat([known, made])


@dataclass(frozen=True, slots=True)
class _Decision:
    """What a shard's comparison and its duplicates rest on: versions, None where there are none."""

    shard: str
    shard_number: int
    version: str | None
    basis: str | None


def deduplicate(store: Store, plan: DedupPlan, shard: str) -> list[StageRows]:
    """The duplicates of this shard, and of every shard whose decisions are out of date.

    The earlier shard wins, so what is kept of a shard depends only on it and on those before it:
    the first one that is out of date, and all after it, are decided again.
    """
    with store.connect(read_only=True) as connection:
        decisions = _read_decisions(connection)
        bases = _bases(decisions, plan)
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
        line, pairs = read_line(connection, shards, numbers)
    found = _decide(plan, line, pairs, first)
    of_shard = found.partition_by("shard", as_dict=True, include_key=False)
    nothing, candidates = found.drop("shard").clear(), dict(counts.iter_rows())
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


def undecided_shards(connection: duckdb.DuckDBPyConnection, plan: DedupPlan) -> list[str]:
    """Shards whose duplicates rest on other comparisons or thresholds than those of now."""
    decisions = _read_decisions(connection)
    bases = _bases(decisions, plan)
    return [each.shard for each in decisions if each.basis != bases.get(each.shard)]


def _read_decisions(connection: duckdb.DuckDBPyConnection) -> list[_Decision]:
    """Every shard that was compared or decided, in line."""
    rows = fetch(connection, read_sql("personas/decided_shards"))
    return [_Decision(**row) for row in rows.iter_rows(named=True)]


def _decide(plan: DedupPlan, line: pl.DataFrame, pairs: pl.DataFrame, first: int) -> pl.DataFrame:
    """The rows of personas.duplicates of the shards from number `first` on."""
    with open_line(line, pairs, plan.resources) as similar:
        found = similar.resolve(plan.thresholds, from_shard=first)
    return found.join(line.select("persona_id", "shard"), on="persona_id")


def _bases(decisions: Sequence[_Decision], plan: DedupPlan) -> dict[str, str]:
    """What each shard's decisions rest on: the thresholds, and all comparisons up to it."""
    bases, basis = dict[str, str](), stable_id(plan.thresholds.version_text())
    for decision in decisions:
        if decision.version is not None:
            basis = stable_id(basis, decision.version)
            bases[decision.shard] = basis
    return bases


def _resolved(basis: str | None, thresholds: Thresholds) -> pl.DataFrame:
    row = (basis, thresholds.jaccard, thresholds.cosine, thresholds.fuzzy)
    return pl.DataFrame([] if basis is None else [row], schema=RESOLVED, orient="row")


def keep_rest(kept: pl.DataFrame, shards: Sequence[str]) -> list[StageRows]:
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
