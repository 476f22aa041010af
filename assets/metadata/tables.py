"""Build the metadata of a table: counts, columns, reasons, a sample, and where to query it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import dagster as dg
import duckdb
import polars as pl

from assets.metadata.columns import describe_columns
from persona_pipeline.sql import content_query
from persona_pipeline.store.store import Store

SAMPLE_ROWS = 5
CELL = 160
"""Most characters of a cell in a sample."""

Metadata = dict[str, Any]


@dataclass(frozen=True, slots=True)
class ShardOfTable:
    """The metadata of a shard's rows, and a version that changes when the rows do."""

    metadata: Metadata
    version: str


def describe_table(store: Store, table: str) -> Metadata:
    """Return the metadata of a whole table or view."""
    with store.connect(read_only=True) as connection:
        metadata = _describe(connection, table, None)
    return {**metadata, "snapshot": dg.MetadataValue.path(str(store.snapshot))}


def describe_shard(store: Store, tables: Sequence[str], shard: str) -> dict[str, ShardOfTable]:
    """Return the metadata and the data version of the shard's rows in each of the tables."""
    with store.connect(read_only=True) as connection:
        return describe_shard_on(connection, store, tables, shard)


def describe_shard_on(
    connection: duckdb.DuckDBPyConnection, store: Store, tables: Sequence[str], shard: str
) -> dict[str, ShardOfTable]:
    """Do what `describe_shard` does on a connection that is open."""
    snapshot = {"snapshot": dg.MetadataValue.path(str(store.snapshot))}
    return {
        table: ShardOfTable(
            {**_describe(connection, table, shard), **snapshot}, _version(connection, table, shard)
        )
        for table in tables
    }


def _describe(connection: duckdb.DuckDBPyConnection, table: str, shard: str | None) -> Metadata:
    where = "where shard = $shard" if shard else ""
    parameters = {"shard": shard} if shard else {}
    [(count,)] = connection.execute(f"select count(*) from {table} {where}", parameters).fetchall()
    sample = connection.execute(
        f"select * from {table} {where} limit {SAMPLE_ROWS}", parameters
    ).pl()
    row_count = "dagster/partition_row_count" if shard else "dagster/row_count"
    metadata: Metadata = {
        row_count: count,
        "rows": count,
        **describe_columns(connection, table),
        "dagster/table_name": table,
        "sample": as_markdown(sample),
    }
    if "reason" in sample.columns:
        reasons = connection.execute(f"select reason from {table} {where}", parameters).pl()
        metadata["reasons"] = _reasons(reasons)
    return metadata


def _version(connection: duckdb.DuckDBPyConnection, table: str, shard: str) -> str:
    """Return a version that depends on the rows only, not on their run, time or order."""
    rows = f"select * exclude (run_id, created_at) from {table} where shard = $shard"
    [(count, total)] = connection.execute(content_query(rows), {"shard": shard}).fetchall()
    return f"{count}-{int(total or 0) % 2**64:016x}"


def result(key: Sequence[str], metadata: Metadata) -> dg.MaterializeResult[None]:
    """Build the materialization of one table."""
    return dg.MaterializeResult(asset_key=dg.AssetKey(key), metadata=metadata)


def as_markdown(rows: pl.DataFrame) -> dg.MarkdownMetadataValue:
    """Return the rows as a Markdown table, without embeddings, run and time."""
    if rows.is_empty():
        return dg.MetadataValue.md("no rows")
    shown = [name for name in rows.columns if name not in {"run_id", "created_at", "embedding"}]
    lines = ["| " + " | ".join(shown) + " |", "|" + "---|" * len(shown)]
    lines += [
        "| " + " | ".join(_cell(value) for value in row) + " |" for row in rows.select(shown).rows()
    ]
    return dg.MetadataValue.md("\n".join(lines))


def _cell(value: object) -> str:
    text = "" if value is None else str(value).replace("|", "\\|").replace("\n", " ")
    return text if len(text) <= CELL else text[: CELL - 1] + "…"


def _reasons(rejected: pl.DataFrame) -> dg.MarkdownMetadataValue:
    lines = [f"| {reason} | {count} |" for reason, count in count_reasons(rejected)]
    return dg.MetadataValue.md("\n".join(["| reason | rows |", "|---|---|", *lines]))


def count_reasons(rejected: pl.DataFrame) -> Sequence[tuple[str, int]]:
    """Count the rows per reason, the most frequent reason first."""
    if rejected.is_empty():
        return []
    counts = rejected.group_by("reason").len().sort(["len", "reason"], descending=[True, False])
    return [(reason, count) for reason, count in counts.iter_rows()]
