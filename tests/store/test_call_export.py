"""Bought answers as a file: what is exported is what is imported."""

from dataclasses import replace
from pathlib import Path

import duckdb
import pytest

from persona_pipeline.errors import StoreError
from persona_pipeline.llm.calls import Call
from persona_pipeline.llm.gateway.journal import Journal
from persona_pipeline.store.call_export import export_calls, import_calls
from persona_pipeline.store.store import Store
from tests.support.purchases import make_call

ANSWERS = [
    make_call("a"),
    replace(make_call("b"), status="invalid", response='no "JSON"\n\0🚢', error="why"),
    replace(make_call("c"), cost_usd=None, reasoning='Hm.\n"A" page?'),
]
FAILED = replace(make_call("d"), status="failed", response=None, error="503")


def new_store(folder: Path, *calls: Call) -> Store:
    store = Store(folder / "pipeline.duckdb", folder / "published.duckdb")
    store.migrate()
    with Journal(folder / "journal") as journal:
        for call in calls:
            journal.append(call)
        store.replace([], journal.to_commit(), run_id="r")
        journal.committed()
    return store


def rows(store: Store) -> list[tuple[object, ...]]:
    query = "select * exclude (run_id, created_at) from llm.calls order by call_key"
    return store.query(query).rows()


@pytest.mark.parametrize("name", ["answers.parquet", "answers.jsonl", "it's here.parquet"])
def test_what_is_exported_is_imported_as_it_was_without_failures(tmp_path: Path, name: str) -> None:
    source = new_store(tmp_path / "source", *ANSWERS, FAILED)
    assert export_calls(source, tmp_path / name) == 3
    target = new_store(tmp_path / "target")
    assert import_calls(target, tmp_path / name) == (3, 3)
    assert rows(target) == [row for row in rows(source) if "failed" not in row]
    assert import_calls(target, tmp_path / name) == (3, 0)
    assert len(rows(target)) == 3


def test_an_imported_answer_takes_the_place_of_a_failure_and_of_nothing_else(
    tmp_path: Path,
) -> None:
    source = new_store(tmp_path / "source", *ANSWERS)
    export_calls(source, tmp_path / "answers.parquet")
    other = replace(ANSWERS[0], response="mine")
    failed = replace(ANSWERS[2], status="failed", response=None)
    target = new_store(tmp_path / "target", other, failed)
    assert import_calls(target, tmp_path / "answers.parquet") == (3, 2)
    matches = target.answers([call.call_key for call in ANSWERS])
    assert [matches[call.call_key].status for call in ANSWERS] == ["ok", "invalid", "ok"]
    assert matches[other.call_key].response == "mine"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("answers.csv", b"", r"ends in \.parquet or \.jsonl"),
        ("answers.jsonl", b'{"a": 1}\n', "is no export of calls"),
        ("answers.parquet", b"no parquet at all", "is no export of calls"),
    ],
)
def test_a_file_of_something_else_is_refused_and_changes_nothing(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    store = new_store(tmp_path / "target", ANSWERS[0])
    before = rows(store)
    with pytest.raises(StoreError, match=message):
        import_calls(store, tmp_path / name)
    assert rows(store) == before


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    store = new_store(tmp_path / "source", *ANSWERS)
    with pytest.raises(StoreError, match=r"gone/answers\.jsonl cannot be written"):
        export_calls(store, tmp_path / "gone" / "answers.jsonl")


@pytest.mark.parametrize("name", ["answers.parquet", "answers.jsonl"])
def test_a_file_of_an_earlier_version_has_no_thoughts(tmp_path: Path, name: str) -> None:
    source = new_store(tmp_path / "source", *ANSWERS)
    export_calls(source, tmp_path / name)
    form, older = "parquet" if name.endswith("parquet") else "json", tmp_path / f"older-{name}"
    columns = f"select * exclude (reasoning) from '{tmp_path / name}'"
    duckdb.execute(f"copy ({columns}) to '{older}' (format {form})")
    target = new_store(tmp_path / "target")
    assert import_calls(target, older) == (3, 3)
    assert [row[-1] for row in rows(target)] == [None, None, None]
    assert [row[:-1] for row in rows(target)] == [row[:-1] for row in rows(source)]


def test_a_file_that_lacks_a_column_is_refused_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "some.jsonl").write_text('{"call_key": "a", "status": "ok"}\n')
    store = new_store(tmp_path / "target")
    with pytest.raises(StoreError, match=r"some\.jsonl is no export of calls: it has no column"):
        import_calls(store, tmp_path / "some.jsonl")


def test_a_column_that_is_null_in_the_first_rows_is_read_as_text(tmp_path: Path) -> None:
    calls = [make_call(str(number)) for number in range(30)]
    last = max(calls, key=lambda call: call.call_key)
    calls[calls.index(last)] = replace(last, reasoning='a "word"', error="404")
    source = new_store(tmp_path / "source", *calls)
    export_calls(source, tmp_path / "answers.jsonl")
    target = new_store(tmp_path / "target")
    import_calls(target, tmp_path / "answers.jsonl")
    assert rows(target) == rows(source)
