"""Test what the pages of tables say about their columns."""

import csv
from collections.abc import Iterator

import duckdb
import pytest

from assets.metadata.columns import MADE_BY_SQL, column_lineage, column_schema, describe_columns
from persona_pipeline.sql import read_file
from persona_pipeline.store.store import Store
from persona_pipeline.synthesis.domain import load_domains
from persona_pipeline.synthesis.tables import add_domain_table
from tests.support.column_tracer import lineage_rows

Columns = dict[str, set[str]]
ASSETS = [name.replace("/", ".") for name in MADE_BY_SQL if name != "marts/dictionary"]


@pytest.fixture(scope="module")
def connection(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[duckdb.DuckDBPyConnection]:
    """Make a database with all tables and no rows."""
    folder = tmp_path_factory.mktemp("columns")
    store = Store(folder / "pipeline.duckdb", folder / "published.duckdb")
    store.migrate()
    for domain in load_domains().values():
        add_domain_table(store, domain)
    with store.connect(read_only=True) as connection:
        yield connection


def lineage_of(connection: duckdb.DuckDBPyConnection, table: str) -> Columns:
    lineage = column_lineage(connection, table)
    assert lineage is not None
    return {
        column: {".".join((*dep.asset_key.path, dep.column_name)) for dep in deps}
        for column, deps in lineage.deps_by_column.items()
    }


def test_columns_have_their_types_and_descriptions(connection: duckdb.DuckDBPyConnection) -> None:
    schema = column_schema(connection, "personas.embeddings")
    assert [(column.name, column.type) for column in schema.columns] == [
        ("shard", "VARCHAR"),
        ("persona_id", "VARCHAR"),
        ("model", "VARCHAR"),
        ("embedding", "FLOAT[]"),
        ("run_id", "VARCHAR"),
        ("created_at", "TIMESTAMP"),
    ]
    assert all(column.description for column in schema.columns)


@pytest.mark.parametrize("table", ASSETS)
def test_every_column_is_traced_to_columns_that_are_there(
    connection: duckdb.DuckDBPyConnection, table: str
) -> None:
    rows = connection.sql(
        "select schema_name, table_name, column_name from duckdb_columns() where not internal"
    ).fetchall()
    lineage = lineage_of(connection, table)
    own = {column for *names, column in rows if ".".join(names) == table}
    by_the_store = {"run_id", "created_at"}
    assert own - by_the_store <= set(lineage) <= own
    assert set().union(*lineage.values()) <= {".".join(row) for row in rows}
    assert sum(map(bool, lineage.values())) >= len(lineage) - 2


def test_a_persona_of_the_hub_is_traced_to_the_root_of_its_chain(
    connection: duckdb.DuckDBPyConnection,
) -> None:
    lineage = lineage_of(connection, "personas.hub")
    assert lineage["persona"] == {"personas.candidates.persona"}
    assert lineage["root_id"] == {"personas.extracted.persona_id", "personas.related.root_id"}
    assert lineage["root_document_id"] == {"personas.extracted.document_id"}


def test_a_record_is_traced_through_the_views_of_all_domains_to_its_page(
    connection: duckdb.DuckDBPyConnection,
) -> None:
    lineage = lineage_of(connection, "marts.lineage")
    assert lineage["text"] == {f"synthetic.{domain}.text" for domain in load_domains()}
    assert lineage["url"] == {"corpus.documents.url"}
    assert lineage["persona_path"] == {"personas.extracted.persona", "personas.related.persona"}
    assert lineage_of(connection, "marts.samples")["text"] == {"marts.lineage.text"}


def test_the_funnel_is_traced_to_counts_and_reasons(
    connection: duckdb.DuckDBPyConnection,
) -> None:
    lineage = lineage_of(connection, "marts.funnel")
    assert lineage["rows_in"] == {"runs.stages.rows_in"}
    assert lineage["rows_kept"] == set(), "it counts rows"
    assert lineage["rows_failed"] == {
        f"{schema}.rejected.reason" for schema in ("corpus", "personas", "synthetic")
    }


def test_a_table_that_no_sql_file_makes_has_no_lineage(
    connection: duckdb.DuckDBPyConnection,
) -> None:
    assert column_lineage(connection, "llm.calls") is None
    assert set(describe_columns(connection, "llm.calls")) == {"dagster/column_schema"}


def test_the_file_of_sources_is_what_the_statements_say() -> None:
    """After a change of a view: python -m tests.support.column_tracer > sql/column_lineage.csv."""
    written = csv.reader(read_file("column_lineage.csv").splitlines())
    assert [*written][1:] == [[*row] for row in lineage_rows()]
