"""Build the metadata of a table: counts, columns, reasons, a sample, and where to query it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import dagster as dg
import duckdb
import polars as pl

from assets.metadata.columns import describe_columns
from persona_pipeline.sql import content_query, fetch
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
        [(count,)] = connection.execute(f"select count(*) from {table}").fetchall()
        return {
            "dagster/row_count": count,
            **_describe_rows(connection, table, count),
            **_describe_columns(connection, store, table),
        }


def describe_shards(
    store: Store, tables: Sequence[str], shards: Sequence[str]
) -> dict[str, dict[str, ShardOfTable]]:
    """Return the metadata and the data version of each shard's rows in each of the tables."""
    described = {shard: dict[str, ShardOfTable]() for shard in shards}
    if not shards:
        return described
    with store.connect(read_only=True) as connection:
        for table in tables:
            columns = _describe_columns(connection, store, table)
            contents = _contents(connection, table, shards)
            for shard in shards:
                count, version = contents.get(shard, (0, 0))
                metadata = {
                    "dagster/partition_row_count": count,
                    **_describe_rows(connection, table, count, shard),
                    **columns,
                }
                described[shard][table] = ShardOfTable(metadata, f"{count}-{version:016x}")
    return described


def _describe_columns(connection: duckdb.DuckDBPyConnection, store: Store, table: str) -> Metadata:
    return {
        **describe_columns(connection, table),
        "dagster/table_name": table,
        "snapshot": dg.MetadataValue.path(str(store.snapshot)),
    }


def _describe_rows(
    connection: duckdb.DuckDBPyConnection, table: str, count: int, shard: str | None = None
) -> Metadata:
    where, parameters = ("where shard = $shard", {"shard": shard}) if shard else ("", {})
    sample = fetch(connection, f"select * from {table} {where} limit {SAMPLE_ROWS}", parameters)
    metadata: Metadata = {"rows": count, "sample": as_markdown(sample)}
    if "reason" in sample.columns:
        reasons = fetch(connection, f"select reason from {table} {where}", parameters)
        metadata["reasons"] = _reasons(reasons)
    return metadata


def _contents(
    connection: duckdb.DuckDBPyConnection, table: str, shards: Sequence[str]
) -> dict[str, tuple[int, int]]:
    """Return the number of rows of each shard, and a hash of them.

    It depends on the rows only, not on their run, time or order.
    """
    rows = f"select * exclude (run_id, created_at) from {table}"
    sql = content_query(f"{rows} where shard in (select unnest($shards))", by="shard")
    contents = connection.execute(sql, {"shards": list(shards)}).fetchall()
    return {shard: (count, int(total) % 2**64) for shard, count, total in contents}


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
