"""Find and run SQL files, and open DuckDB: the only place that connects."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb

if TYPE_CHECKING:  # 0.4 s that a query from the command line does not need
    import polars as pl

_PACKAGE = Path(__file__).parent
_FOLDERS = (_PACKAGE / "sql", _PACKAGE.parent / "sql")


def read_sql(name: str) -> str:
    """The text of `sql/<name>.sql`, for example `read_sql("dedup/words")`."""
    return read_file(f"{name}.sql")


def read_file(name: str) -> str:
    """The text of `sql/<name>`, whatever its ending."""
    for folder in _FOLDERS:
        path = folder / name
        if path.is_file():
            return path.read_text(encoding="utf-8")
    places = " or ".join(str(folder) for folder in _FOLDERS)
    message = f"no SQL file {name.removesuffix('.sql')!r}: looked for {name} in {places}"
    raise FileNotFoundError(message)


def fetch(
    connection: duckdb.DuckDBPyConnection, sql: str, parameters: Mapping[str, Any] | None = None
) -> "pl.DataFrame":
    """The rows of one SELECT.

    By `execute`: a relation with parameters takes six times as long in DuckDB 1.5 (200,000 texts:
    0.6 CPU-seconds, not 0.1). DuckDB 2.0 has no `execute().pl()`: this is the place to change.
    """
    return connection.execute(sql, dict(parameters or {})).pl()


def sql_names(folder: str) -> list[str]:
    """The names of the SQL files in `sql/<folder>/`, sorted."""
    matches = next((parent / folder for parent in _FOLDERS if (parent / folder).is_dir()), None)
    return sorted(f"{folder}/{path.stem}" for path in matches.glob("*.sql")) if matches else []


IN_MEMORY = ":memory:"
UNLIMITED_RESULTS = "set streaming_buffer_size = '1TB'"


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
    connection.execute(UNLIMITED_RESULTS)
    return connection
