"""A database with all tables and views, and rows written out by hand."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import duckdb
import polars as pl
import pytest

from persona_pipeline.store.store import Store

MOMENT = datetime(2026, 1, 1, 12, tzinfo=UTC)
RECORDS = (
    "record_id", "persona_id", "variant", "prompting", "text", "call_key", "shard", "run_id"
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Tables:
    """Puts rows into tables, and reads views."""

    connection: duckdb.DuckDBPyConnection

    def add(self, table: str, *rows: dict[str, Any], **common: object) -> None:
        """Insert rows by name; `common` holds for all of them."""
        complete = [{"shard": "s1", "created_at": MOMENT, **common, **row} for row in rows]
        self.connection.register("rows", pl.DataFrame(complete, infer_schema_length=None))
        self.connection.execute(f"insert into {table} by name from rows")
        self.connection.unregister("rows")

    def rows(self, sql: str, **parameters: object) -> list[tuple[Any, ...]]:
        """The rows of a SELECT."""
        return self.connection.sql(sql, params=parameters).fetchall()

    def table(self, sql: str, columns: Sequence[str], **parameters: object) -> list[dict[str, Any]]:
        """Some columns of the rows of a SELECT."""
        return self.connection.sql(sql, params=parameters).pl().select(columns).to_dicts()


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[duckdb.DuckDBPyConnection]:
    """All tables, those of the domains `riddle` and `poem` too, without a row."""
    folder = tmp_path_factory.mktemp("sql")
    store = Store(folder / "pipeline.duckdb", folder / "published.duckdb")
    store.migrate()
    columns = {**dict.fromkeys(RECORDS, "varchar"), "created_at": "timestamptz"}
    for domain in ("riddle", "poem"):
        store.add_table(f"synthetic.{domain}", columns)
    with store.connect() as connection:
        yield connection


@pytest.fixture
def tables(database: duckdb.DuckDBPyConnection) -> Iterator[Tables]:
    """The tables; what a test writes is rolled back."""
    database.begin()
    yield Tables(database)
    database.rollback()
