"""What Dagster shows of a table's columns: types and descriptions, and what they are made from."""

import logging
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import dagster as dg
import duckdb

from persona_pipeline.sql_files import read_sql, sql_names

if TYPE_CHECKING:
    from sqlglot.lineage import Node

LOG = logging.getLogger(__name__)
MADE_BY_SQL = ("personas/hub", *sql_names("marts"))
"""Tables and views whose rows are those of the SQL file of the same name."""
COLUMNS = (
    "select schema_name, table_name, column_name, data_type, comment from duckdb_columns() "
    "where database_name = current_database() and not internal order by column_index"
)
VIEWS = (
    "select schema_name || '.' || view_name, sql from duckdb_views() "
    "where database_name = current_database() and not internal"
)

Column = tuple[str, str]
"""Table, with its schema, and column."""
Rows = tuple[tuple[str, ...], ...]


def describe_columns(connection: duckdb.DuckDBPyConnection, table: str) -> Mapping[str, Any]:
    """What the metadata of a materialized table says of its columns."""
    lineage = column_lineage(connection, table)
    return {
        "dagster/column_schema": column_schema(connection, table),
        **({"dagster/column_lineage": lineage} if lineage else {}),
    }


def column_schema(connection: duckdb.DuckDBPyConnection, table: str) -> dg.TableSchema:
    """Types and descriptions of the columns of a table or view."""
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
    """The columns of other assets that each column's values come from.

    None: no SQL file makes the table. A column without any is a constant, or counts rows. What rows
    are joined or left out by is not in it, only what stands in a column's own expression.
    """
    name = table.replace(".", "/")
    if name not in MADE_BY_SQL:
        return None
    from sqlglot.errors import SqlglotError  # noqa: PLC0415 - 0.4 CPU-seconds, for few tables

    try:
        found = _trace(
            read_sql(name),
            tuple(connection.sql(COLUMNS).fetchall()),
            tuple(connection.sql(VIEWS).fetchall()),
        )
    except SqlglotError:  # a newer sqlglot; the table itself is as it should be
        LOG.warning("the columns of %s cannot be traced", table, exc_info=True)
        return None
    return dg.TableColumnLineage(
        {
            column: [dg.TableColumnDep(source.split("."), name) for source, name in sorted(origins)]
            for column, origins in found.items()
        }
    )


@lru_cache(maxsize=32)
def _trace(statement: str, columns: Rows, views: Rows) -> Mapping[str, set[Column]]:
    """Once for all shards of a run: 25 ms a table."""
    return _Tracer(columns, views).trace(statement)


class _Tracer:
    """Knows the columns of all tables, and looks through views that are no assets."""

    def __init__(self, columns: Rows, views: Rows) -> None:
        self._schema: dict[str, dict[str, dict[str, str]]] = {}
        for schema, table, column, kind, _ in columns:
            self._schema.setdefault(schema, {}).setdefault(table, {})[column] = kind
        self._views = {
            name: sql for name, sql in views if name.replace(".", "/") not in MADE_BY_SQL
        }
        self._traced: dict[str, dict[str, set[Column]]] = {}

    def trace(self, statement: str) -> dict[str, set[Column]]:
        """By column of the SELECT."""
        from sqlglot import exp, lineage, parse_one  # noqa: PLC0415 - see column_lineage

        parsed = parse_one(statement, dialect="duckdb")
        query = parsed.expression if isinstance(parsed, exp.Create) else parsed
        nodes = lineage.lineage(None, query, self._schema, dialect="duckdb", trim_selects=False)
        return {
            name: {origin for leaf in _leaves(node) for origin in self._origins(leaf)}
            for name, node in nodes.items()
        }

    def _origins(self, leaf: Column) -> set[Column]:
        table, column = leaf
        if table not in self._views:
            return {leaf}
        if table not in self._traced:
            self._traced[table] = self.trace(self._views[table])
        return self._traced[table][column]


def _leaves(node: "Node") -> Iterator[Column]:
    """The columns of tables and views at the ends of the graph; DuckDB's own functions are none."""
    from sqlglot import exp  # noqa: PLC0415 - see column_lineage

    for step in node.walk():
        table = step.expression
        if isinstance(table, exp.Table) and table.name:
            yield f"{table.db}.{table.name}", step.name.rpartition(".")[2].strip('"')
