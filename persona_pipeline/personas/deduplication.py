"""From candidates to the hub: embed them, decide across shards who stays, keep the rest."""

from collections.abc import Sequence

import duckdb
import polars as pl

from persona_pipeline.dedup.resolve import resolve
from persona_pipeline.dedup.scratch import open_scratch
from persona_pipeline.hashing import stable_id
from persona_pipeline.llm.clients.embeddings import Embedder
from persona_pipeline.personas.comparison import DedupPlan, ShardState, read_states
from persona_pipeline.personas.line import read_line
from persona_pipeline.stage_names import DEDUPLICATION
from persona_pipeline.stages import FunnelCounts, StageRows
from persona_pipeline.store import Store

STAGE = DEDUPLICATION
LAST = 1 << 62
"""After every shard."""

EMBEDDINGS: dict[str, pl.DataType | type[pl.DataType]] = {
    "persona_id": pl.String,
    "model": pl.String,
    "embedding": pl.List(pl.Float32),
}


def embed_candidates(
    candidates: pl.DataFrame, stored: pl.DataFrame, embedder: Embedder, shard: str
) -> StageRows:
    """One vector per candidate (persona_id, persona); those `stored` for this model are reused."""
    mine = stored.filter(pl.col("model") == embedder.model).select(*EMBEDDINGS)
    known = mine.join(candidates, on="persona_id", how="semi")
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
    return StageRows(
        shard=shard,
        stage="embeddings",
        tables={"personas.embeddings": pl.concat([known, made]).sort("persona_id")},
    )


def deduplicate(store: Store, plan: DedupPlan, shard: str) -> list[StageRows]:
    """The duplicates of this shard, and of every shard whose decisions are out of date.

    The earlier shard wins, so what is kept of a shard depends only on it and on those before it:
    the first one that is out of date, and all after it, are decided again.
    """
    with store.connect(read_only=True) as connection:
        states = read_states(connection, plan)
        bases = _bases(states, plan)
        outdated = [
            state.shard_number
            for state in states
            if state.shard == shard or state.basis != bases.get(state.shard)
        ]
        first = min(outdated, default=LAST)
        open_states = [state for state in states if state.shard_number >= first]
        line, pairs = read_line(
            connection,
            [state.shard for state in open_states],
            {state.shard: state.shard_number for state in states},
        )
    found = _decide(plan, line, pairs, first)
    of_shard = found.partition_by("shard", as_dict=True, include_key=False)
    if shard not in {state.shard for state in states}:  # it has no candidates, and never had
        open_states.append(ShardState(shard, LAST, 0, None, None, None, None))
    return [
        _decided(state, of_shard.get((state.shard,), found.clear()), bases.get(state.shard))
        for state in open_states
    ]


def undecided_shards(connection: duckdb.DuckDBPyConnection, plan: DedupPlan) -> list[str]:
    """Shards whose duplicates rest on other comparisons or thresholds than those of now."""
    states = read_states(connection, plan)
    bases = _bases(states, plan)
    return [state.shard for state in states if state.basis != bases.get(state.shard)]


def _decide(plan: DedupPlan, line: pl.DataFrame, pairs: pl.DataFrame, first: int) -> pl.DataFrame:
    """The rows of personas.duplicates of the shards from number `first` on."""
    resources = plan.resources
    with open_scratch(memory_limit=resources.memory_bytes, threads=resources.threads) as scratch:
        scratch.load("fingerprints", line)
        scratch.load("pairs", pairs)
        found = resolve(scratch, plan.thresholds, from_shard=first)
    return found.join(line.select("persona_id", "shard"), on="persona_id")


def _bases(states: Sequence[ShardState], plan: DedupPlan) -> dict[str, str]:
    """What each shard's decisions rest on: the thresholds, and all comparisons up to it."""
    bases, basis = dict[str, str](), stable_id(str(plan.thresholds))
    for state in states:
        if state.version is not None:
            basis = stable_id(basis, state.version)
            bases[state.shard] = basis
    return bases


def _decided(state: ShardState, found: pl.DataFrame, basis: str | None) -> StageRows:
    rows = pl.DataFrame({"basis": [] if basis is None else [basis]}, schema={"basis": pl.String})
    return StageRows(
        shard=state.shard,
        stage=STAGE,
        tables={
            "personas.duplicates": found.drop("shard", strict=False),
            "runs.resolved": rows,
        },
        funnel=FunnelCounts(state.candidate_count, state.candidate_count),
    )


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
