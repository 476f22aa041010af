"""Describe a table's columns for Dagster: their types, descriptions and sources."""

import csv
from collections.abc import Mapping
from functools import cache
from typing import Any

import dagster as dg
import duckdb

from persona_pipeline.sql import read_file, sql_names
from persona_pipeline.store.dictionary import RECORDS
from persona_pipeline.store.views import domain_tables

MADE_BY_SQL = ("personas/hub", *sql_names("marts"))
"""Tables and views that the SQL file of the same name makes."""
COLUMNS = (
    "select schema_name, table_name, column_name, data_type, comment from duckdb_columns() "
    "where database_name = current_database() and not internal order by column_index"
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
        The lineage; None if no SQL file makes the table.
    """
    columns = _read_lineage().get(table)
    if columns is None:
        return None
    domains = [f"synthetic.{name}" for name in domain_tables(connection)]
    return dg.TableColumnLineage(
        {
            column: [
                dg.TableColumnDep(each.split("."), name)
                for source, name in sources
                for each in (domains if source == RECORDS else [source])
            ]
            for column, sources in columns.items()
        }
    )


@cache
def _read_lineage() -> Mapping[str, Mapping[str, list[tuple[str, str]]]]:
    """Return (table, column) of the sources of each column, by table and column."""
    tables: dict[str, dict[str, list[tuple[str, str]]]] = {}
    for row in csv.DictReader(read_file("column_lineage.csv").splitlines()):
        sources = tables.setdefault(row["table_name"], {}).setdefault(row["column_name"], [])
        if row["source_table"]:
            sources.append((row["source_table"], row["source_column"]))
    return tables
