"""How DuckDB databases are opened: in one place, for what every connection needs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import duckdb

IN_MEMORY = ":memory:"
MAGIC, MAGIC_END = b"DUCK", 12
"""What stands in the first bytes of a DuckDB file, after a checksum of eight."""


def open_duckdb(
    database: str | Path = IN_MEMORY,
    *,
    read_only: bool = False,
    config: Mapping[str, Any] | None = None,
) -> duckdb.DuckDBPyConnection:
    """A connection whose results are never held back.

    DuckDB 1.5 hands out results while it computes them, and pauses when a megabyte waits to be
    fetched. With one thread, a `union all` that is paused does not go on: a query over 137,000 rows
    hung for good, and could not be interrupted. All results are fetched whole here, so a buffer
    without a limit costs no memory.
    """
    connection = duckdb.connect(str(database), read_only=read_only, config=dict(config or {}))
    connection.execute("set streaming_buffer_size = '1TB'")
    return connection


def is_database(path: Path) -> bool:
    """Whether the file begins as DuckDB's do; not opened by DuckDB, which may find it locked."""
    try:
        with path.open("rb") as file:
            return file.read(MAGIC_END)[-len(MAGIC) :] == MAGIC
    except FileNotFoundError:
        return False
