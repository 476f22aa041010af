"""Make rows and calls for tests of the store."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import polars as pl

from persona_pipeline.llm.calls import Call
from persona_pipeline.llm.gateway.journal import Journal
from persona_pipeline.store.stage_rows import FunnelCounts, StageRows
from persona_pipeline.store.store import Store
from tests.support.purchases import make_call

ROOT = Path(__file__).parents[2]


HOLDER = """
import sys
from pathlib import Path
from persona_pipeline.store.store import Store

store = Store(Path(sys.argv[1]), Path(sys.argv[2]))
with store.transaction() as connection:
    connection.execute("insert into corpus.shards (shard) values ('held')")
    print("held", flush=True)
    sys.stdin.readline()
"""


KILLED = """
import os, sys
import duckdb

with duckdb.connect(sys.argv[1]) as connection:
    connection.execute("insert into corpus.shards (shard) values ('committed')")
    os.kill(os.getpid(), 9)
"""


FULL = """
import logging, resource, signal, sys
from pathlib import Path
from persona_pipeline.errors import StoreError
from persona_pipeline.store.store import Store

logging.basicConfig(stream=sys.stdout)
store, rows = Store(Path(sys.argv[1]), Path(sys.argv[2])), int(sys.argv[3])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (store.path.stat().st_size, resource.RLIM_INFINITY))
try:
    with store.transaction() as connection:
        connection.execute(f"insert into corpus.shards (shard) select range from range({rows})")
except StoreError as error:
    print(error)
"""


def commit_without_room(store: Store, rows: int) -> str:
    """Add shards from a process whose files may not outgrow the database; return its output."""
    command = [sys.executable, "-c", FULL, str(store.path), str(store.snapshot), str(rows)]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout


def kill_after_commit(store: Store) -> None:
    """Commit from a shell that is killed before it closes the database."""
    subprocess.run([sys.executable, "-c", KILLED, str(store.path)], check=False)


def rejected(shard: str, stage: str, *persona_ids: str, rows_in: int = 9) -> StageRows:
    frame = pl.DataFrame({"stage": [stage] * len(persona_ids), "persona_id": list(persona_ids)})
    return StageRows(
        shard=shard,
        stage=stage,
        tables={"personas.rejected": frame.cast(pl.String)},
        scope={"personas.rejected": ("stage", stage)},
        funnel=FunnelCounts(rows_in, rows_in),
    )


def hub(shard: str, *persona_ids: str) -> StageRows:
    frame = pl.DataFrame({"persona_id": list(persona_ids)}, schema={"persona_id": pl.String})
    return StageRows(shard=shard, stage="hub", tables={"personas.hub": frame})


def rows_of(store: Store, sql: str) -> list[tuple[Any, ...]]:
    return store.query(sql).rows()


def snapshot_rows(store: Store, sql: str) -> list[tuple[object, ...]]:
    with duckdb.connect(str(store.snapshot), read_only=True) as connection:
        return connection.execute(sql).fetchall()


def some_calls(count: int = 2) -> list[Call]:
    return [make_call(f"page {number}") for number in range(count)]


def commit(store: Store, *calls: Call, folder: str = "journal") -> None:
    """Put the calls into `llm.calls`, from a journal as it is on disk."""
    with Journal(store.path.parent / folder) as journal:
        for call in calls:
            journal.append(call)
        store.replace([], journal.to_commit(), run_id="r")
        journal.committed()


def stored(store: Store, *columns: str) -> list[tuple[object, ...]]:
    return rows_of(store, f"select {', '.join(columns)} from llm.calls order by call_key")


def interrupt(store: Store) -> None:
    with store.transaction() as connection:
        connection.execute("insert into corpus.shards (shard) values ('s1')")
        raise KeyboardInterrupt


@contextmanager
def held(store: Store) -> Iterator[subprocess.Popen[str]]:
    """Hold the database from another process in the middle of a transaction."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(store.path), str(store.snapshot)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.communicate()


STRANGE = ["", "\0\u2028\x1f🚢", "\\", '"quoted"\n\r\t', "null", "x" * 3_000_000]
