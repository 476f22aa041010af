"""Read SQL files, run statements, and open DuckDB. Nothing else calls `duckdb.connect`."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb

if TYPE_CHECKING:  # 0.4 s that a query from the command line does not need
    import polars as pl

IN_MEMORY = ":memory:"
UNLIMITED_RESULTS = "set streaming_buffer_size = '1TB'"
"""Statement that lets DuckDB buffer whole results: see `open_duckdb`."""
_PACKAGE = Path(__file__).parent
_FOLDERS = (_PACKAGE / "sql", _PACKAGE.parent / "sql")
"""Where the SQL files are: in the installed package, or in the checkout."""


def read_sql(name: str) -> str:
    """Return the text of `sql/<name>.sql`, for example of `read_sql("dedup/words")`.

    Raises:
        FileNotFoundError: there is no such file.
    """
    return read_file(f"{name}.sql")


def read_file(name: str) -> str:
    """Return the text of `sql/<name>`, whatever its ending.

    Raises:
        FileNotFoundError: there is no such file.
    """
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
    """Return the rows of one SELECT.

    It uses `execute`, since a relation with parameters takes six times as long in DuckDB 1.5 (0.6
    instead of 0.1 CPU-seconds for 200,000 texts). DuckDB 2.0 has no `execute().pl()`.
    """
    return connection.execute(sql, dict(parameters or {})).pl()


def content_query(rows: str, by: str = "") -> str:
    """Return the SELECT of count and content hash of the rows of a SELECT, in any order.

    With `by`, it has one row per value of this column, which comes first.
    The hash is the sum of 64-bit hashes of whole rows. Their alias is no identifier, since DuckDB
    would take one for a column of that name.
    """
    first, last = (f"{by}, ", f" group by {by}") if by else ("", "")
    return f'select {first}count(*), sum(hash("(row)")::hugeint) from ({rows}) as "(row)"{last}'


def sql_names(folder: str) -> list[str]:
    """List the SQL files in `sql/<folder>/` by name, sorted; none if there is no such folder."""
    home = next((parent / folder for parent in _FOLDERS if (parent / folder).is_dir()), None)
    return sorted(f"{folder}/{path.stem}" for path in home.glob("*.sql")) if home else []


def open_duckdb(
    database: str | Path = IN_MEMORY,
    *,
    read_only: bool = False,
    config: Mapping[str, Any] | None = None,
) -> duckdb.DuckDBPyConnection:
    """Open a connection whose results may be buffered without a limit.

    DuckDB 1.5 returns results while it computes them, and pauses when a megabyte waits to be
    fetched. With one thread, a paused `union all` never goes on: a query over 137,000 rows hung
    and could not be interrupted. All results are fetched whole here, so such a buffer costs no
    memory.
    """
    connection = duckdb.connect(str(database), read_only=read_only, config=dict(config or {}))
    connection.execute(UNLIMITED_RESULTS)
    return connection


@contextmanager
def open_in_memory() -> Iterator[duckdb.DuckDBPyConnection]:
    """Yield a connection to a DuckDB in memory that this process keeps.

    What is registered on it is gone afterwards. Opening a DuckDB for each small query takes 10 ms.
    """
    connection = _kept().cursor()
    connection.execute(UNLIMITED_RESULTS)
    try:
        yield connection
    finally:
        connection.close()


@cache
def _kept() -> duckdb.DuckDBPyConnection:
    return open_duckdb()
