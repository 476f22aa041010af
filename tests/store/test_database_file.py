"""The database's file: who may open it, who waits, and what is told of its holder."""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import duckdb
import pytest

from persona_pipeline.errors import StoreError
from persona_pipeline.store.store import Store
from tests.support.examples import FEWER
from tests.support.stored_rows import ROOT, held, hub, rows_of, snapshot_rows


def test_a_file_that_this_process_has_open_elsewhere_is_waited_for(store: Store) -> None:
    impatient = Store(store.path, store.snapshot, lock_timeout=0.2)
    with duckdb.connect(str(store.path)), pytest.raises(StoreError, match="another connection"):
        impatient.query("select 1")
    assert impatient.query("select 1 as one").rows() == [(1,)]


def test_what_was_not_committed_when_the_connection_ends_is_undone(store: Store) -> None:
    with store.connect() as connection:
        connection.begin()
        connection.execute("insert into corpus.shards (shard) values ('s')")
    assert rows_of(store, "select count(*) from corpus.shards") == [(0,)]


def test_whoever_waits_for_the_file_says_who_holds_it(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("persona_pipeline.store.store.WARN_AFTER", 0.2)
    impatient = Store(store.path, store.snapshot, lock_timeout=1)
    with held(store) as process, pytest.raises(StoreError):
        impatient.query("select 1")
    assert [record.getMessage() for record in caplog.records] == [
        f"waiting for {store.path}, which process {process.pid} holds"
    ]
    assert 0.5 < impatient.waited_s < 3


def test_a_process_that_cannot_say_that_it_waits_waits_all_the_same(store: Store) -> None:
    store.path.with_name(f"{store.path.name}.wanted").mkdir()  # as if it were another user's
    impatient = Store(store.path, store.snapshot, lock_timeout=0.2)
    with held(store), pytest.raises(StoreError, match="is held by process"):
        impatient.query("select 1")
    with store.kept_open():
        assert store.query("select 1 as one").rows() == [(1,)]


def test_threads_of_a_process_have_the_file_in_turn(store: Store) -> None:
    other = Store(store.path, store.snapshot)

    def add(number: int) -> None:
        with (store, other)[number % 2].transaction() as connection:
            connection.execute("insert into corpus.shards (shard) values (?)", [str(number)])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add, range(40)))
    assert rows_of(store, "select count(distinct shard) from corpus.shards") == [(40,)]


def test_a_thread_that_waits_too_long_is_told_why(store: Store) -> None:
    impatient = Store(store.path, store.snapshot, lock_timeout=0.2)
    with (
        store.connect(read_only=True),
        ThreadPoolExecutor(1) as pool,
        pytest.raises(StoreError, match="is held by another connection of this process"),
    ):
        pool.submit(impatient.query, "select 1").result()
    assert impatient.query("select 1 as one").rows() == [(1,)]


def test_a_file_that_is_kept_goes_to_another_process_that_waits(store: Store) -> None:
    with store.kept_open(), written_elsewhere(store) as process:
        while process.poll() is None:
            store.query("select 1")
    assert process.returncode == 0
    assert rows_of(store, "select shard from corpus.shards") == [("elsewhere",)]


def test_a_file_that_is_kept_is_released_when_nobody_uses_it(store: Store) -> None:
    with store.kept_open():
        for name in "xa":  # the first commit is published, and the file released for that
            store.replace([hub("s1", name)], [], run_id="r")
        with written_elsewhere(store, FOREIGN.format(path=str(store.path))) as process:
            assert process.wait() == 0
        store.replace([hub("s1", "b")], [], run_id="r")
    assert rows_of(store, "select shard from corpus.shards") == [("foreign",)]
    assert rows_of(store, "select persona_id from personas.hub") == [("b",)]


def test_who_reads_a_file_that_is_kept_cannot_write_it(store: Store) -> None:
    with store.kept_open():
        for name in "ab":  # the first commit is published, and the file released for that
            store.replace([hub("s1", name)], [], run_id="r")
        with (
            pytest.raises(duckdb.TransactionException, match="read-only"),
            store.connect(read_only=True) as connection,
        ):
            connection.execute("delete from personas.hub")
        assert rows_of(store, "select persona_id from personas.hub") == [("b",)]


