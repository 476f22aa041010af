"""Describe a table's columns for Dagster: their types, descriptions and sources."""

import logging
from collections.abc import Mapping
from typing import Any

import dagster as dg
import duckdb

from persona_pipeline.sql import read_sql, sql_names

LOG = logging.getLogger(__name__)
MADE_BY_SQL = ("personas/hub", *sql_names("marts"))
"""Tables and views that the SQL file of the same name makes."""
COLUMNS = (
    "select schema_name, table_name, column_name, data_type, comment from duckdb_columns() "
    "where database_name = current_database() and not internal order by column_index"
)
VIEWS = (
    "select schema_name || '.' || view_name, sql from duckdb_views() "
    "where database_name = current_database() and not internal"
)


def describe_columns(connection: duckdb.DuckDBPyConnection, table: str) -> Mapping[str, Any]:
    """Return the column metadata of a materialized table."""
    lineage = column_lineage(connection, table)
    return {
        "dagster/column_schema": column_schema(connection, table),
        **({"dagster/column_lineage": lineage} if lineage else {}),
    }


def column_schema(connection: duckdb.DuckDBPyConnection, table: str) -> dg.TableSchema:
    """Return the types and descriptions of the columns of a table or view."""
    return dg.TableSchema(
        [
            dg.TableColumn(column, kind, description=comment)
            for schema, name, column, kind, comment in connection.sql(COLUMNS).fetchall()
            if f"{schema}.{name}" == table
        ]
    )


def column_lineage(
    connection: duckdb.DuckDBPyConnection, table: str
) -> dg.TableColumnLineage | None:
    """Return the columns of other assets that each column's values come from.

    Only the columns in a column's own expression count, not those of joins and filters. A column
    without sources is a constant or counts rows.

    Returns:
        The lineage; None if no SQL file makes the table, or sqlglot cannot read it.
    """
    name = table.replace(".", "/")
    if name not in MADE_BY_SQL:
        return None
    from assets.metadata.column_lineage import trace  # noqa: PLC0415 - sqlglot takes 0.4 CPU-seconds, for few tables

    sources = trace(
        read_sql(name),
        tuple(connection.sql(COLUMNS).fetchall()),
        tuple(connection.sql(VIEWS).fetchall()),
        MADE_BY_SQL,
    )
    if sources is None:
        LOG.warning("the columns of %s cannot be traced", table)
        return None
    return dg.TableColumnLineage(
        {
            column: [dg.TableColumnDep(source.split("."), name) for source, name in sorted(origins)]
            for column, origins in sources.items()
        }
    )
