"""The statements that read, add and look up bought calls, each on a few rows."""

import json
from pathlib import Path

import polars as pl

from persona_pipeline.sql import read_sql
from persona_pipeline.store.calls import STORED_SQL
from persona_pipeline.store.store import ANSWERS_BY_KEY_SQL
from tests.sql.conftest import Tables


def test_answers_are_found_by_their_keys_and_failed_calls_are_none(tables: Tables) -> None:
    calls = {"b": "ok", "a": "invalid", "c": "ok", "d": "failed"}
    tables.add("llm.calls", *[{"call_key": key, "status": calls[key]} for key in calls])
    tables.connection.execute(
        "update llm.calls set finish_reason = 'length', params = '{}' where call_key = 'a'"
    )
    matches = tables.rows(ANSWERS_BY_KEY_SQL, keys="b,a,z,a,d")
    assert matches == [
        ("a", None, "invalid", None, None, "length", "{}"),
        ("b", None, "ok", None, None, None, None),
    ]


NUMBERS = ("tokens_in", "tokens_cached", "tokens_out", "cost_usd", "latency_ms", "attempts")


def call(key: str, status: str = "ok", number: int = 1, **other: object) -> dict[str, object]:
    """A call, all of whose numbers are this one."""
    return {"call_key": key, "status": status, **dict.fromkeys(NUMBERS, number), **other}


def test_of_the_lines_of_one_key_in_journals_the_answer_counts_with_what_all_used(
    tables: Tables, tmp_path: Path
) -> None:
    lines = [
        call("a", "failed"),
        call("b", "invalid"),
        call("c", "failed", error="first"),
        call("d", cost_usd=None),
        "no JSON at all",
        {"call_key": "e"},
        {"status": "ok"},
        [1, 2],
        call("a", number=10, response="yes", new_column=1),
        call("b", number=10),
        call("d", "failed", number=10),
    ]
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    (tmp_path / "1.jsonl").write_text("\n".join(texts[:5]) + "\n")
    (tmp_path / "2.jsonl").write_text("\n".join(texts[5:]) + '\n{"call_key": "t", "stat')
    files = [str(tmp_path / name) for name in ("1.jsonl", "2.jsonl")]
    columns = ["call_key", "status", "response", "tokens_in", "cost_usd", "attempts"]
    matches = tables.table(read_sql("llm/journaled"), columns, files=files)
    assert sorted(tuple(row.values()) for row in matches) == [
        ("a", "ok", "yes", 11, 11.0, 11),
        ("b", "ok", None, 11, 11.0, 11),
        ("c", "failed", None, 1, 1.0, 1),
        ("d", "ok", None, 11, None, 11),
    ]


def test_bought_calls_take_the_place_of_failures_and_of_nothing_else(
    tables: Tables,
) -> None:
    stored = [call(key, status) for key, status in zip("abcd", ["ok", "failed"] * 2, strict=True)]
    tables.add("llm.calls", *stored, call("other"))
    tables.connection.execute(
        "create temp table bought as select * exclude (run_id, created_at) from llm.calls limit 0"
    )
    tables.connection.register(
        "calls",
        pl.DataFrame(
            [
                call("a", "failed", 10),
                call("b", "ok", 10),
                call("c", "ok", 10),
                call("d", "failed", 10),
                call("e", "failed", 10),
            ]
        ),
    )
    tables.connection.execute("insert into bought by name from calls")
    tables.connection.execute(f"create temp table stored as {STORED_SQL}")
    columns = ["call_key", "status", *NUMBERS]
    matches = tables.table(read_sql("llm/calls_to_add"), columns)
    assert [(row["call_key"], row["status"], row["tokens_in"]) for row in matches] == [
        ("b", "ok", 11),
        ("d", "failed", 11),
        ("e", "failed", 10),
    ]
    assert all(len({row[name] for name in NUMBERS}) == 1 for row in matches)


def room(tokens: int | None) -> str:
    """The parameters of a call with so much room for thoughts; None: before there was any."""
    return json.dumps({} if tokens is None else {"reasoning_tokens": tokens})


def test_a_call_that_failed_for_want_of_room_is_replaced_by_one_with_more(tables: Tables) -> None:
    stored = [
        call("a", "invalid", params=room(None)),
        call("b", "invalid", params=room(4096)),
        call("c", "invalid", params=room(4096)),
        call("d", "ok", params=room(None)),
        call("e", "invalid", params="no JSON"),
    ]
    bought = [
        call("a", "ok", 10, params=room(4096)),
        call("b", "invalid", 10, params=room(8192)),
        call("c", "invalid", 10, params=room(4096)),
        call("d", "ok", 10, params=room(4096)),
        call("e", "ok", 10, params=None),
    ]
    tables.add("llm.calls", *stored)
    tables.connection.execute(
        "create temp table bought as select * exclude (run_id, created_at) from llm.calls limit 0"
    )
    tables.connection.register("calls", pl.DataFrame(bought))
    tables.connection.execute("insert into bought by name from calls")
    tables.connection.execute(f"create temp table stored as {STORED_SQL}")
    columns = ["call_key", "status", "params", "tokens_in", "cost_usd", "attempts"]
    matches = tables.table(read_sql("llm/calls_to_add"), columns)
    assert [tuple(row.values()) for row in matches] == [
        ("a", "ok", '{"reasoning_tokens": 4096}', 11, 11.0, 11),
        ("b", "invalid", '{"reasoning_tokens": 8192}', 11, 11.0, 11),
    ]


def test_of_two_unusable_answers_in_journals_the_one_with_more_room_counts(
    tables: Tables, tmp_path: Path
) -> None:
    lines = [
        call("a", "invalid", 1, params=room(4096)),
        call("a", "invalid", 2, params=room(8192)),
        call("a", "invalid", 1, params="no JSON"),
    ]
    (tmp_path / "1.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    [row] = tables.table(
        read_sql("llm/journaled"), ["params", "attempts"], files=[str(tmp_path / "1.jsonl")]
    )
    assert tuple(row.values()) == ('{"reasoning_tokens": 8192}', 4)
