"""Open a DuckDB file again and again, and hold it only while it is needed."""

import logging
import re
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import ClassVar
from weakref import WeakSet, WeakValueDictionary, ref

import duckdb

from persona_pipeline.locks import is_held, shared_lock
from persona_pipeline.sql import UNLIMITED_RESULTS, open_duckdb

LOG = logging.getLogger(__name__)
OWN = "another connection of this process"
"""Holder that is named when no other process has the file."""
MAGIC, MAGIC_END = b"DUCK", 12
"""First bytes of a DuckDB file, after a checksum of eight bytes, and where they end."""
ALIAS = "pipeline"
"""Name of the attached database."""
DIRECT_FROM = "1MB"
"""Size from which on a commit is written into the file at once instead of its log.

That saves 0.1 CPU-seconds per 100,000 rows.
"""
ROW_GROUP = 12_288
"""Rows of a row group, a multiple of 2,048; DuckDB's default is ten times as many. Appending to
one reads and writes it whole. 60 commits of 3,000 calls with prompts of 4 KB take 8.3 CPU-seconds
and 0.2 GB instead of 14.5 and 1.2; a million personas take 101 MB instead of 77."""
LARGE = 256 << 20
"""Bytes of a file from which on its statements use all cores. Those of a smaller one take a few
milliseconds, a third of it for waking threads: a run of 2,000 documents takes 18 CPU-seconds with
one thread, 20 with two."""
IDLE_S, LOOK_EVERY_S = 1.0, 0.05
"""Seconds after which a kept file that nobody uses is released, and between two looks at it.

Another process of ours says that it waits. A program that is not ours cannot, and gets the file
while a stage waits for models.
"""


class HeldError(Exception):
    """The file is open elsewhere. The text names who holds it."""


class _Keeper:
    """A block that wants the file to stay attached. It counts as long as it is referenced."""


