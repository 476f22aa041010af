"""How DuckDB databases are opened: in one place, for what every connection needs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import duckdb

IN_MEMORY = ":memory:"


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
