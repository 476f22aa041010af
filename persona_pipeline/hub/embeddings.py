"""Embed candidates, and read stored vectors into a memory-mapped file."""

from collections.abc import Collection
from typing import Final

import duckdb
import numpy as np
import polars as pl
from numpy.typing import NDArray

from persona_pipeline.dedup.vectors.search import TextVectors, allocate_rows
from persona_pipeline.llm.clients.embeddings import Embedder
from persona_pipeline.llm.errors import ModelError
from persona_pipeline.sql import fetch, read_sql
from persona_pipeline.store.stage_rows import StageRows
from persona_pipeline.store.store import Store

BATCH = 4096
"""Vectors that are read at a time."""
EMBEDDINGS: dict[str, pl.DataType | type[pl.DataType]] = {
    "persona_id": pl.String,
    "model": pl.String,
    "embedding": pl.List(pl.Float32),
}
"""Columns of `personas.embeddings`."""


def embed_candidates(
    candidates: pl.DataFrame, stored: pl.DataFrame, embedder: Embedder | None, shard: str
) -> StageRows:
    """Return one vector per candidate (persona_id, persona); reuse those in `stored`.

    With an embedder, only stored vectors of its model are reused, and missing ones are computed.
    Without one, nobody needs vectors: the stored ones of any model stay. A candidate of which the
    model gives no vector gets no row, and is compared by its words only.

    Raises:
        ModelError: the model gives no vector of any candidate.
    """
    mine = stored.filter(pl.col("model") == embedder.model) if embedder else stored
    known = mine.select(*EMBEDDINGS).join(candidates, on="persona_id", how="semi")
    return StageRows(
        shard=shard,
        stage="embeddings",
        tables={"personas.embeddings": _with_new(known, candidates, embedder).sort("persona_id")},
    )


def read_vectors(
    store: Store,
    model: str,
    fingerprints: pl.DataFrame,
    known_shards: Collection[str],
    early: Collection[str],
) -> list[TextVectors]:
    """Read the vectors of all compared texts.

    Args:
        store: has the fingerprints of the known shards, and all vectors.
        model: name of the embedding model.
        fingerprints: shard, persona_id and text_key of the shards to compare.
        known_shards: shards that were compared before.
        early: shards whose texts are compared exactly.

    Returns:
        One item per vector length. Its rows are float32, in a file in the database's folder.
    """
    folder = store.path.parent
    with store.connect(read_only=True) as connection:
        known = fetch(
            connection,
            read_sql("personas/texts_with_vectors"),
            {"model": model, "shards": list(known_shards)},
        )
        lengths = read_lengths(connection, model, fingerprints)
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


LENGTHS_OF_PERSONAS_SQL: Final = """
-- One row per wanted persona that has a vector of this embedding model: its length.
-- reads: personas.embeddings, wanted_personas (a frame)   params: $model
select shard, persona_id, len(embedding) as length
from personas.embeddings
semi join wanted_personas using (shard, persona_id)
where model = $model
"""


def read_lengths(
    connection: duckdb.DuckDBPyConnection, model: str, personas: pl.DataFrame
) -> pl.DataFrame:
    """Return shard, persona_id and vector length of those of `personas` that have a vector."""
    connection.register("wanted_personas", personas.select("shard", "persona_id"))
    return fetch(connection, LENGTHS_OF_PERSONAS_SQL, {"model": model})


VECTORS_IN_PLACE_SQL: Final = """
-- One row per wanted persona with its vector of this embedding model, in any order: many at a time.
-- reads: personas.embeddings, places (a frame: shard, persona_id, place)   params: $model
select places.place, embeddings.embedding
from personas.embeddings
inner join places using (shard, persona_id)
where embeddings.model = $model
"""


def read_rows(
    connection: duckdb.DuckDBPyConnection,
    model: str,
    personas: pl.DataFrame,
    rows: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Fill `rows` with the vectors of these personas (shard, persona_id), in their order.

    `rows` has shape (personas, dimensions). It is returned.
    """
    connection.execute("set streaming_buffer_size = '16MB'")  # no union: see `open_duckdb`
    places = personas.select("shard", "persona_id").with_row_index("place")
    connection.register("places", places)
    batches = connection.execute(VECTORS_IN_PLACE_SQL, {"model": model}).to_arrow_reader(BATCH)
    for batch in batches:
        placed = pl.DataFrame(batch)
        vectors = placed["embedding"].list.to_array(rows.shape[1])
        rows[placed["place"].to_numpy()] = vectors.to_numpy()
    return rows


def _texts(known: pl.DataFrame, new: pl.DataFrame, early: Collection[str]) -> pl.DataFrame:
    """Return one row per text, with one persona that has its vector; known texts come first."""
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


def _with_new(
    known: pl.DataFrame, candidates: pl.DataFrame, embedder: Embedder | None
) -> pl.DataFrame:
    if embedder is None:
        return known
    new = candidates.join(known, on="persona_id", how="anti", maintain_order="left")
    if new.is_empty():
        return known
    vectors = embedder.embed(new["persona"].to_list())
    has_vector = pl.Series(np.isfinite(vectors).all(axis=1), dtype=pl.Boolean)
    if known.is_empty() and not has_vector.any():
        msg = (
            f"embedding model {embedder.model} gives no vector of any text: "
            "'persona-pipeline calls' shows why"
        )
        raise ModelError(msg)
    result = pl.DataFrame(
        {
            "persona_id": new["persona_id"].filter(has_vector),
            "model": [embedder.model] * int(has_vector.sum()),
            "embedding": vectors[has_vector.to_numpy()].tolist(),
        },
        schema=EMBEDDINGS,
    )
    return pl.concat([known, result])