def test_commits_to_a_file_that_is_kept_outlive_a_kill(store: Store) -> None:
    killed = "with store.kept_open(): add('published'); add('killed'); os._exit(9)"
    with written_elsewhere(store, killed) as process:
        assert process.wait() == 9
    assert store.path.with_name("pipeline.duckdb.wal").exists()
    assert rows_of(store, "select shard from corpus.shards") == [("published",), ("killed",)]


def test_a_kept_file_is_whole_and_free_when_the_block_ends(store: Store) -> None:
    with store.kept_open(), store.kept_open():
        store.replace([hub("s1", "a")], [], run_id="r")
    assert not store.path.with_name("pipeline.duckdb.wal").exists()
    with duckdb.connect(str(store.path)) as connection:
        assert connection.sql("select persona_id from personas.hub").fetchall() == [("a",)]


FOREIGN = """
import duckdb, time
while True:  # as a program that is not ours, which tells nobody that it waits
    try:
        with duckdb.connect({path!r}) as connection:
            connection.execute("insert into corpus.shards (shard) values ('foreign')")
        break
    except duckdb.IOException:
        time.sleep(0.05)
"""


def written_elsewhere(store: Store, how: str = "add('elsewhere')") -> subprocess.Popen[bytes]:
    """Start a process that adds a shard."""
    program = f"""
import os, sys
from pathlib import Path
from persona_pipeline.store.store import Store
store = Store(Path({str(store.path)!r}), Path({str(store.snapshot)!r}))
def add(shard):
    with store.transaction() as connection:
        connection.execute("insert into corpus.shards (shard) values (?)", [shard])
{how}
"""
    return subprocess.Popen([sys.executable, "-c", program], cwd=ROOT)


def test_an_interrupt_at_any_moment_lets_go_of_the_file(store: Store) -> None:
    times = str(FEWER.max_examples * 2)  # of four kinds of work each
    command = [sys.executable, "-m", "tests.support.interrupted_store", str(store.path), times]
    matches = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    assert json.loads(matches.stdout) == []


def test_a_file_that_was_opened_through_a_link_is_the_same_file(store: Store) -> None:
    link = store.path.with_name("link.duckdb")
    link.symlink_to(store.path)
    linked = Store(link, store.snapshot, lock_timeout=0.2)
    with store.connect(read_only=True), pytest.raises(StoreError, match="another connection"):
        linked.query("select 1")


def test_results_too_large_for_memory_are_spilled_beside_the_database(store: Store) -> None:
    [(folder,)] = rows_of(store, "select current_setting('temp_directory')")
    assert folder == f"{store.path}.tmp"
    assert not Path(folder).exists()


def test_while_a_run_writes_people_read_the_snapshot_and_others_learn_who_holds_the_file(
    store: Store,
) -> None:
    impatient = Store(store.path, store.snapshot, lock_timeout=0.1)
    with held(store) as process:
        assert snapshot_rows(store, "select count(*) from corpus.shards") == [(0,)]
        message = f"pipeline.duckdb is held by process {process.pid}: close .*snapshot instead"
        with pytest.raises(StoreError, match=message):
            impatient.query("select 1")


def test_a_writer_waits_until_the_other_lets_go(store: Store) -> None:
    with held(store) as process:
        assert process.stdin is not None
        process.stdin.write("go on\n")
        process.stdin.flush()
        store.replace([hub("s1", "a")], [], run_id="r")
    assert rows_of(store, "select shard from corpus.shards") == [("held",)]


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    path = tmp_path / "pipeline.duckdb"
    path.write_text("hello" * 1000)
    with pytest.raises(StoreError, match=r"pipeline\.duckdb cannot be opened: .*not a valid"):
        Store(path, tmp_path / "published.duckdb").query("select 1")


def test_a_database_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"none\.duckdb cannot be opened"):
        Store(tmp_path / "none.duckdb", tmp_path / "published.duckdb").query("select 1")
