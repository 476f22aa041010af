"""Take bought calls into `llm.calls`."""

from collections.abc import Sequence
from pathlib import Path

import duckdb
import polars as pl

from persona_pipeline.sql import read_sql
from persona_pipeline.store.stage_rows import insert_rows


def add_journals(
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
