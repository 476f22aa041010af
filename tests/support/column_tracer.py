"""Trace the columns of views to the columns they are made from, with sqlglot.

`python -m tests.support.column_tracer > sql/column_lineage.csv` writes what assets show: sqlglot
takes a second, which a run has no time for. A test compares the file with the statements.
"""

import csv
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import duckdb
from sqlglot import exp, lineage, parse_one

from assets.metadata.columns import COLUMNS, MADE_BY_SQL
from persona_pipeline.sql import read_sql
from persona_pipeline.store.dictionary import RECORDS
from persona_pipeline.store.store import Store

Column = tuple[str, str]
"""The table with its schema, and the column."""
VIEWS = (
    "select schema_name || '.' || view_name, sql from duckdb_views() "
    "where database_name = current_database() and not internal"
)


class Tracer:
    """Trace columns to those of assets, through views that are no assets.

    What comes from records of all domains ends at the view over their tables.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._schema: dict[str, dict[str, dict[str, str]]] = {}
        for schema, table, column, kind, _ in connection.sql(COLUMNS).fetchall():
            self._schema.setdefault(schema, {}).setdefault(table, {})[column] = kind
        ends = {*(name.replace("/", ".") for name in MADE_BY_SQL), RECORDS}
        views = connection.sql(VIEWS).fetchall()
        self._views = {name: sql for name, sql in views if name not in ends}
        self._traced: dict[str, Mapping[str, set[Column]]] = {}

    def trace(self, statement: str) -> Mapping[str, set[Column]]:
        """Return the sources of each column of a SELECT."""
        parsed = parse_one(statement, dialect="duckdb")
        query = parsed.expression if isinstance(parsed, exp.Create) else parsed
        nodes = lineage.lineage(None, query, self._schema, dialect="duckdb", trim_selects=False)
        return {
            name: {origin for leaf in _leaves(node) for origin in self._origins(leaf)}
            for name, node in nodes.items()
        }

    def _origins(self, leaf: Column) -> set[Column]:
        table, column = leaf
        if leaf == (RECORDS, "domain"):  # the name of the table itself
            return set()
        if table not in self._views:
            return {leaf}
        if table not in self._traced:
            self._traced[table] = self.trace(self._views[table])
        return self._traced[table][column]


def _leaves(node: lineage.Node) -> Iterator[Column]:
    """Yield the columns of tables and views at the ends of the graph, without table functions."""
    for step in node.walk():
        table = step.expression
        if isinstance(table, exp.Table) and table.name:
            yield f"{table.db}.{table.name}", step.name.rpartition(".")[2].strip('"')


def lineage_rows() -> list[Sequence[str]]:
    """Return the rows of sql/column_lineage.csv: one for each source of each column, and one
    without a source for a column that counts rows or is a constant."""
    rows: list[Sequence[str]] = []
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder, "a.duckdb"), Path(folder, "b.duckdb"))
        store.migrate()
        with store.connect(read_only=True) as connection:
            tracer = Tracer(connection)
            for name in MADE_BY_SQL:
                for column, sources in tracer.trace(read_sql(name)).items():
                    origins = sorted(sources) or [("", "")]
                    rows += [(name.replace("/", "."), column, *source) for source in origins]
    return rows


if __name__ == "__main__":
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["table_name", "column_name", "source_table", "source_column"])
    writer.writerows(lineage_rows())
