"""The database: what one stage replaces, who may read meanwhile, and how old files are renewed."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest

from persona_pipeline.domains.spec import Domain
from persona_pipeline.errors import StoreError
from persona_pipeline.llm.buying.journal import Journal
from persona_pipeline.llm.calls import Call
from persona_pipeline.stages import FunnelCounts, StageRows
from persona_pipeline.store import Store
from persona_pipeline.synthesis import table_columns, table_name
from tests.library.purchases import answer_of, make_call

ROOT = Path(__file__).parents[2]
HOLDER = """
import sys
from pathlib import Path
from persona_pipeline.store import Store

store = Store(Path(sys.argv[1]), Path(sys.argv[2]))
with store.transaction() as connection:
    connection.execute("insert into corpus.shards (shard) values ('held')")
    print("held", flush=True)
    sys.stdin.readline()
"""


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


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """A file that holds `some_calls()`."""
    path = tmp_path / "1-1.jsonl"
    path.write_bytes(b"".join(call.to_line() for call in some_calls()))
    return path


def stored(store: Store, *columns: str) -> list[tuple[object, ...]]:
    return rows_of(store, f"select {', '.join(columns)} from llm.calls order by call_key")


def test_a_stage_replaces_only_its_own_shard(store: Store) -> None:
    store.replace([hub("s1", "a", "b"), hub("s2", "c")], [], run_id="r1")
    store.replace([hub("s1", "d")], [], run_id="r2")
    found = rows_of(store, "select shard, persona_id, run_id from personas.hub order by all")
    assert found == [("s1", "d", "r2"), ("s2", "c", "r1")]


def test_in_a_shared_table_a_stage_replaces_only_its_own_rows(store: Store) -> None:
    first = [rejected("s1", "one", "a"), rejected("s1", "two", "b"), rejected("s2", "one", "c")]
    store.replace(first, [], run_id="r1")
    store.replace([rejected("s1", "one", rows_in=4)], [], run_id="r2")
    found = rows_of(store, "select shard, stage, persona_id from personas.rejected order by all")
    assert found == [("s1", "two", "b"), ("s2", "one", "c")]
    counts = rows_of(store, "select shard, stage, rows_in, run_id from runs.stages order by all")
    assert counts == [("s1", "one", 4, "r2"), ("s1", "two", 9, "r1"), ("s2", "one", 9, "r1")]


def test_the_same_rows_twice_are_there_once(store: Store, journal: Path) -> None:
    for _ in range(2):
        store.replace([hub("s1", "a"), rejected("s1", "one", "b")], [journal], run_id="r")
    for table, count in (("personas.hub", 1), ("runs.stages", 1), ("llm.calls", 2)):
        assert rows_of(store, f"select count(*) from {table}") == [(count,)]


def test_columns_that_a_stage_does_not_fill_are_null_and_every_row_says_when(store: Store) -> None:
    store.replace([hub("s1", "a")], [], run_id="r")
    sql = "select persona, hop, created_at > now() - interval 1 minute from personas.hub"
    assert rows_of(store, sql) == [(None, None, True)]


def test_a_failed_commit_leaves_database_and_snapshot_as_they_were(
    store: Store, journal: Path
) -> None:
    store.replace([hub("s1", "a")], [], run_id="r1")
    before = store.snapshot.read_bytes()
    wrong = StageRows("s1", "hub", {"personas.hub": pl.DataFrame({"no_such_column": [1]})})
    with pytest.raises(duckdb.Error, match="no_such_column"):
        store.replace([hub("s1", "b"), wrong], [journal], run_id="r2")
    assert rows_of(store, "select persona_id from personas.hub") == [("a",)]
    assert rows_of(store, "select count(*) from llm.calls") == [(0,)]
    assert store.snapshot.read_bytes() == before
    assert {path.name for path in store.path.parent.iterdir()} == {
        "pipeline.duckdb",
        "published.duckdb",
        journal.name,
    }


def interrupt(store: Store) -> None:
    with store.transaction() as connection:
        connection.execute("insert into corpus.shards (shard) values ('s1')")
        raise KeyboardInterrupt


def test_an_interrupted_transaction_writes_nothing_and_lets_go(store: Store) -> None:
    with pytest.raises(KeyboardInterrupt):
        interrupt(store)
    assert rows_of(store, "select count(*) from corpus.shards") == [(0,)]


def test_every_commit_is_published_with_its_views(store: Store) -> None:
    store.replace([rejected("s1", "text_to_persona", "a")], [], run_id="r")
    assert snapshot_rows(store, "select persona_id from personas.rejected") == [("a",)]
    assert snapshot_rows(store, "select stage from marts.funnel") == [("text_to_persona",)]


def test_a_reader_keeps_the_snapshot_it_opened(store: Store) -> None:
    with duckdb.connect(str(store.snapshot), read_only=True) as reader:
        store.replace([hub("s1", "a")], [], run_id="r")
        assert reader.execute("select count(*) from personas.hub").fetchall() == [(0,)]
    assert snapshot_rows(store, "select count(*) from personas.hub") == [(1,)]


@contextmanager
def held(store: Store) -> Iterator[subprocess.Popen[str]]:
    """Another process in the middle of a transaction."""
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
        started = time.monotonic()
        store.replace([hub("s1", "a")], [], run_id="r")
        assert time.monotonic() - started < 5
    assert rows_of(store, "select shard from corpus.shards") == [("held",)]


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    path = tmp_path / "pipeline.duckdb"
    path.write_text("hello" * 1000)
    with pytest.raises(StoreError, match=r"pipeline\.duckdb cannot be opened: .*not a valid"):
        Store(path, tmp_path / "published.duckdb").query("select 1")


def test_a_database_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"none\.duckdb cannot be opened"):
        Store(tmp_path / "none.duckdb", tmp_path / "published.duckdb").query("select 1")


def test_migrating_twice_changes_nothing(store: Store) -> None:
    store.replace([hub("s1", "a")], [], run_id="r")
    before = (store.path.read_bytes(), store.snapshot.read_bytes())
    store.migrate()
    assert (store.path.read_bytes(), store.snapshot.read_bytes()) == before


def test_the_folder_of_a_new_database_is_made(tmp_path: Path) -> None:
    made = Store(tmp_path / "a" / "b" / "pipeline.duckdb", tmp_path / "a" / "b" / "p.duckdb")
    made.migrate()
    assert made.snapshot.is_file()


def test_a_file_with_older_views_gets_the_new_ones_and_keeps_its_rows(
    store: Store, journal: Path
) -> None:
    store.replace([hub("s1", "a")], [journal], run_id="r")
    with store.transaction() as connection:
        connection.execute("create or replace view marts.cost as select 1 as old")
        connection.execute("insert into schema_views values ('old', now())")
    store.migrate()
    assert rows_of(store, "select calls from marts.cost") == [(2,)]
    assert snapshot_rows(store, "select calls from marts.cost") == [(2,)]
    assert rows_of(store, "select persona_id from personas.hub") == [("a",)]


def test_a_database_of_a_newer_program_is_left_alone(store: Store) -> None:
    with store.transaction() as connection:
        connection.execute("insert into schema_migrations values (999, now())")
    message = r"pipeline\.duckdb has schema version 999, this program knows \d+: upgrade"
    with pytest.raises(StoreError, match=message):
        store.migrate()


def test_a_table_gets_the_columns_that_it_lacks_and_keeps_its_rows(
    store: Store, riddle: Domain
) -> None:
    columns = table_columns(riddle)
    store.add_table("synthetic.riddle", columns)
    with store.transaction() as connection:
        connection.execute("insert into synthetic.riddle (record_id) values ('r1')")
    store.add_table("synthetic.riddle", {**columns, "select": "integer[]"})
    assert rows_of(store, 'select record_id, "select" from synthetic.riddle') == [("r1", None)]
    assert rows_of(store, "select domain, record_id from synthetic.records") == [("riddle", "r1")]
    before = store.path.read_bytes()
    store.add_table("synthetic.riddle", columns)
    assert store.path.read_bytes() == before


def test_records_are_one_view_over_the_tables_of_all_domains(store: Store, riddle: Domain) -> None:
    assert rows_of(store, "select * from synthetic.records") == []
    store.add_table(table_name(riddle), table_columns(riddle))
    store.add_table("synthetic.poem", {**table_columns(riddle), "lines": "bigint"})
    for name in ("riddle", "poem"):
        frame = pl.DataFrame({"record_id": [f"{name}-1"], "text": [name]})
        rows = StageRows("s1", f"synthetic.{name}", {f"synthetic.{name}": frame})
        store.replace([rows], [], run_id="r")
    expected = [("poem", "poem-1", "poem", "s1"), ("riddle", "riddle-1", "riddle", "s1")]
    sql = "select domain, record_id, text, shard from synthetic.records order by all"
    assert rows_of(store, sql) == expected
    assert snapshot_rows(store, sql) == expected


STRANGE = ["", "\0\u2028\x1f🚢", "\\", '"quoted"\n\r\t', "null", "x" * 3_000_000]


def test_calls_are_stored_as_they_were_journaled(store: Store) -> None:
    calls = [
        replace(make_call(str(number)), response=text, cost_usd=number / 3)
        for number, text in enumerate(STRANGE)
    ]
    calls += [make_call("invalid", status="invalid"), make_call("failed", status="failed")]
    commit(store, *calls)
    columns = [field.name for field in fields(Call)]
    found = [Call(*row) for row in rows_of(store, f"select {', '.join(columns)} from llm.calls")]
    assert {call.call_key: call for call in found} == {call.call_key: call for call in calls}
    assert rows_of(store, "select distinct run_id from llm.calls") == [("r",)]


def test_answers_come_back_as_they_were_stored_and_failed_calls_do_not(store: Store) -> None:
    calls = [*some_calls(), make_call("c", status="invalid", text="\0🚢")]
    failed = make_call("failed", status="failed")
    commit(store, *calls, failed)
    keys = [call.call_key for call in calls]
    found = store.answers([*keys, failed.call_key, "unknown"])
    assert found == {call.call_key: answer_of(call) for call in calls}
    assert store.answers([]) == {}


@pytest.mark.parametrize("folder", ["it's [a] *journal*?", "status=failed/shard=x", "ä b"])
def test_journals_are_read_whatever_the_name_of_their_folder(store: Store, folder: str) -> None:
    commit(store, *some_calls(), folder=folder)
    assert stored(store, "status", "shard") == [("ok", "s")] * 2


def test_several_journals_are_committed_at_once_torn_and_foreign_lines_passed_over(
    store: Store, journal: Path, tmp_path: Path
) -> None:
    other = tmp_path / "1-2.jsonl"
    other.write_bytes(
        b"something else\n[]\n{}\n\n" + make_call("b").to_line() + make_call("c").to_line()[:-9]
    )
    store.replace([], [journal, other], run_id="r")
    assert store.answers([make_call("b").call_key, make_call("c").call_key]).keys() == {
        make_call("b").call_key
    }
    assert len(stored(store, "call_key")) == 3


def test_a_journal_of_a_newer_program_is_committed_by_the_columns_we_know(
    store: Store, tmp_path: Path
) -> None:
    path, row = tmp_path / "1-1.jsonl", asdict(make_call("a"))
    path.write_text(json.dumps({**row, "new_column": {"x": [1]}}) + "\n")
    store.replace([], [path], run_id="r")
    assert store.answers([row["call_key"]]) == {row["call_key"]: answer_of(make_call("a"))}


def test_an_answer_takes_the_place_of_a_failure_and_never_the_other_way(store: Store) -> None:
    call, failed = make_call("a"), make_call("a", status="failed")
    for committed, expected in ((failed, "failed"), (call, "ok"), (failed, "ok")):
        commit(store, committed)
        assert stored(store, "status") == [(expected,)]


@pytest.mark.parametrize("in_one_commit", [True, False])
def test_what_failed_attempts_used_is_added_to_the_answer(
    store: Store, *, in_one_commit: bool
) -> None:
    failed = replace(make_call("a", status="failed"), cost_usd=0.25)
    calls = [failed, failed, replace(make_call("a"), cost_usd=0.5)]
    for committed in [calls] if in_one_commit else [[call] for call in calls]:
        commit(store, *committed)
    columns = ("status", "tokens_in", "tokens_cached", "tokens_out", "cost_usd", "attempts")
    assert stored(store, *columns) == [("ok", 9, 3, 6, 1.0, 3)]


def test_what_a_call_cost_is_unknown_when_the_price_of_one_attempt_was(store: Store) -> None:
    failed, answer = make_call("a", status="failed"), replace(make_call("a"), cost_usd=0.5)
    commit(store, failed, answer)
    assert stored(store, "cost_usd") == [(None,)]
    failed, answer = make_call("b", status="failed"), replace(make_call("b"), cost_usd=0.5)
    commit(store, failed)
    commit(store, answer)
    assert stored(store, "cost_usd") == [(None,), (None,)]


def test_an_answer_that_is_committed_twice_is_counted_once(store: Store, journal: Path) -> None:
    for _ in range(2):
        store.replace([], [journal], run_id="r")
    assert stored(store, "tokens_in", "attempts") == [(3, 1)] * 2


def test_the_version_changes_with_every_commit_of_any_process(store: Store, journal: Path) -> None:
    other = Store(store.path, store.snapshot)
    versions = [store.version()]
    for journals in ([journal], []):
        other.replace([hub("s1", "a")], journals, run_id="r")
        versions.append(store.version())
    assert len(set(versions)) == 3
    assert store.version() == versions[-1]
    store.snapshot.unlink()
    assert store.version() is None


def test_a_path_with_a_quote_in_it_works(tmp_path: Path) -> None:
    folder = tmp_path / "it's a folder"
    made = Store(folder / "pipeline.duckdb", folder / "published.duckdb")
    made.migrate()
    assert made.snapshot.is_file()


@pytest.mark.parametrize("kind", [KeyboardInterrupt, GeneratorExit])
def test_a_signal_during_a_query_raises_what_its_handler_raised(
    store: Store, kind: type[BaseException]
) -> None:
    def interrupt(*_: object) -> None:
        raise kind

    former = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        with pytest.raises(kind):
            store.query("select count(*) from range(100000000) a, range(100000) b")
    finally:
        signal.signal(signal.SIGALRM, former)
    assert store.query("select 1 as one")["one"].to_list() == [1]


def test_a_journal_that_was_committed_and_left_behind_is_not_counted_again(
    store: Store, tmp_path: Path
) -> None:
    failed = replace(make_call("a", status="failed"), tokens_in=3, attempts=2)
    with Journal(tmp_path / "journal") as journal:
        journal.append(failed)
        for _ in range(2):  # killed before the file was deleted
            store.replace([], journal.to_commit(), run_id="r")
        assert rows_of(store, "select tokens_in, attempts from llm.calls") == [(3, 2)]
        journal.append(make_call("b"))
        store.replace([], journal.to_commit(), run_id="r")
    assert rows_of(store, "select count(*) from llm.calls where status = 'ok'") == [(1,)]
