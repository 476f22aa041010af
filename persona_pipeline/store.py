"""The DuckDB file: short transactions that replace one shard's rows, and a snapshot for readers.

DuckDB lets one process write and shuts out all others meanwhile, so no slow work happens while a
connection is open: read, close, compute, then one short transaction.
"""

import logging
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import polars as pl

from persona_pipeline.connections import DatabaseFile, HeldError
from persona_pipeline.dictionary import Descriptions, is_described
from persona_pipeline.errors import StoreError
from persona_pipeline.hashing import stable_id
from persona_pipeline.llm.calls import Answer
from persona_pipeline.migrations import apply_migrations, columns_of, is_current
from persona_pipeline.settings import Settings
from persona_pipeline.snapshots import copy_file, is_copy
from persona_pipeline.sql_files import fetch, read_sql
from persona_pipeline.stage_names import stages_before
from persona_pipeline.stages import StageRows
from persona_pipeline.views import add_to_views

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

OUTDATED = "written-meanwhile"
"""Stands for an input that changed while a stage worked: no stage has this version."""
FUNNEL = {
    "input_count": pl.Int64,
    "rows_in": pl.Int64,
    "source": pl.String,
    "input_version": pl.String,
    "output_version": pl.String,
}

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
        return is_copy(self.path, self.snapshot) and not self._write_ahead_log.exists()

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
                _replace_stage(connection, stage, run_id, read_at)
            _add_journals(connection, journals, run_id)

    def answers(self, keys: list[str]) -> dict[str, Answer]:
        """The stored answers with these keys; calls that failed are none."""
        query = read_sql("llm/answers_by_key")
        with self.connect(read_only=True) as connection:
            found = connection.execute(query, {"keys": ",".join(keys)}).fetchall()
        return {row[0]: Answer(*row) for row in found}

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
        return self.path.with_name(f"{self.path.name}.wal")

    def _open(self, stack: ExitStack, *, read_only: bool) -> duckdb.DuckDBPyConnection:
        """A connection that `stack` closes."""
        start, delay, has_told = time.monotonic(), FIRST_DELAY, False
        while True:
            left = max(0.0, start + self._lock_timeout - time.monotonic())
            opened = self._file.opened(read_only=read_only, patience=min(left, TELL_AFTER))
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


def open_store(settings: Settings) -> Store:
    """The store of the data directory."""
    return Store(settings.database, settings.snapshot, lock_timeout=settings.lock_timeout)


def open_published(settings: Settings) -> Store:
    """The snapshot alone, to be read: no run holds it."""
    return Store(settings.snapshot, settings.snapshot)


@contextmanager
def plain_interrupts() -> Iterator[None]:
    """What a signal raised, where DuckDB makes an error of it: a RuntimeError caused by it."""
    try:
        yield
    except RuntimeError as error:
        interrupt = error.__cause__
        if interrupt is None or isinstance(interrupt, Exception):
            raise
        raise interrupt from None


def _replace_stage(
    connection: duckdb.DuckDBPyConnection, rows: StageRows, run_id: str, read_at: datetime | None
) -> None:
    for table, frame in rows.tables.items():
        column, value = rows.scope.get(table, (None, None))
        only = f" and {column} = $value" if column else ""
        parameters = {"shard": rows.shard} | ({"value": value} if column else {})
        connection.execute(f"delete from {table} where shard = $shard{only}", parameters)
        insert_rows(connection, table, frame, {"shard": rows.shard}, run_id)
    if rows.funnel:
        labels = {"shard": rows.shard, "stage": rows.stage}
        connection.execute(
            "delete from runs.stages where shard = $shard and stage = $stage", labels
        )
        versions = {
            "input_version": _input_version(connection, rows, read_at),
            "output_version": rows.version(),
        }
        counts = pl.DataFrame([{**asdict(rows.funnel), **versions}], schema=FUNNEL)
        insert_rows(connection, "runs.stages", counts, labels, run_id)


def _input_version(
    connection: duckdb.DuckDBPyConnection, rows: StageRows, read_at: datetime | None
) -> str | None:
    """What the stages before made of this shard, as stage=version; None: nothing is known."""
    parameters = {"shard": rows.shard, "stages": stages_before(rows.stage)}
    outputs = connection.execute(read_sql("store/outputs"), parameters).fetchall()
    if any(read_at and written > read_at for _, _, written in outputs):
        return OUTDATED
    known = [f"{stage}={version}" for stage, version, _ in outputs if version is not None]
    return " ".join(known) or None


def _add_journals(
    connection: duckdb.DuckDBPyConnection, journals: Sequence[Path], run_id: str
) -> None:
    """The calls of the files that were not committed before, as they are now."""
    if not journals:
        return
    sizes = pl.DataFrame(
        {
            "name": [path.name for path in journals],
            "bytes": [path.stat().st_size for path in journals],
        },
        schema={"name": pl.String, "bytes": pl.Int64},
    )
    known = connection.sql("select name, bytes from committed_journals").pl()
    new = sizes.join(known, on=["name", "bytes"], how="anti")
    files = [str(path) for path in journals if path.name in set(new["name"])]
    if files:
        query = f"create temp table bought as {read_sql('llm/journaled')}"
        connection.execute(query, {"files": files})
        add_calls(connection, run_id)
        insert_rows(connection, "committed_journals", new, {}, run_id)


def add_calls(connection: duckdb.DuckDBPyConnection, run_id: str) -> None:
    """Take the temporary table `bought` into llm.calls.

    A stored answer stays as it is: tables were made from it. An answer takes the place of a
    failure, and what the failed attempts had used is added to it.
    """
    connection.execute(f"create temp table calls_to_add as {read_sql('llm/calls_to_add')}")
    connection.execute(
        "delete from llm.calls where call_key in (select call_key from calls_to_add)"
    )
    connection.execute(
        "insert into llm.calls by name "
        "select *, $run_id as run_id, now() at time zone 'UTC' as created_at from calls_to_add",
        {"run_id": run_id},
    )
    connection.execute("drop table calls_to_add")
    connection.execute("drop table bought")


def insert_rows(
    connection: duckdb.DuckDBPyConnection,
    table: str,
    frame: pl.DataFrame,
    labels: Mapping[str, str],
    run_id: str,
) -> None:
    """Add the rows of the frame by the names of its columns, with labels, run and time."""
    constants = {**labels, "run_id": run_id}
    listing = ", ".join(f"${name} as {name}" for name in constants)
    connection.register("rows_to_insert", frame.drop(*constants, strict=False))
    connection.execute(
        f"insert into {table} by name "
        f"select *, {listing}, now() at time zone 'UTC' as created_at from rows_to_insert",
        constants,
    )
    connection.unregister("rows_to_insert")


def _locked(path: Path, holder: HeldError) -> str:
    return (
        f"{path} is held by {holder}: close that shell or wait for that run. To read while "
        "runs are going on, open the published snapshot instead"
    )
