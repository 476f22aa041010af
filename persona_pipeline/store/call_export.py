"""Export and import bought answers as a file, so that a colleague or CI replays a run for free."""

from pathlib import Path
from typing import Final

import duckdb

from persona_pipeline.errors import StoreError
from persona_pipeline.llm.calls import FIELDS
from persona_pipeline.store.calls import add_calls
from persona_pipeline.store.store import Store

READERS = {".parquet": "read_parquet", ".jsonl": "read_ndjson"}
"""DuckDB table functions, by the ending of the file's name."""
FORMATS = {".parquet": "parquet", ".jsonl": "json"}
"""DuckDB formats of COPY, by the ending of the file's name."""


BOUGHT_ANSWERS_SQL: Final = """
-- One row per bought answer, as it is exported: without the run that bought it.
-- reads: llm.calls
select
    call_key, shard, stage, model, prompt_name, prompt_version, params, request, response, status,
    error, finish_reason, tokens_in, tokens_cached, tokens_out, cost_usd, latency_ms, attempts
from llm.calls
where status <> 'failed'
order by call_key
"""


def export_calls(store: Store, path: Path) -> int:
    """Write every bought answer to a Parquet or JSON Lines file, one row each, sorted by call key.

    Returns:
        The number of answers.

    Raises:
        StoreError: the file's name ends otherwise, or the file cannot be written.
    """
    form = FORMATS[_ending(path)]
    query = BOUGHT_ANSWERS_SQL
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
    columns = ", ".join(FIELDS)
    source = f"{READERS[_ending(path)]}({_quoted(path)})"
    with store.transaction() as connection:
        try:
            connection.execute(f"create temp table bought as from ({BOUGHT_ANSWERS_SQL}) limit 0")
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
