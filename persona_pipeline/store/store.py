"""Read and write the DuckDB file in short transactions, and publish a snapshot for readers.

While one process writes, DuckDB lets no other process open the file. So no slow work happens while
a connection is open: read, close, compute, then write in one short transaction.
"""

import logging
import os
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime
from pathlib import Path
from threading import get_ident
from typing import Any, Final

import duckdb
import polars as pl

from persona_pipeline.errors import StoreError, plain_interrupts
from persona_pipeline.hashing import stable_id
from persona_pipeline.llm.calls import Answer
from persona_pipeline.sql import fetch
from persona_pipeline.store.calls import add_journals
from persona_pipeline.store.database_file import DatabaseFile, HeldError
from persona_pipeline.store.dictionary import Descriptions, is_described
from persona_pipeline.store.done_steps import Step, read_inputs
from persona_pipeline.store.migrations import apply_migrations, columns_of, is_current
from persona_pipeline.store.snapshot import is_published, new_copy, write_ahead_log
from persona_pipeline.store.stage_rows import StageRows, replace_stage
from persona_pipeline.store.views import declare_table

LOG = logging.getLogger(__name__)

FIRST_DELAY, LONGEST_DELAY = 0.02, 0.25
"""Seconds between two tries for the lock, doubled up to the longest, with jitter.

A try costs a millisecond.
"""
WARN_AFTER = 5.0
"""Seconds of waiting after which the log names who holds the file."""
SETTLING = 5
"""Tries to merge a write-ahead log, as another process may be killed in between."""
PUBLISHING_SHARE = 0.1
"""Largest share of its time that a process spends on publishing while it commits."""
LARGE = 256 << 20
"""Bytes of a file from which on a copy takes 0.1 s and more. It is published when a run ends, not
while the run commits, and nobody waits for the copy."""
TICK_S = 0.02
"""Seconds within which two changes of a file may leave the same time: the clocks of kernels tick
every 1 to 10 ms."""
LEAST_BETWEEN = 5.0
"""Seconds from one publishing to the next while a process commits. A small run commits 46 times,
and each publishing starts a process that copies the file."""
Parameters = Mapping[str, Any]
NOT_READING: tuple[int, duckdb.DuckDBPyConnection | None] = (0, None)
"""No thread, and no connection."""

ANSWERS_BY_KEY_SQL: Final = """
-- One row per stored answer whose key is wanted; failed calls are none.
-- reads: llm.calls   params: $keys (call keys with a comma between two: a list costs 90 ms to pass)
select call_key, model, status, response, error, finish_reason, params
from llm.calls
where call_key in (select unnest(string_split($keys, ','))) and status <> 'failed'
order by call_key
"""


