"""Open a DuckDB file again and again, and hold it only while it is open."""

import logging
import re
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import RLock
from typing import ClassVar

import duckdb

from persona_pipeline.sql import UNLIMITED_RESULTS, open_duckdb

LOG = logging.getLogger(__name__)
OWN = "another connection of this process"
"""Holder that is named when no other process has the file."""
MAGIC, MAGIC_END = b"DUCK", 12
"""First bytes of a DuckDB file, after a checksum of eight bytes, and where they end."""


class HeldError(Exception):
    """The file is open elsewhere. The text names who holds it."""


class _Turn:
    """Who of this process has a file.

    The lock knows its thread. So it is released in any case: a signal may come between acquiring it
    and the next statement, and a plain lock would then stay locked for good.
    """

    def __init__(self) -> None:
        self.lock = RLock()
        self.is_taken = False


class DatabaseFile:
    """A database file that this process holds only while it is open.

    An empty DuckDB stays open and attaches the file each time. That takes 4 ms; a new DuckDB takes
    13 ms, and a run opens its database some 120 times. Only one thread at a time has the file: if
    it were opened twice, closing one of the two would release the POSIX locks of both. A commit is
    written into the file at once instead of its log, which saves 0.1 CPU-seconds per 100,000 rows.
    """

    ALIAS = "pipeline"
    """Name of the attached database."""
    _turns: ClassVar[defaultdict[str, _Turn]] = defaultdict(_Turn)

    def __init__(self, path: Path) -> None:
        """Remember the path. Nothing is opened yet."""
        self._path = path
        self._turn = self._turns[str(path.resolve())]
        self._empty: duckdb.DuckDBPyConnection | None = None
        self._connection: duckdb.DuckDBPyConnection | None = None

    @contextmanager
    def opened(self, *, read_only: bool, wait_s: float) -> Iterator[duckdb.DuckDBPyConnection]:
        """Yield a connection to the file, and roll back what is not committed when the block ends.

        A setting that the block changes for all connections, such as `threads`, stays changed.

        Args:
            read_only: open the file for reading.
            wait_s: seconds to wait for another thread of this process.

        Raises:
            HeldError: another process, thread or connection has the file.
            duckdb.IOException: the file cannot be opened.
        """
        is_mine = False
        try:
            if not self._turn.lock.acquire(timeout=wait_s) or self._turn.is_taken:
                raise HeldError(OWN)
            # In this order: an interrupt between the two leaves nothing.
            is_mine = self._turn.is_taken = True
            connection = self._attach(read_only=read_only)
            yield connection
            self._detach(connection)
        finally:
            try:
                if is_mine:
                    self._abandon()
            finally:
                self._turn.is_taken &= not is_mine
                with suppress(RuntimeError):  # it was never acquired
                    self._turn.lock.release()

    def _attach(self, *, read_only: bool) -> duckdb.DuckDBPyConnection:
        if self._empty is None:
            settings = {"temp_directory": f"{self._path}.tmp", "checkpoint_threshold": "1KB"}
            self._empty = open_duckdb(config=settings)
        self._connection = connection = self._empty.cursor()
        quoted = str(self._path).replace("'", "''")
        access = "read_only, " if read_only else ""
        connection.execute(UNLIMITED_RESULTS)
        try:
            connection.execute(f"attach '{quoted}' as {self.ALIAS} ({access}type duckdb)")
        except (duckdb.IOException, duckdb.BinderException) as error:
            self._connection = None  # nothing is attached: the empty DuckDB can be used again
            if holder := _holder(str(error)):
                raise HeldError(holder) from error
            raise
        connection.execute(f"use {self.ALIAS}")
        return connection

    def _detach(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Release the file. Commits are in it, or in its log if the disk is full."""
        with suppress(duckdb.TransactionException):  # mostly there is none
            connection.rollback()
        try:
            connection.execute("use memory")
            connection.execute(f"detach {self.ALIAS}")
        except duckdb.IOException as error:
            LOG.warning("what was committed stays in the log of %s: %s", self._path, error)
            return
        connection.close()
        self._connection = None

    def _abandon(self) -> None:
        """Close both connections after an error, as their state is unknown then."""
        if self._connection is None:
            return
        try:
            self._end()
        except BaseException:  # a signal: it goes on when all has ended
            self._end()
            raise

    def _end(self) -> None:
        """Interrupt, roll back and close: closing alone waits for queries and keeps the file."""
        for connection in (self._connection, self._empty):
            if connection is not None:
                with suppress(duckdb.Error):
                    connection.interrupt()
                    connection.rollback()
                connection.close()
        self._connection = self._empty = None


def _holder(error: str) -> str | None:
    """Return who has the file, by DuckDB's message; None: the message is about something else."""
    if "Unique file handle conflict" in error:
        return OWN
    if "Conflicting lock" not in error:
        return None
    pid = re.search(r"PID (\d+)", error)
    return f"process {pid[1]}" if pid else "another process"


def is_database(path: Path) -> bool:
    """Tell whether the file begins as a DuckDB file does, even while another process holds it."""
    try:
        with path.open("rb") as file:
            return file.read(MAGIC_END)[-len(MAGIC) :] == MAGIC
    except FileNotFoundError:
        return False
