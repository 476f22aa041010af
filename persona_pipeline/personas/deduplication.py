"""From candidates to the hub: embed them, find duplicates across shards, keep the rest."""

from collections.abc import Sequence

import polars as pl

from persona_pipeline.dedup.duplicates import Thresholds, find_duplicates
from persona_pipeline.llm.clients.embeddings import Embedder
from persona_pipeline.stages import FunnelCounts, StageRows

STAGE = "deduplication"

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


def deduplicate(
    candidates: pl.DataFrame,
    embeddings: pl.DataFrame,
    thresholds: Thresholds,
    shards: Sequence[str],
) -> list[StageRows]:
    """The duplicates of each of `shards`, found among `candidates` of all shards up to the last.

    `candidates` has shard, shard_number, persona_id and persona. The earlier shard wins, so what is
    kept of a shard depends only on it and on those before it.
    """
    duplicates = find_duplicates(
        candidates.select("persona_id", "persona", "shard_number"),
        embeddings.select("persona_id", "embedding"),
        thresholds,
    ).join(candidates.select("persona_id", "shard"), on="persona_id")
    sizes = dict(candidates.group_by("shard").len().iter_rows())
    return [
        StageRows(
            shard=shard,
            stage=STAGE,
            tables={"personas.duplicates": _of_shard(duplicates, shard)},
            funnel=FunnelCounts(sizes.get(shard, 0), sizes.get(shard, 0)),
        )
        for shard in shards
    ]


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
