"""Bought answers as a file, so that a colleague or CI replays a run for free."""

from pathlib import Path

import duckdb

from persona_pipeline.errors import StoreError
from persona_pipeline.llm.calls import FIELDS
from persona_pipeline.sql import read_sql
from persona_pipeline.store.calls import add_calls
from persona_pipeline.store.store import Store

READERS = {".parquet": "read_parquet", ".jsonl": "read_ndjson"}
FORMATS = {".parquet": "parquet", ".jsonl": "json"}


def export_calls(store: Store, path: Path) -> int:
    """Write every bought answer, one row each, in the order of the keys; returns how many.

    Raises:
        StoreError: the file's name has another ending, or it cannot be written.
    """
    form = FORMATS[_ending(path)]
    query = read_sql("llm/bought_answers")
    with store.connect(read_only=True) as connection:
        try:
            connection.execute(f"copy ({query}) to {_quoted(path)} (format {form})")
        except duckdb.IOException as error:
            msg = f"{path} cannot be written: {error}"
            raise StoreError(msg) from error
        [(count,)] = connection.sql(f"select count(*) from ({query})").fetchall()
    return int(count)


def import_calls(store: Store, path: Path) -> tuple[int, int]:
    """Take in the answers of a file; returns how many it holds, and how many were new.

    Raises:
        StoreError: it is no export of calls.
    """
    columns = ", ".join(FIELDS)
    source = f"{READERS[_ending(path)]}({_quoted(path)})"
    with store.transaction() as connection:
        try:
            connection.execute(
                f"create temp table bought as from ({read_sql('llm/bought_answers')}) limit 0"
            )
            connection.execute(
                f"insert into bought by name select {columns} from {source} "
                "where call_key is not null and status in ('ok', 'invalid') "
                "qualify row_number() over (partition by call_key order by status <> 'ok') = 1"
            )
        except duckdb.Error as error:
            msg = f"{path} is no export of calls: {error}"
            raise StoreError(msg) from error
        [(count,)] = connection.sql("select count(*) from bought").fetchall()
        connection.execute(
            "delete from bought where call_key in "
            "(select call_key from llm.calls where status <> 'failed')"
        )
        [(new,)] = connection.sql("select count(*) from bought").fetchall()
        add_calls(connection, run_id="import")
    return int(count), int(new)


def _ending(path: Path) -> str:
    if path.suffix not in FORMATS:
        msg = f"{path}: the name of a file of calls ends in {' or '.join(FORMATS)}"
        raise StoreError(msg)
    return path.suffix


def _quoted(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"
