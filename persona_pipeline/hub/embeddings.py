"""The vectors of texts from the store to a file: more of them than fit into memory, if need be."""

from collections.abc import Collection

import duckdb
import numpy as np
import polars as pl
from numpy.typing import NDArray

from persona_pipeline.dedup.vectors.search import TextVectors, allocate_rows
from persona_pipeline.llm.clients.embeddings import Embedder
from persona_pipeline.sql import fetch, read_sql
from persona_pipeline.store.stage_rows import StageRows
from persona_pipeline.store.store import Store

BATCH = 4096
"""Vectors read at a time."""


def read_vectors(
    store: Store,
    model: str,
    fingerprints: pl.DataFrame,
    known_shards: Collection[str],
    early: Collection[str],
) -> list[TextVectors]:
    """The vectors of all compared texts, by their length.

    Args:
        store: has the fingerprints of the known shards, and all vectors.
        model: of the vectors.
        fingerprints: shard, persona_id, text_key of the new ones.
        known_shards: those compared before.
        early: the shards whose texts are compared exactly.
    """
    folder = store.path.parent
    with store.connect(read_only=True) as connection:
        known = fetch(
            connection,
            read_sql("personas/texts_with_vectors"),
            {"model": model, "shards": list(known_shards)},
        )
        connection.register("wanted_personas", fingerprints.select("shard", "persona_id"))
        lengths = fetch(connection, read_sql("personas/lengths_of_personas"), {"model": model})
        new = fingerprints.join(lengths, on=["shard", "persona_id"]).select(known.columns)
        texts = _texts(known, new, early)
        return [
            TextVectors(
                keys=group["text_key"].to_numpy(),
                rows=read_rows(
                    connection,
                    model,
                    group,
                    allocate_rows(len(group), group.item(0, "length"), folder),
                ),
                known=len(group) - int(group["is_new"].sum()),
                early=group["is_early"].to_numpy(),
                folder=folder,
            )
            for group in texts.partition_by("length")
        ]


def _texts(known: pl.DataFrame, new: pl.DataFrame, early: Collection[str]) -> pl.DataFrame:
    """One row per text, and a persona that has its vector: the known texts first."""
    everyone = pl.concat([known.with_columns(is_new=False), new.with_columns(is_new=True)])
    return (
        everyone.filter(pl.col("length") > 0)
        .group_by("text_key")
        .agg(
            pl.col("shard", "persona_id", "length").sort_by("persona_id", "shard").first(),
            pl.col("is_new").any(),
            is_early=pl.col("shard").is_in(list(early)).any(),
        )
        .sort("is_new", "text_key")
    )


def read_rows(
    connection: duckdb.DuckDBPyConnection,
    model: str,
    personas: pl.DataFrame,
    rows: NDArray[np.float32],
) -> NDArray[np.float32]:
    """The vectors of these personas (shard, persona_id), in this order, into `rows`."""
    connection.execute("set streaming_buffer_size = '16MB'")  # no union: see `open_duckdb`
    places = personas.select("shard", "persona_id").with_row_index("place")
    connection.register("places", places)
    batches = connection.execute(
        read_sql("personas/vectors_in_place"), {"model": model}
    ).to_arrow_reader(BATCH)
    for batch in batches:
        matches = pl.DataFrame(batch)
        vectors = matches["embedding"].list.to_array(rows.shape[1])
        rows[matches["place"].to_numpy()] = vectors.to_numpy()
    return rows


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
    result = pl.DataFrame(
        {
            "persona_id": new["persona_id"],
            "model": [embedder.model] * len(new),
            "embedding": vectors,
        },
        schema=EMBEDDINGS,
    )
    return pl.concat([known, result])
