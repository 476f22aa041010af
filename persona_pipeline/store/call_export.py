"""Export and import bought answers as a file, so that a colleague or CI replays a run for free."""

from pathlib import Path

import duckdb

from persona_pipeline.errors import StoreError
from persona_pipeline.llm.calls import FIELDS
from persona_pipeline.sql import read_sql
from persona_pipeline.store.calls import add_calls
from persona_pipeline.store.store import Store

ADDED_LATER = {"reasoning"}
"""Columns that files of earlier versions do not have."""
READERS = {".parquet": "read_parquet", ".jsonl": "read_ndjson"}
"""DuckDB table functions, by the ending of the file's name."""
FORMATS = {".parquet": "parquet", ".jsonl": "json"}
"""DuckDB formats of COPY, by the ending of the file's name."""


def export_calls(store: Store, path: Path) -> int:
    """Write every bought answer to a Parquet or JSON Lines file, one row each, sorted by call key.

    Returns:
        The number of answers.

    Raises:
        StoreError: the file's name ends otherwise, or the file cannot be written.
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
    """Add the answers of an exported file that `llm.calls` does not have.

    Returns:
        The number of answers in the file, and the number of new ones.

    Raises:
        StoreError: the file is no export of calls.
    """
    with store.transaction() as connection:
        try:
            connection.execute(
                f"create temp table bought as from ({read_sql('llm/bought_answers')}) limit 0"
            )
            source = _typed_source(connection, path)
            connection.execute(
                f"insert into bought by name select * from {source} "
                "where call_key is not null and status in ('ok', 'invalid') "
                "and not llm.is_broken_vector(stage, status, response) "
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


def _typed_source(connection: duckdb.DuckDBPyConnection, path: Path) -> str:
    """Return the SQL of the file's rows, with the columns and types of `bought`.

    DuckDB guesses the types of JSON from its first rows, where a column may be null in all.

    Raises:
        StoreError: the file lacks a column.
    """
    reader, name = READERS[_ending(path)], _quoted(path)
    there = set(connection.sql(f"from {reader}({name}) limit 0").columns)
    if lacking := [field for field in FIELDS if field not in there | ADDED_LATER]:
        msg = f"{path} is no export of calls: it has no column {', '.join(lacking)}"
        raise StoreError(msg)
    types = connection.sql("describe bought").fetchall()
    known = {column: kind for column, kind, *_ in types if column in there}
    if reader == "read_parquet":
        return f"(select {', '.join(known)} from {reader}({name}))"
    columns = ", ".join(f"{column}: '{kind}'" for column, kind in known.items())
    return f"{reader}({name}, columns = {{{columns}}})"


def _ending(path: Path) -> str:
    if path.suffix not in FORMATS:
        msg = f"{path}: the name of a file of calls ends in {' or '.join(FORMATS)}"
        raise StoreError(msg)
    return path.suffix


def _quoted(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"
