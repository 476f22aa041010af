"""The DuckDB file: short transactions that replace one shard's rows, and a snapshot for readers.

DuckDB lets one process write and shuts out all others meanwhile, so no slow work happens while a
connection is open: read, close, compute, then one short transaction.
"""

import os
import random
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import duckdb
import polars as pl

from persona_pipeline.connections import open_duckdb
from persona_pipeline.errors import StoreError
from persona_pipeline.hashing import stable_id
from persona_pipeline.llm.calls import Answer
from persona_pipeline.sql_files import fetch, read_sql, sql_names
from persona_pipeline.stages import StageRows

FIRST_DELAY, LONGEST_DELAY = 0.05, 1.0
"""Seconds between two tries for the lock, doubled from the first to the longest, jittered."""

Parameters = Mapping[str, Any]


class Store:
    """The database file at `path`, published to `snapshot` after each commit."""

    def __init__(self, path: Path, snapshot: Path, *, lock_timeout: float = 120.0) -> None:
        """`lock_timeout`: seconds to wait for another process that holds the file."""
        self.path, self.snapshot = path, snapshot
        self._lock_timeout = lock_timeout

    @contextmanager
    def connect(self, *, read_only: bool = False) -> Iterator[duckdb.DuckDBPyConnection]:
        """An open connection; waits for the lock, and always lets go of it."""
        connection = self._open(read_only=read_only)
        try:
            with plain_interrupts():
                yield connection
        except BaseException:
            connection.interrupt()  # closing waits for a query that a signal has left running
            raise
        finally:
            connection.close()

    @contextmanager
    def transaction(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """All of it is committed and published, or none."""
        with self.connect() as connection:
            connection.begin()
            try:
                yield connection
                connection.commit()
            except BaseException:
                connection.rollback()
                raise
            _publish(connection, self.snapshot)

    def migrate(self) -> None:
        """Create the file, or bring an older one's tables and views up to date.

        Raises:
            StoreError: the file was written by a newer program.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.path.is_file():
            with self.connect(read_only=True) as connection:
                if _is_current(connection):
                    return
        with self.transaction() as connection:
            _apply_migrations(connection, self.path)
            refresh_views(connection)
            connection.execute(
                "insert into schema_views values (?, now() at time zone 'UTC')", [_views_version()]
            )

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

    def add_table(self, name: str, columns: Mapping[str, str]) -> None:
        """Create the table, or add the columns it lacks: a domain's table follows its file."""
        with self.connect(read_only=True) as connection:
            existing = _columns(connection, name)
        for column, kind in columns.items():
            if existing.get(column, kind) != kind:
                msg = (
                    f"column {column!r} of {name} in {self.path} is a {existing[column]}, and is "
                    f"now declared as {kind}: give the field another name, or drop the table"
                )
                raise StoreError(msg)
        if set(columns) <= set(existing):
            return
        with self.transaction() as connection:
            listing = ", ".join(f'"{column}" {kind}' for column, kind in columns.items())
            connection.execute(f"create table if not exists {name} ({listing})")
            for column, kind in columns.items():
                connection.execute(f'alter table {name} add column if not exists "{column}" {kind}')
            refresh_views(connection)

    def replace(self, rows: Sequence[StageRows], journals: Sequence[Path], *, run_id: str) -> None:
        """Swap the rows of these stages and shards, and add the journals' calls, all or nothing."""
        with self.transaction() as connection:
            for stage in rows:
                _replace_stage(connection, stage, run_id)
            _add_journals(connection, journals, run_id)

    def answers(self, keys: list[str]) -> dict[str, Answer]:
        """The stored answers with these keys; calls that failed are none."""
        query = read_sql("llm/answers_by_key")
        with self.connect(read_only=True) as connection:
            found = connection.execute(query, {"keys": ",".join(keys)}).fetchall()
        return {row[0]: Answer(*row) for row in found}

    def version(self) -> object:
        """Changes with every commit of any process: each publishes another snapshot."""
        try:
            published = self.snapshot.stat()
        except FileNotFoundError:
            return None
        return published.st_ino, published.st_mtime_ns

    def _open(self, *, read_only: bool) -> duckdb.DuckDBPyConnection:
        deadline, delay = time.monotonic() + self._lock_timeout, FIRST_DELAY
        while True:
            try:
                with plain_interrupts():
                    return open_duckdb(self.path, read_only=read_only)
            except duckdb.IOException as error:
                if "Conflicting lock" not in str(error):
                    msg = f"the database {self.path} cannot be opened: {error}"
                    raise StoreError(msg) from error
                if time.monotonic() > deadline:
                    raise StoreError(_locked(self.path, error)) from error
                time.sleep(random.uniform(delay / 2, delay))  # noqa: S311 - not secret
                delay = min(delay * 2, LONGEST_DELAY)


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


def refresh_views(connection: duckdb.DuckDBPyConnection) -> None:
    """Make the views over all domain tables, then the marts that read them.

    `synthetic.accepted` has every record that passed its checks, `synthetic.records` those of them
    that no other record makes superfluous.
    """
    connection.execute(f"create or replace view synthetic.accepted as {_accepted(connection)}")
    connection.execute(f"create or replace view synthetic.records as {read_sql('store/records')}")
    for name in sql_names("marts"):
        view = name.replace("/", ".")
        connection.execute(f"create or replace view {view} as {read_sql(name)}")


def domain_tables(connection: duckdb.DuckDBPyConnection) -> list[str]:
    """The names of the domains that have a table."""
    rows = connection.sql(read_sql("store/domain_tables")).fetchall()
    return [name for (name,) in rows]


def _accepted(connection: duckdb.DuckDBPyConnection) -> str:
    columns = "shard, record_id, persona_id, variant, prompting, text, call_key, run_id, created_at"
    selects = [
        f"select '{name}' as domain, {columns} from synthetic.{name}"
        for name in domain_tables(connection)
    ]
    empty = ", ".join(f"null::varchar as {column}" for column in columns.split(", ")[:-1])
    nothing = f"select null::varchar as domain, {empty}, null::timestamp as created_at where false"
    return " union all ".join([*selects, nothing])


def _replace_stage(connection: duckdb.DuckDBPyConnection, rows: StageRows, run_id: str) -> None:
    for table, frame in rows.tables.items():
        column, value = rows.scope.get(table, (None, None))
        only = f" and {column} = $value" if column else ""
        parameters = {"shard": rows.shard} | ({"value": value} if column else {})
        connection.execute(f"delete from {table} where shard = $shard{only}", parameters)
        _insert(connection, table, frame, {"shard": rows.shard}, run_id)
    if rows.funnel:
        labels = {"shard": rows.shard, "stage": rows.stage}
        connection.execute(
            "delete from runs.stages where shard = $shard and stage = $stage", labels
        )
        _insert(connection, "runs.stages", pl.DataFrame([asdict(rows.funnel)]), labels, run_id)


def _add_journals(
    connection: duckdb.DuckDBPyConnection, journals: Sequence[Path], run_id: str
) -> None:
    """The calls of the files that were not committed before, as they are now."""
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
        _insert(connection, "committed_journals", new, {}, run_id)


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


def _insert(
    connection: duckdb.DuckDBPyConnection,
    table: str,
    frame: pl.DataFrame,
    labels: Mapping[str, str],
    run_id: str,
) -> None:
    columns = {name: pl.lit(value) for name, value in labels.items()}
    complete = frame.with_columns(run_id=pl.lit(run_id), **columns)
    connection.register("rows_to_insert", complete)
    connection.execute(
        f"insert into {table} by name "
        "select *, now() at time zone 'UTC' as created_at from rows_to_insert"
    )
    connection.unregister("rows_to_insert")


def _apply_migrations(connection: duckdb.DuckDBPyConnection, path: Path) -> None:
    for table, column in (
        ("schema_migrations", "version integer"),
        ("schema_views", "version varchar"),
    ):
        connection.execute(f"create table if not exists {table} ({column}, applied_at timestamp)")
    [(version,)] = connection.sql(
        "select coalesce(max(version), 0) from schema_migrations"
    ).fetchall()
    names = sql_names("migrations")
    if version > len(names):
        msg = (
            f"{path} has schema version {version}, this program knows {len(names)}: "
            "upgrade persona-pipeline, or choose another data_dir"
        )
        raise StoreError(msg)
    for number, name in enumerate(names[version:], start=version + 1):
        connection.execute(read_sql(name))
        connection.execute(
            "insert into schema_migrations values (?, now() at time zone 'UTC')", [number]
        )


def _is_current(connection: duckdb.DuckDBPyConnection) -> bool:
    if not _columns(connection, "main.schema_views"):
        return False
    [(version, views)] = connection.sql(read_sql("store/versions")).fetchall()
    return bool(version == len(sql_names("migrations")) and views == _views_version())


def _views_version() -> str:
    return stable_id([read_sql(name) for name in ("store/records", *sql_names("marts"))])


def _columns(connection: duckdb.DuckDBPyConnection, table: str) -> dict[str, str]:
    """Column names and types, in lower case."""
    schema, name = table.split(".")
    rows = connection.sql(
        read_sql("store/columns"), params={"schema": schema, "table": name}
    ).fetchall()
    return {column: kind.lower() for column, kind in rows}


def _publish(connection: duckdb.DuckDBPyConnection, snapshot: Path) -> None:
    """Copy the committed state beside the database (3.6 s per million rows, measured)."""
    copy = snapshot.with_name(f"{snapshot.name}.{os.getpid()}.tmp")
    copy.unlink(missing_ok=True)
    [(name,)] = connection.sql("select current_database()").fetchall()
    quoted = str(copy).replace("'", "''")
    connection.execute(f"attach '{quoted}' as snapshot")
    try:
        connection.execute(f'copy from database "{name}" to snapshot')
    finally:
        connection.execute("detach snapshot")
    copy.replace(snapshot)


def _locked(path: Path, error: duckdb.IOException) -> str:
    holder = re.search(r"PID (\d+)", str(error))
    who = f"process {holder[1]}" if holder else "another process"
    return (
        f"{path} is held by {who}: close that shell or wait for that run. To read while runs are "
        "going on, open the published snapshot instead"
    )
