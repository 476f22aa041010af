"""The DuckDB file: short transactions that replace one shard's rows, and a snapshot for readers.

DuckDB lets one process write and shuts out all others meanwhile, so no slow work happens while a
connection is open: read, close, compute, then one short transaction.
"""

import logging
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import polars as pl

from persona_pipeline.errors import StoreError, plain_interrupts
from persona_pipeline.hashing import stable_id
from persona_pipeline.llm.calls import Answer
from persona_pipeline.sql import fetch, read_sql
from persona_pipeline.store.calls import add_journals
from persona_pipeline.store.database_file import DatabaseFile, HeldError
from persona_pipeline.store.dictionary import Descriptions, is_described
from persona_pipeline.store.migrations import apply_migrations, columns_of, is_current
from persona_pipeline.store.snapshot import copy_file, is_published, write_ahead_log
from persona_pipeline.store.stage_rows import StageRows, replace_stage
from persona_pipeline.store.views import add_to_views

LOG = logging.getLogger(__name__)

FIRST_DELAY, LONGEST_DELAY = 0.02, 0.25
"""Seconds between two tries for the lock, doubled from the first to the longest, jittered. A try
costs a millisecond."""
TELL_AFTER = 5.0
"""Seconds of waiting after which the log says who holds the file."""
SETTLING = 5
"""Tries to take in a log: another process may be killed in between."""
PUBLISHING_SHARE = 0.1
"""Most of its time that a process spends on publishing while it commits."""
Parameters = Mapping[str, Any]


