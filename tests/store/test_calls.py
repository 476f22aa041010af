"""The calls in the store: committed once, whatever their journals look like."""

import base64
import json
import signal
import struct
from dataclasses import asdict, fields, replace
from pathlib import Path

import duckdb
import pytest

from persona_pipeline.llm.calls import Call
from persona_pipeline.llm.gateway.journal import Journal
from persona_pipeline.sql import read_sql, sql_names
from persona_pipeline.store.store import Store
from tests.support.purchases import answer_of, make_call
from tests.support.stored_rows import (
    STRANGE,
    commit,
    hub,
    rows_of,
    some_calls,
    stored,
)


def test_calls_are_stored_as_they_were_journaled(store: Store) -> None:
    calls = [
        replace(make_call(str(number)), response=text, cost_usd=number / 3)
        for number, text in enumerate(STRANGE)
    ]
    calls += [make_call("invalid", status="invalid"), make_call("failed", status="failed")]
    commit(store, *calls)
    columns = [field.name for field in fields(Call)]
    rows = rows_of(store, f"select {', '.join(columns)} from llm.calls")
    matches = [Call(**dict(zip(columns, row, strict=True))) for row in rows]
    assert {call.call_key: call for call in matches} == {call.call_key: call for call in calls}
    assert rows_of(store, "select distinct run_id from llm.calls") == [("r",)]


def test_answers_come_back_as_they_were_stored_and_failed_calls_do_not(store: Store) -> None:
    calls = [*some_calls(), make_call("c", status="invalid", text="\0🚢")]
    failed = make_call("failed", status="failed")
    commit(store, *calls, failed)
    keys = [call.call_key for call in calls]
    matches = store.answers([*keys, failed.call_key, "unknown"])
    assert matches == {call.call_key: answer_of(call) for call in calls}
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
    for name, journals in (("a", [journal]), ("b", [])):
        other.replace([hub("s1", name)], journals, run_id="r")
        versions.append(store.version())
    assert len(set(versions)) == 3
    assert store.version() == versions[-1]
    store.path.unlink()
    assert store.version() is None


def test_a_path_with_a_quote_in_it_works(tmp_path: Path) -> None:
    folder = tmp_path / "it's a folder"
    result = Store(folder / "pipeline.duckdb", folder / "published.duckdb")
    result.migrate()
    assert result.snapshot.is_file()


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


def vector_call(content: str, *numbers: float) -> Call:
    """Return the call of a vector as earlier versions journaled it, finite or not."""
    data = base64.b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode()
    text = json.dumps({"embedding": data})
    return replace(make_call(content, text=text), stage="embeddings")


NAN, INFINITY = float("nan"), float("inf")
BROKEN = [(NAN,), (1.0, NAN), (INFINITY, 1.0), (1.0, -INFINITY), (1.0, 2.0, 3.0, NAN)]
WHOLE = [(1.0, 2.0), (-3.4e38, 3.4e38), (0.0,), (1e-45, -1e-38), (1.7e38, 255.0, 0.5)]


def test_a_vector_with_null_in_an_older_journal_is_a_failed_call(store: Store) -> None:
    broken = [vector_call(f"b{number}", *numbers) for number, numbers in enumerate(BROKEN)]
    whole = [vector_call(f"w{number}", *numbers) for number, numbers in enumerate(WHOLE)]
    chat = replace(broken[0], call_key="c" * 64, stage="test")
    commit(store, *broken, *whole, chat)
    matches = store.answers([call.call_key for call in (*broken, *whole, chat)])
    assert matches.keys() == {call.call_key for call in (*whole, chat)}
    assert rows_of(store, "select distinct status from llm.calls where tokens_in <> 3") == []


def test_a_vector_that_is_bought_again_takes_the_place_of_a_broken_one(store: Store) -> None:
    broken, whole = vector_call("a", NAN), vector_call("a", 1.0)
    commit(store, broken, whole)
    assert stored(store, "status", "response") == [("ok", whole.response)]
    other, again = vector_call("b", NAN), vector_call("b", 2.0)
    commit(store, other)
    commit(store, again)
    assert store.answers([other.call_key])[other.call_key].response == again.response
    assert rows_of(store, "select tokens_in from llm.calls") == [(6,), (6,)]


def older_store(folder: Path, version: int) -> Store:
    """Create a database as it was after this many migrations."""
    result = Store(folder / "pipeline.duckdb", folder / "published.duckdb")
    with duckdb.connect(str(result.path)) as connection:
        connection.execute(
            "create table schema_migrations (version integer, applied_at timestamp);"
            "create table schema_views (version varchar, applied_at timestamp)"
        )
        for number, name in enumerate(sql_names("migrations")[:version], start=1):
            connection.execute(read_sql(name))
            connection.execute(f"insert into schema_migrations values ({number}, now())")
    return result


def test_an_older_database_keeps_its_answers_without_thoughts_and_asks_for_broken_vectors_again(
    tmp_path: Path,
) -> None:
    result = older_store(tmp_path, 10)
    columns = [field.name for field in fields(Call) if field.name != "reasoning"]
    calls = [make_call("chat"), vector_call("whole", 1.0), vector_call("broken", NAN)]
    with duckdb.connect(str(result.path)) as connection:
        marks = ", ".join("?" * len(columns))
        connection.executemany(
            f"insert into llm.calls ({', '.join(columns)}) values ({marks})",
            [[getattr(call, name) for name in columns] for call in calls],
        )
        connection.execute(
            "insert into personas.embeddings (persona_id, embedding) values "
            "('a', [1, 2]), ('b', [1, 'nan'::float]), ('c', ['inf'::float])"
        )
    result.migrate()
    matches = result.answers([call.call_key for call in calls])
    assert matches == {call.call_key: answer_of(call) for call in calls[:2]}
    assert rows_of(result, "select distinct reasoning from llm.calls") == [(None,)]
    assert rows_of(result, "select error from llm.calls where status = 'failed'") == [
        ("the vector holds null, NaN or infinity: it is asked again",)
    ]
    assert rows_of(result, "select persona_id from personas.embeddings") == [("a",)]


def test_the_thoughts_of_an_answer_are_stored(store: Store) -> None:
    thoughts = 'First, a lock.\n\0"Then" a keeper 🚢.'
    commit(store, replace(make_call("a"), reasoning=thoughts), make_call("b"))
    assert set(rows_of(store, "select reasoning from llm.calls")) == {(thoughts,), (None,)}


def test_a_journal_of_an_earlier_version_has_no_thoughts(store: Store, tmp_path: Path) -> None:
    line = {name: value for name, value in asdict(make_call("a")).items() if name != "reasoning"}
    path = tmp_path / "1-2.jsonl"
    path.write_text(json.dumps(line) + "\n")
    store.replace([], [path], run_id="r")
    assert stored(store, "status", "reasoning") == [("ok", None)]
