"""Add bought calls to `llm.calls`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import duckdb
import polars as pl

from persona_pipeline.sql import read_sql
from persona_pipeline.store.stage_rows import insert_rows


def add_journals(
    connection: duckdb.DuckDBPyConnection, journals: Sequence[Path], run_id: str
) -> None:
    """Add the calls of journal files that have grown since they were last committed.

    `main.committed_journals` notes name and size of each file. Runs within a transaction.
    """
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
    """Move the calls of the temporary table `bought` to `llm.calls`.

    A stored answer stays as it is, since tables were made from it. An answer replaces a failed
    call, and the tokens, cost and time of the failed attempts are added to it.
    """
    connection.execute(f"create temp table stored as {STORED_SQL}")
    connection.execute(f"create temp table calls_to_add as {read_sql('llm/calls_to_add')}")
    if connection.execute("from stored limit 1").fetchall():
        connection.execute(
            "delete from llm.calls where call_key in (select call_key from calls_to_add)"
        )
    connection.execute(
        "insert into llm.calls by name "
        "select *, $run_id as run_id, now() at time zone 'UTC' as created_at from calls_to_add",
        {"run_id": run_id},
    )
    for table in ("calls_to_add", "stored", "bought"):
        connection.execute(f"drop table {table}")


STORED_SQL: Final = """
-- One row per call of the journals that is stored already. It is read once: the table grows.
-- reads: llm.calls, bought (the calls of journals, one row per key)
select * exclude (request, response, reasoning, run_id, created_at)
from llm.calls
where call_key in (select call_key from bought)
"""