class Store:
    """The database file at `path`, published to `snapshot`.

    Published after a commit, unless that would take more than a tenth of the time; whoever has
    committed all it had to calls `publish()` then, so that nothing is left out.
    """

    def __init__(self, path: Path, snapshot: Path, *, lock_timeout: float = 120.0) -> None:
        """`lock_timeout`: seconds to wait for another process that holds the file."""
        self.path, self.snapshot = path, snapshot
        self.waited_s = 0.0
        """Seconds that this object has waited for other processes."""
        self._lock_timeout = lock_timeout
        self._file = DatabaseFile(path)
        self._publishing_s, self._published_at = 0.0, 0.0
        self._is_migrated = False
        self._added = set[str]()

    @contextmanager
    def connect(self, *, read_only: bool = False) -> Iterator[duckdb.DuckDBPyConnection]:
        """An open connection; waits for the lock, and always lets go of it."""
        with plain_interrupts(), ExitStack() as stack:
            yield self._open(stack, read_only=read_only)

    @contextmanager
    def transaction(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """All of it is committed, or none.

        Raises:
            StoreError: the database cannot be written to.
        """
        with self.connect() as connection:
            connection.begin()
            yield connection
            try:
                connection.commit()
            except duckdb.Error as error:
                msg = f"the database {self.path} cannot be written: {error}"
                raise StoreError(msg) from error
        if time.monotonic() - self._published_at > self._publishing_s / PUBLISHING_SHARE:
            try:
                self.publish()
            except StoreError as error:  # what was committed is safe; the run's end tries again
                LOG.warning("%s", error)

    def publish(self) -> None:
        """Make the snapshot what is committed; nothing is done where it is that already.

        No process can write meanwhile: 0.5 s per GB, or nothing where the file system shares
        blocks. DuckDB's `copy from database` takes 3.6 s per million personas.

        Raises:
            StoreError: it cannot be written, or another process holds the database.
        """
        if self.is_published():
            return
        start = time.monotonic()
        with self._settled():
            copy_file(self.path, self.snapshot)
        self._published_at = time.monotonic()
        self._publishing_s = self._published_at - start

    def is_published(self) -> bool:
        """Whether the snapshot is what was last committed."""
        return is_published(self.path, self.snapshot)

    def is_current(self) -> bool:
        """Whether the file is there, with the tables and views that this program knows."""
        if not self.path.is_file():
            return False
        with self.connect(read_only=True) as connection:
            return is_current(connection)

    def migrate(self) -> None:
        """Create the file, or bring an older one's tables and views up to date.

        Raises:
            StoreError: the file was written by a newer program.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self._is_migrated and self.path.is_file():
            return
        if not self.is_current():
            self._upgrade()
        self._is_migrated = True

    def _upgrade(self) -> None:
        with self.transaction() as connection:
            apply_migrations(connection, self.path)

    def query(
        self,
        sql: str,
        parameters: Parameters | None = None,
        *,
        frames: Mapping[str, pl.DataFrame] | None = None,
    ) -> pl.DataFrame:
        """The result of one SELECT on the database, which may read `frames` by their names."""
        with self.connect(read_only=True) as connection:
            for name, frame in (frames or {}).items():
                connection.register(name, frame)
            return fetch(connection, sql, parameters)

    def add_table(
        self, name: str, columns: Mapping[str, str], descriptions: Descriptions | None = None
    ) -> None:
        """Create the table, or add what it lacks: a domain's table follows its file."""
        wanted = {name: descriptions or {}}
        declared = stable_id(name, dict(columns), dict(descriptions or {}))
        if declared in self._added:
            return
        with self.connect(read_only=True) as connection:
            existing = columns_of(connection, name)
            has_descriptions = is_described(connection, wanted)
        for column, kind in columns.items():
            if existing.get(column, kind) != kind:
                msg = (
                    f"column {column!r} of {name} in {self.path} is a {existing[column]}, and is "
                    f"now declared as {kind}: give the field another name, or drop the table"
                )
                raise StoreError(msg)
        if not (set(columns) <= set(existing) and has_descriptions):
            self._declare(name, columns, wanted)
        self._added.add(declared)

    def _declare(
        self, name: str, columns: Mapping[str, str], wanted: Mapping[str, Descriptions]
    ) -> None:
        with self.transaction() as connection:
            listing = ", ".join(f'"{column}" {kind}' for column, kind in columns.items())
            connection.execute(f"create table if not exists {name} ({listing})")
            for column, kind in columns.items():
                connection.execute(f'alter table {name} add column if not exists "{column}" {kind}')
            add_to_views(connection, wanted)

    def replace(
        self,
        rows: Sequence[StageRows],
        journals: Sequence[Path],
        *,
        run_id: str,
        read_at: datetime | None = None,
    ) -> None:
        """Swap the rows of these stages and shards, and add the journals' calls, all or nothing.

        `read_at`: when the stages began to read, in UTC; what was written after that, they may not
        have seen.
        """
        with self.transaction() as connection:
            for stage in rows:
                replace_stage(connection, stage, run_id, read_at)
            add_journals(connection, journals, run_id)

    def answers(self, keys: list[str]) -> dict[str, Answer]:
        """The stored answers with these keys; calls that failed are none."""
        query = read_sql("llm/answers_by_key")
        with self.connect(read_only=True) as connection:
            matches = connection.execute(query, {"keys": ",".join(keys)}).fetchall()
        return {row[0]: Answer(*row) for row in matches}

    def version(self) -> object:
        """Changes with every commit of any process; None: there is no database."""
        try:
            written = self.path.stat()
        except FileNotFoundError:
            return None
        return written.st_ino, written.st_mtime_ns, written.st_size

    @contextmanager
    def _settled(self) -> Iterator[None]:
        """Nobody writes meanwhile, and all that is committed is in the file itself."""
        for _ in range(SETTLING):
            if self._write_ahead_log.exists():  # its writer was killed: this takes it in
                with self.connect():
                    pass
            with self.connect(read_only=True):
                if not self._write_ahead_log.exists():
                    yield
                    return
        msg = f"{self._write_ahead_log} cannot be taken into {self.path}: is there room for it?"
        raise StoreError(msg)

    @property
    def _write_ahead_log(self) -> Path:
        """Where DuckDB keeps what is committed until the database is closed."""
        return write_ahead_log(self.path)

    def _open(self, stack: ExitStack, *, read_only: bool) -> duckdb.DuckDBPyConnection:
        """A connection that `stack` closes."""
        start, delay, has_told = time.monotonic(), FIRST_DELAY, False
        while True:
            left = max(0.0, start + self._lock_timeout - time.monotonic())
            opened = self._file.opened(read_only=read_only, wait_s=min(left, TELL_AFTER))
            try:
                return stack.enter_context(opened)
            except duckdb.IOException as error:
                msg = f"the database {self.path} cannot be opened: {error}"
                raise StoreError(msg) from error
            except HeldError as holder:
                waited = time.monotonic() - start
                if waited > self._lock_timeout:
                    raise StoreError(_locked(self.path, holder)) from holder
                if waited > TELL_AFTER and not has_told:
                    LOG.warning("waiting for %s, which %s holds", self.path, holder)
                    has_told = True
            pause = random.uniform(delay / 2, delay)  # noqa: S311 - not secret
            time.sleep(pause)
            self.waited_s += pause
            delay = min(delay * 2, LONGEST_DELAY)


def _locked(path: Path, holder: HeldError) -> str:
    return (
        f"{path} is held by {holder}: close that shell or wait for that run. To read while "
        "runs are going on, open the published snapshot instead"
    )
