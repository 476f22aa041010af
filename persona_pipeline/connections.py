"""How DuckDB databases are opened: in one place, for what every connection needs."""

import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from threading import Lock
from typing import Any, ClassVar

import duckdb

IN_MEMORY = ":memory:"
UNLIMITED_RESULTS = "set streaming_buffer_size = '1TB'"
OTHER_THREAD = "another thread of this process"
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
    connection.execute(UNLIMITED_RESULTS)
    return connection


class HeldError(Exception):
    """The file is open elsewhere; the text says who holds it."""


class DatabaseFile:
    """A file that is opened again and again, and held by this process only while it is open.

    An empty DuckDB stays and attaches the file each time: 4 ms instead of 13 for a new one, and a
    run opens its database some 120 times. One thread at a time has the file: were it opened twice,
    closing one of the two would let go of the lock of both, as POSIX has it. A commit is written
    into the file at once, not to the log beside it first: closing would do it anyway.
    """

    ALIAS = "pipeline"
    _locks: ClassVar[defaultdict[Path, Lock]] = defaultdict(Lock)

    def __init__(self, path: Path) -> None:
        """Nothing is opened yet."""
        self._path = path
        self._lock = self._locks[path.resolve()]
        self._attaching: duckdb.DuckDBPyConnection | None = None

    def open(self, *, read_only: bool) -> duckdb.DuckDBPyConnection:
        """A connection to the file, to be given to `close` or `abandon`.

        Raises:
            HeldError: another process or thread has it.
            duckdb.IOException: it cannot be opened.
        """
        if not self._lock.acquire(blocking=False):
            raise HeldError(OTHER_THREAD)
        try:
            return self._attach(read_only=read_only)
        except duckdb.IOException as error:  # nothing is attached
            self._lock.release()
            if "Conflicting lock" in str(error):
                raise HeldError(_holder(error)) from error
            raise
        except BaseException:
            self._forget()
            raise

    def _attach(self, *, read_only: bool) -> duckdb.DuckDBPyConnection:
        if self._attaching is None:
            settings = {"temp_directory": f"{self._path}.tmp", "checkpoint_threshold": "1KB"}
            self._attaching = open_duckdb(config=settings)
        connection = self._attaching.cursor()
        quoted = str(self._path).replace("'", "''")
        access = "read_only, " if read_only else ""
        connection.execute(UNLIMITED_RESULTS)
        connection.execute(f"attach '{quoted}' as {self.ALIAS} ({access}type duckdb)")
        connection.execute(f"use {self.ALIAS}")
        return connection

    def close(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Let go of the file; what was committed is in it."""
        try:
            connection.execute("use memory")
            connection.execute(f"detach {self.ALIAS}")
            connection.close()
        except BaseException:
            self.abandon(connection)
            raise
        self._lock.release()

    def abandon(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Let go of the file after an error, whatever is left running."""
        connection.interrupt()  # closing waits for a query that a signal has left running
        connection.close()
        self._forget()

    def _forget(self) -> None:
        """The next one to open begins anew: what an error leaves of a DuckDB is not known."""
        if self._attaching is not None:
            self._attaching.close()
        self._attaching = None
        self._lock.release()


def _holder(error: duckdb.IOException) -> str:
    found = re.search(r"PID (\d+)", str(error))
    return f"process {found[1]}" if found else "another process"


def is_database(path: Path) -> bool:
    """Whether the file begins as DuckDB's do; not opened by DuckDB, which may find it locked."""
    try:
        with path.open("rb") as file:
            return file.read(MAGIC_END)[-len(MAGIC) :] == MAGIC
    except FileNotFoundError:
        return False