class _Attachment:
    """A file as this process has it: attached to an empty DuckDB, or not.

    Only one thread at a time has the file: if it were opened twice, closing one of the two would
    release the POSIX locks of both. The lock knows its thread. So it is released in any case: a
    signal may come between acquiring it and the next statement, and a plain lock would then stay
    locked for good.
    """

    def __init__(self, path: Path) -> None:
        self.lock = threading.RLock()
        self.is_taken = False
        self._path = path
        self._wanted = path.with_name(f"{path.name}.wanted")
        self._settings = {
            "temp_directory": f"{path}.tmp",
            "checkpoint_threshold": DIRECT_FROM,
        }
        self._empty: duckdb.DuckDBPyConnection | None = None
        self._connection: duckdb.DuckDBPyConnection | None = None
        self._is_read_only: bool | None = None  # None: it is not attached
        self._used_at = 0.0
        self._keepers = WeakSet[_Keeper]()

    def connection(self, *, read_only: bool) -> duckdb.DuckDBPyConnection:
        """Return a connection to the file, attached if it is not.

        A reader has a transaction that cannot write, whichever way the file is attached.
        """
        if self._is_read_only and not read_only:
            self.detach()
        if self._empty is None:
            self._empty = open_duckdb(config=self._settings)
        self._connection = connection = self._empty.cursor()
        connection.execute(UNLIMITED_RESULTS)
        if self._is_read_only is None:
            self._attach(connection, read_only=read_only)
        connection.execute(f"use {ALIAS}")
        if read_only:
            connection.execute("begin transaction read only")
        return connection

    def leave(self) -> None:
        """End the use of the connection, and release the file unless it is kept."""
        if self._connection is None:
            return
        with suppress(duckdb.TransactionException):  # mostly there is none
            self._connection.rollback()
        self._connection.close()
        self._connection = None
        self._used_at = time.monotonic()
        if not self._keepers or self._is_wanted():
            self.detach()

    def detach(self) -> None:
        """Release the file. Commits are in it, or in its log if the disk is full."""
        if self._empty is None or self._is_read_only is None:
            return
        try:
            self._empty.execute(f"detach {ALIAS}")
        except duckdb.IOException as error:
            LOG.warning("what was committed stays in the log of %s: %s", self._path, error)
            self.abandon()
        self._is_read_only = None

    def abandon(self) -> None:
        """Close everything after an error, as its state is unknown then."""
        if self._connection is None and self._is_read_only is None:
            return  # it was never attached: the empty DuckDB can be used again
        try:
            self._end()
        except BaseException:  # a signal: it goes on when all has ended
            self._end()
            raise

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Keep the file attached between two uses while the block runs."""
        keeper, has_ended = _Keeper(), threading.Event()
        watcher = threading.Thread(target=self._watch, args=[ref(keeper), has_ended], daemon=True)
        try:
            self._keepers.add(keeper)
            watcher.start()
            yield
        finally:
            self._keepers.discard(keeper)
            has_ended.set()
            if not self._keepers:
                self.release()

    def release(self) -> None:
        """Release the file, unless it is in use."""
        with self.lock:
            if not self.is_taken:
                try:
                    self.detach()
                except BaseException:
                    self.abandon()
                    raise

    def wanted(self) -> AbstractContextManager[None]:
        """Tell the process that keeps the file that this one waits for it."""
        return shared_lock(self._wanted)

    def _watch(self, keeper: "ref[_Keeper]", has_ended: threading.Event) -> None:
        """Release the file when nobody uses it for a while, or another process waits for it.

        A signal may end the block of a keeper at any statement. So it is released then, too.
        """
        while not has_ended.wait(LOOK_EVERY_S) and keeper():
            is_idle = time.monotonic() - self._used_at > IDLE_S
            if (is_idle or self._is_wanted()) and self.lock.acquire(blocking=False):
                try:
                    self.release()
                finally:
                    self.lock.release()
        if not self._keepers:
            self.release()

    def _is_wanted(self) -> bool:
        try:
            return is_held(self._wanted, even_shared=True)
        except OSError:  # another user's file: who waits gets the file when nobody uses it
            return False

    def _attach(self, connection: duckdb.DuckDBPyConnection, *, read_only: bool) -> None:
        connection.execute(_set_threads(self._path))
        quoted = str(self._path).replace("'", "''")
        access = "read_only, " if read_only else ""
        try:
            connection.execute(
                f"attach '{quoted}' as {ALIAS} ({access}row_group_size {ROW_GROUP}, type duckdb)"
            )
        except (duckdb.IOException, duckdb.BinderException) as error:
            connection.close()
            self._connection = None
            if holder := _holder(str(error)):
                raise HeldError(holder) from error
            raise
        self._is_read_only = read_only

    def _end(self) -> None:
        """Interrupt, roll back and close: closing alone waits for queries and keeps the file."""
        for connection in (self._connection, self._empty):
            if connection is not None:
                with suppress(duckdb.Error):
                    connection.interrupt()
                    connection.rollback()
                connection.close()
        self._connection = self._empty = self._is_read_only = None


class DatabaseFile:
    """A database file that this process holds only while it uses it, or shortly after.

    An empty DuckDB stays open and attaches the file. That takes 7 ms, or 22 ms with a commit, and
    a small run opens its database some 120 times. So a run keeps the file attached between two
    uses (`kept`): a commit takes 1.4 ms then, since it is in the log until the file is released.
    """

    _attachments: ClassVar[WeakValueDictionary[str, _Attachment]] = WeakValueDictionary()

    def __init__(self, path: Path) -> None:
        """Remember the path. Nothing is opened yet."""
        self._attachment = self._attachments.setdefault(str(path.resolve()), _Attachment(path))

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
        file, is_mine, has_ended = self._attachment, False, False
        try:
            if not file.lock.acquire(timeout=wait_s) or file.is_taken:
                raise HeldError(OWN)
            # In this order: an interrupt between the two leaves nothing.
            is_mine = file.is_taken = True
            yield file.connection(read_only=read_only)
            file.leave()
            has_ended = True
        finally:
            try:
                if is_mine and not has_ended:
                    file.abandon()
            finally:
                file.is_taken &= not is_mine
                with suppress(RuntimeError):  # it was never acquired
                    file.lock.release()

    def kept(self) -> AbstractContextManager[None]:
        """Keep the file attached between two uses while the block runs.

        It is released when another process waits for it, or nobody uses it for a second.
        """
        return self._attachment.kept()

    def release(self) -> None:
        """Release a file that is kept, and so merge its log into it."""
        self._attachment.release()

    def wanted(self) -> AbstractContextManager[None]:
        """Have the process that keeps the file release it after its present use.

        Raises:
            OSError: nothing can be written beside the file.
        """
        return self._attachment.wanted()


def _set_threads(path: Path) -> str:
    """Return the statement that gives a file one thread, or as many as there are if it is large."""
    is_small = not path.exists() or path.stat().st_size < LARGE
    return "set threads = 1" if is_small else "reset threads"


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