class Store:
    """The database file at `path`, which is published to `snapshot`.

    A commit publishes it, unless the last one was within five seconds, publishing would take more
    than a tenth of the process's time, or the file is large. Whoever has made the last commit
    therefore calls `publish()`.
    """

    def __init__(self, path: Path, snapshot: Path, *, lock_timeout: float = 120.0) -> None:
        """Remember the paths; `lock_timeout` is the seconds to wait for another process."""
        self.path, self.snapshot = path, snapshot
        self.waited_s = 0.0
        """Seconds that this object has waited for other processes so far."""
        self._files = str(path), str(write_ahead_log(path))  # a path takes longer to look up
        self._lock_timeout = lock_timeout
        self._file = DatabaseFile(path)
        self._publishing_s, self._published_at = 0.0, 0.0
        self._is_migrated = False
        self._added = set[str]()
        self._reading = NOT_READING

    @contextmanager
    def connect(self, *, read_only: bool = False) -> Iterator[duckdb.DuckDBPyConnection]:
        """Yield an open connection; wait for the lock, and always release it.

        Raises:
            StoreError: another process holds the file for too long, or it cannot be opened.
        """
        thread, held = self._reading
        if held is not None and thread == get_ident():
            if not read_only:
                msg = f"nothing can be written to {self.path} while this thread reads it"
                raise StoreError(msg)
            yield held
            return
        with plain_interrupts(), ExitStack() as stack:
            yield self._open(stack, read_only=read_only)

    @contextmanager
    def kept_open(self) -> Iterator[None]:
        """Keep the file between two uses while the block runs, if no other process wants it.

        Opening it takes 7 ms and more. It is released when nobody uses it for a second, so a stage
        that waits for models holds up no other program.
        """
        with plain_interrupts(), self._file.kept():
            yield

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Let this thread read several times on one connection; opening one takes 7 ms and more.

        Nobody can write meanwhile, so no slow work may happen in the block.
        """
        before = self._reading
        with self.connect(read_only=True) as connection:
            self._reading = get_ident(), connection
            try:
                yield
            finally:
                self._reading = before

    @contextmanager
    def transaction(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Yield a connection whose changes are all committed at the end, or none.

        Raises:
            StoreError: the database cannot be written.
        """
        with self.connect() as connection:
            connection.begin()
            try:
                yield connection
            except duckdb.IOException as error:  # many rows are written before the commit
                raise StoreError(_unwritten(self.path, error)) from error
            try:
                connection.commit()
            except duckdb.Error as error:
                raise StoreError(_unwritten(self.path, error)) from error
        wait = max(LEAST_BETWEEN, self._publishing_s / PUBLISHING_SHARE)
        if time.monotonic() - self._published_at > wait and not self._is_large():
            try:
                self.publish()
            except StoreError as error:  # the commit is safe, and the end of the run tries again
                LOG.warning("%s", error)

    def publish(self) -> None:
        """Copy what is committed to the snapshot, unless the snapshot is up to date.

        That takes 0.5 s per GB, and no time if the file system shares blocks. DuckDB's `copy from
        database` takes 3.6 s per million personas. Other processes may write to a large file
        meanwhile. If one has, the copy is made again while nobody can.

        Raises:
            StoreError: the snapshot cannot be written, or another process holds the database.
        """
        if self.is_published():
            return
        start = time.monotonic()
        if not (self._is_large() and self._publish_beside_writers()):
            with self._settled(), new_copy(self.path, self.snapshot) as copy:
                copy.replace(self.snapshot)
        self._published_at = time.monotonic()
        self._publishing_s = self._published_at - start

    def is_published(self) -> bool:
        """Tell whether the snapshot has the last commit."""
        return is_published(self.path, self.snapshot)

    def is_current(self) -> bool:
        """Tell whether the file exists, with the tables and views that this program knows."""
        if not self.path.is_file():
            return False
        with self.connect(read_only=True) as connection:
            return is_current(connection)

    def migrate(self) -> None:
        """Create the file, or bring an older one's tables and views up to date.

        Raises:
            StoreError: a newer program wrote the file; or it is gone, and its snapshot is there,
                which a new database would replace.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self._is_migrated and self.path.is_file():
            return
        self.check_snapshot()
        if not self.is_current():
            with self.transaction() as connection:
                apply_migrations(connection, self.path)
        self._is_migrated = True

    def check_snapshot(self) -> None:
        """Check that there is no snapshot of a file that is gone: a new one would replace it.

        Raises:
            StoreError: there is one; the message says what to do.
        """
        if not self.path.exists() and self.snapshot.exists():
            msg = (
                f"{self.path} is not there, but its copy for readers is, {self.snapshot}: to go on"
                f" with that data, copy it to {self.path}; to begin anew, move it away"
            )
            raise StoreError(msg)

    def forget(self) -> None:
        """Forget what is known of the file, since another one is in its place."""
        self._is_migrated = False
        self._added.clear()

    def query(
        self,
        sql: str,
        parameters: Parameters | None = None,
        *,
        frames: Mapping[str, pl.DataFrame] | None = None,
    ) -> pl.DataFrame:
        """Return the result of one SELECT, which may also read `frames` by their names."""
        with self.connect(read_only=True) as connection:
            for name, frame in (frames or {}).items():
                connection.register(name, frame)
            return fetch(connection, sql, parameters)

    def add_table(
        self, name: str, columns: Mapping[str, str], descriptions: Descriptions | None = None
    ) -> None:
        """Create a domain's table, or add the columns and descriptions that it lacks.

        Args:
            name: schema and table, such as `synthetic.math`.
            columns: DuckDB type by column.
            descriptions: text by column; that of `ROW` says what one row is.

        Raises:
            StoreError: an existing column has another type.
        """
        wanted = {name: descriptions or {}}
        declared = stable_id(name, dict(columns), dict(descriptions or {}))
        if declared in self._added:
            return
        with self.connect(read_only=True) as connection:
            existing = columns_of(connection, name)
            has_descriptions = is_described(connection, wanted)
        for column, kind in columns.items():
            if (now := existing.get(column, kind)) != kind:
                msg = (
                    f"column {column!r} of {name} in {self.path} is a {now}, and is now "
                    f"declared as {kind}: give the field another name, or drop the table"
                )
                raise StoreError(msg)
        if not (set(columns) <= set(existing) and has_descriptions):
            with self.transaction() as connection:
                declare_table(connection, name, columns, wanted)
        self._added.add(declared)

    def replace(
        self,
        rows: Sequence[StageRows],
        journals: Sequence[Path],
        *,
        run_id: str,
        read_at: datetime | None = None,
        then: Callable[[duckdb.DuckDBPyConnection], None] | None = None,
    ) -> None:
        """Replace the rows of these stages and shards, and add the journals' calls, all or nothing.

        Args:
            rows: what each stage of each shard made.
            journals: journal files with the calls that the rows were made from.
            run_id: the Dagster run, for the column `run_id`.
            read_at: when the stages began to read, in UTC. Input that was written later than that
                counts as changed.
            then: what else is done in the transaction, after that.

        Raises:
            StoreError: the database cannot be written.
        """
        with self.transaction() as connection:
            for stage in rows:
                replace_stage(connection, stage, run_id, read_at)
            add_journals(connection, journals, run_id)
            if then:
                then(connection)

    def answers(self, keys: list[str]) -> dict[str, Answer]:
        """Return the stored answers by call key; failed calls are left out."""
        with self.connect(read_only=True) as connection:
            rows = connection.execute(ANSWERS_BY_KEY_SQL, {"keys": ",".join(keys)}).fetchall()
        return {row[0]: Answer(*row[:-2], finish_reason=row[-2], params=row[-1]) for row in rows}

    def inputs_of(self, step: Step, shards: Sequence[str]) -> dict[str, str]:
        """Spell what a step reads of the shards, and of each other one whose rows it may write."""
        with self.connect(read_only=True) as connection:
            return read_inputs(connection, step, shards)

    def version(self) -> object:
        """Return a value that changes with every commit of any process; None: no database."""
        database, log = map(_state_of, self._files)
        return database and (database, log)

    def _is_large(self) -> bool:
        state = _state_of(self._files[0])
        return state is not None and state[-1] >= LARGE

    def _publish_beside_writers(self) -> bool:
        """Copy the file while others may write. Publish the copy if the file stayed as it was.

        Returns whether it did. Nobody can write while that is looked at.
        """
        with self._settled():
            before = _state_of(self._files[0])
        time.sleep(TICK_S)
        with new_copy(self.path, self.snapshot) as copy, self._settled():
            if is_unchanged := _state_of(self._files[0]) == before:
                copy.replace(self.snapshot)
        return is_unchanged

    @contextmanager
    def _settled(self) -> Iterator[None]:
        """Keep others from writing, with every commit merged into the file itself."""
        with plain_interrupts():
            self._file.release()
        for _ in range(SETTLING):
            if self._write_ahead_log.exists():  # its writer was killed: opening merges it
                with self.connect():
                    pass
            with self.connect(read_only=True):
                if not self._write_ahead_log.exists():
                    yield
                    return
        msg = f"{self._write_ahead_log} cannot be merged into {self.path}: is the disk full?"
        raise StoreError(msg)

    @property
    def _write_ahead_log(self) -> Path:
        """File in which DuckDB keeps commits until the database is closed."""
        return write_ahead_log(self.path)

    def _open(self, stack: ExitStack, *, read_only: bool) -> duckdb.DuckDBPyConnection:
        """Open a connection that `stack` closes; wait for the lock."""
        start, delay = time.monotonic(), FIRST_DELAY
        has_warned = is_announced = False
        with ExitStack() as waiting:
            while True:
                left = max(0.0, start + self._lock_timeout - time.monotonic())
                opened = self._file.opened(read_only=read_only, wait_s=min(left, WARN_AFTER))
                try:
                    return stack.enter_context(opened)
                except duckdb.IOException as error:
                    msg = f"the database {self.path} cannot be opened: {error}"
                    raise StoreError(msg) from error
                except HeldError as holder:
                    waited = time.monotonic() - start
                    if waited > self._lock_timeout:
                        raise StoreError(_locked(self.path, holder)) from holder
                    if waited > WARN_AFTER and not has_warned:
                        LOG.warning("waiting for %s, which %s holds", self.path, holder)
                        has_warned = True
                if not is_announced:
                    with suppress(OSError):  # in a folder of another user it waits unannounced
                        waiting.enter_context(self._file.wanted())
                    is_announced = True
                pause = random.uniform(delay / 2, delay)  # noqa: S311 - not secret
                time.sleep(pause)
                self.waited_s += pause
                delay = min(delay * 2, LONGEST_DELAY)


def _state_of(path: str) -> tuple[int, int, int] | None:
    """Return what changes when a file is written; None: there is none."""
    try:
        written = os.stat(path)  # noqa: PTH116 - half the time of Path.stat, once for each call
    except FileNotFoundError:
        return None
    return written.st_ino, written.st_mtime_ns, written.st_size


def _unwritten(path: Path, error: duckdb.Error) -> str:
    """Say that the database was not changed, and whether it is its own file that failed."""
    is_of_another = isinstance(error, duckdb.IOException) and str(path) not in str(error)
    failed = "was not changed" if is_of_another else "cannot be written"
    return f"the database {path} {failed}: {error}"


def _locked(path: Path, holder: HeldError) -> str:
    return (
        f"{path} is held by {holder}: close that shell or wait for that run. To read while "
        "runs are going on, open the published snapshot instead"
    )
