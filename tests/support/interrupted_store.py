"""Interrupt a store at random moments, and print what went wrong as a JSON list."""

import gc
import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType

import duckdb

from persona_pipeline.store.store import Store

LONGEST_S = 0.03
TRIES = """
import fcntl, sys
for path in sys.stdin:
    with open(path.strip(), "r+b") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            print("free", flush=True)
        except OSError:
            print("held", flush=True)
"""


def transact(store: Store) -> None:
    with store.transaction() as connection:
        connection.execute("insert into corpus.shards (shard) values ('s')")


def leave_open(store: Store) -> None:
    with store.connect() as connection:
        connection.begin()
        connection.execute("insert into corpus.shards (shard) select 's' || range from range(999)")


def fail(store: Store) -> None:
    with suppress(duckdb.Error), store.connect(read_only=True) as connection:
        connection.execute("select no_such_column")


def keep(store: Store) -> None:
    with store.kept_open():
        transact(store)
        read(store)


def read(store: Store) -> None:
    store.query("select count(*) from corpus.shards, range(2000)")


def once(store: Store, work: Callable[[Store], None], is_held: Callable[[], bool]) -> list[str]:
    """Return what is wrong after one interrupt."""
    store._publishing_s, store._published_at = 1e9, time.monotonic()  # noqa: SLF001 - no snapshot
    problems = list[str]()
    signal.setitimer(signal.ITIMER_REAL, random.uniform(0.0001, LONGEST_S))
    try:
        while True:
            work(store)
    except KeyboardInterrupt:
        pass
    except Exception as error:  # noqa: BLE001 - any error is the result
        signal.setitimer(signal.ITIMER_REAL, 0)
        problems.append(f"{work.__name__}: {error!r}")
    gc.collect()
    if is_held():
        problems.append(f"{work.__name__}: the file is held")
    try:
        store.query("select 1")
    except Exception as error:  # noqa: BLE001
        problems.append(f"{work.__name__}: not opened again: {error!r}")
    return problems


def interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main(path: Path, times: int) -> None:
    store = Store(path, path.with_name("published.duckdb"), lock_timeout=0.2)
    command = [sys.executable, "-c", TRIES]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as helper:
        lines, answers = helper.stdin, helper.stdout
        assert lines is not None
        assert answers is not None

        def is_held() -> bool:
            print(path, file=lines, flush=True)
            return answers.readline().strip() == "held"

        signal.signal(signal.SIGALRM, interrupt)
        problems = [
            problem
            for _ in range(times)
            for work in (transact, leave_open, fail, read, keep)
            for problem in once(store, work, is_held)
        ]
    sys.stdout.write(json.dumps(problems))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
