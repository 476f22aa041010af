"""Open the in-memory database in which one deduplication runs: nothing of it outlives the call."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from tempfile import TemporaryDirectory

import duckdb
import polars as pl

from persona_pipeline.dedup.resources import LEAST_MEMORY
from persona_pipeline.sql import fetch, open_duckdb, read_sql


class Scratch:
    """Tables that are named after their queries in `sql/dedup`, and frames loaded beside them."""

    def __init__(self, conn: duckdb.DuckDBPyConnection) -> None:
        """Work on `conn`, which the caller closes."""
        self._conn = conn

    def run(self, statement: str) -> None:
        """Execute a statement that has no result."""
        self._conn.execute(statement)

    def create(
        self,
        table: str,
        params: Mapping[str, float | str] | None = None,
        *,
        query: str | None = None,
    ) -> None:
        """Fill `table` from `sql/dedup/<query or table>.sql`, which may read its former rows."""
        statement = read_sql(f"dedup/{query or table}")
        self._conn.execute(f"create or replace table {table} as {statement}", dict(params or {}))

    def load(self, table: str, frame: pl.DataFrame) -> None:
        """Fill `table` from a Polars frame."""
        self._conn.register("_frame", frame)
        self._conn.execute(f"create or replace table {table} as select * from _frame")
        self._conn.unregister("_frame")

    def fetch(self, name: str, params: Mapping[str, float | str] | None = None) -> pl.DataFrame:
        """Return the rows of `sql/<name>.sql`."""
        return fetch(self._conn, read_sql(name), params)

    def is_empty(self, table: str) -> bool:
        """Return whether `table` has no rows."""
        return not self._conn.execute(f"select 1 from {table} limit 1").fetchall()


@contextmanager
def open_scratch(*, memory_limit: int, threads: int) -> Iterator[Scratch]:
    """Open an empty database; beyond `memory_limit` bytes it spills to a temporary folder."""
    with TemporaryDirectory(prefix="dedup-") as folder:
        config: dict[str, str | bool | int | float | list[str]] = {
            "memory_limit": f"{max(memory_limit, LEAST_MEMORY) // 1_000_000}MB",
            "threads": threads,
            "temp_directory": folder,
            "preserve_insertion_order": False,
            "python_enable_replacements": False,
        }
        with open_duckdb(config=config) as conn:
            yield Scratch(conn)
