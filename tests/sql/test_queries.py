"""The statements of the stages and of the command line, each on a few rows."""

import json
from datetime import timedelta
from pathlib import Path
from threading import Thread

import polars as pl

from assets.personas import CANDIDATES_SQL, DOCUMENTS_SQL, EXTRACTED_SQL, RELATED_SQL
from persona_pipeline.hub.decisions import CANDIDATE_COUNTS_SQL
from persona_pipeline.hub.state import DECIDED_SHARDS_SQL
from persona_pipeline.sql import fetch, read_sql, sql_names
from persona_pipeline.store.migrations import COLUMNS_SQL, VERSIONS_SQL
from persona_pipeline.store.store import ANSWERS_BY_KEY_SQL
from persona_pipeline.synthesis.records import HUB_OF_SHARD_SQL
from tests.sql.conftest import MOMENT, Tables


def test_documents_of_a_shard(tables: Tables) -> None:
    tables.add(
        "corpus.documents",
        {"document_id": "b", "title": "B", "text": "two"},
        {"document_id": "a", "title": None, "text": "one"},
        {"document_id": "c", "title": "C", "text": "other", "shard": "s2"},
    )
    matches = tables.rows(DOCUMENTS_SQL, shard="s1")
    assert matches == [("a", None, "one"), ("b", "B", "two")]


def test_personas_of_a_shard(tables: Tables) -> None:
    queries = {
        "extracted": EXTRACTED_SQL,
        "related": RELATED_SQL,
        "candidates": CANDIDATES_SQL,
        "hub": HUB_OF_SHARD_SQL,
    }
    for table, query in queries.items():
        rows = [
            {"persona_id": "b", "persona": "two"},
            {"persona_id": "a", "persona": "one"},
            {"persona_id": "c", "persona": "other", "shard": "s2"},
        ]
        tables.add(f"personas.{table}", *rows)
        matches = tables.rows(query, shard="s1")
        assert [row[:2] for row in matches] == [("a", "one"), ("b", "two")]


def add_shards(tables: Tables) -> None:
    for number, shard in enumerate(("s2", "s1", "s3", "s4")):
        tables.add("corpus.shards", {"shard_number": number}, shard=shard)
    tables.add(
        "personas.candidates",
        {"persona_id": "b", "persona": "two", "shard": "s1"},
        {"persona_id": "a", "persona": "one", "shard": "s2"},
        {"persona_id": "d", "persona": "four", "shard": "s4"},
    )


def test_candidates_carry_the_number_of_their_shard(tables: Tables) -> None:
    add_shards(tables)
    matches = tables.rows(
        "select shard, shard_number, persona_id, persona from"
        f" ({read_sql('personas/candidates_of_shards')}) order by shard_number",
        shards=["s2", "s4"],
    )
    assert matches == [("s2", 0, "a", "one"), ("s4", 3, "d", "four")]


def test_shards_with_candidates_or_a_former_comparison_stand_in_rank(tables: Tables) -> None:
    add_shards(tables)
    vector = {"persona_id": "a", "model": "m", "embedding": [1.0]}
    tables.add("personas.embeddings", vector, shard="s2")
    tables.add("runs.compared", {"version": "v"}, shard="s3")
    matches = tables.rows(read_sql("personas/shard_states"), model="m")
    moment = "2026-01-01 12:00:00"
    assert matches == [
        ("s2", 0, 1, moment, moment, None),
        ("s1", 1, 1, moment, None, None),
        ("s3", 2, 0, None, None, "v"),
        ("s4", 3, 1, moment, None, None),
    ]
    counts = tables.rows(CANDIDATE_COUNTS_SQL, shards=["s4", "s3", "s2"])
    assert sorted(counts) == [("s2", 1), ("s4", 1)]


def test_shards_that_were_compared_or_decided_stand_in_rank(tables: Tables) -> None:
    add_shards(tables)
    tables.add("runs.compared", {"version": "v"}, shard="s3")
    tables.add("runs.compared", {"version": "w"}, shard="s2")
    for shard in ("s4", "s2"):
        tables.add("runs.resolved", {"basis": "b"}, shard=shard)
    assert tables.rows(DECIDED_SHARDS_SQL) == [
        ("s2", 0, "w", "b"),
        ("s3", 2, "v", None),
        ("s4", 3, None, "b"),
    ]


def test_a_hub_is_written_where_it_is_not_what_is_left_of_the_candidates(tables: Tables) -> None:
    add_shards(tables)
    for shard in ("s2", "s1"):
        tables.add("runs.resolved", {"basis": "b"}, shard=shard)
    tables.add("personas.fingerprints", {"persona_id": "a", "shard": "s2"}, {"persona_id": "b"})
    tables.add("personas.hub", {"persona_id": "a"}, shard="s2")
    assert tables.rows(read_sql("personas/hub_shards"), shard="s2") == [("s2",), ("s1",)]
    tables.add("personas.duplicates", {"persona_id": "b", "kept_id": "a"}, shard="s1")
    assert tables.rows(read_sql("personas/hub_shards"), shard="s2") == [("s2",)]


def read_ranked_ids(tables: Tables, *shards: str) -> list[str]:
    parameters = {"shards": list(shards)}
    pairs = fetch(tables.connection, read_sql("personas/ranked_pairs"), parameters)
    tables.connection.register("ranked_pairs", pairs)
    return fetch(tables.connection, read_sql("personas/ranked"), parameters)["persona_id"].to_list()


def test_only_who_is_like_another_one_has_a_rank(tables: Tables) -> None:
    add_shards(tables)
    keys = {"a": (1, 1), "b": (2, 2), "c": (2, 3), "d": (4, 4), "e": (5, 5)}
    for shard, persona_id in (("s2", "a"), ("s1", "b"), ("s1", "c"), ("s4", "d"), ("s2", "e")):
        set_key, text_key = keys[persona_id]
        row = {"persona_id": persona_id, "set_key": set_key, "text_key": text_key}
        tables.add("personas.fingerprints", row, shard=shard)
    tables.add("personas.pairs", {"layer": "jaccard", "first_key": 1, "second_key": 4}, shard="s4")
    tables.add("personas.pairs", {"layer": "semantic", "first_key": 3, "second_key": 5})
    tables.add("personas.duplicates", {"persona_id": "a", "kept_id": "e"}, shard="s2")

    assert set(read_ranked_ids(tables, "s4")) == {"d"}
    assert set(read_ranked_ids(tables, "s1")) == {"b", "c", "e"}
    assert set(read_ranked_ids(tables, "s2", "s1", "s3", "s4")) == {"a", "b", "c", "d", "e"}
    pairs = tables.rows(read_sql("personas/ranked_pairs"), shards=["s4"])
    assert [(layer, first, second) for layer, first, second, *_ in pairs] == [("jaccard", 1, 4)]


def test_one_thread_reads_many_ranked_personas_to_their_end(tables: Tables) -> None:
    """Where results are streamed, DuckDB 1.5 hangs here: see `open_duckdb`."""
    rows = (
        "select 's1' as shard, 'p' || range as persona_id, range // 2 as set_key, range as text_key"
    )
    tables.connection.execute(
        f"insert into personas.fingerprints by name {rows} from range(200000)"
    )
    tables.connection.execute("set threads = 1")
    add_shards(tables)
    matches = list[int]()

    reading = Thread(target=lambda: matches.append(len(read_ranked_ids(tables, "s1"))), daemon=True)
    reading.start()
    reading.join(timeout=60)

    assert matches == [200_000]


def test_the_hub_keeps_what_is_no_duplicate_and_knows_its_document(tables: Tables) -> None:
    tables.add("personas.extracted", {"persona_id": "a", "document_id": "d1"})
    tables.add("personas.related", {"persona_id": "b", "root_id": "a", "hop": 2})
    common = {"origin": "text_to_persona", "persona": "someone"}
    tables.add(
        "personas.candidates",
        *[{"persona_id": key, **common} for key in ("b", "a", "c")],
        {"persona_id": "x", **common, "shard": "s2"},
        {"persona_id": "not compared", **common},
    )
    tables.add("personas.fingerprints", *({"persona_id": key} for key in ("a", "b", "c")))
    tables.add("personas.duplicates", {"persona_id": "c", "kept_id": "a"})
    assert tables.rows(read_sql("personas/hub"), shards=["s1"]) == [
        ("s1", "a", "text_to_persona", "someone", "a", "d1", 0),
        ("s1", "b", "text_to_persona", "someone", "a", "d1", 2),
    ]
    assert tables.rows(read_sql("personas/hub"), shards=[]) == []


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


def test_the_columns_and_the_tables_of_domains_are_listed(tables: Tables) -> None:
    matches = tables.rows(COLUMNS_SQL, schema="runs", table="stages")
    assert [name for name, _ in matches] == [
        "shard", "stage", "input_count", "rows_in", "run_id", "created_at", "source",
        "input_version", "output_version",
    ]  # fmt: skip
    assert tables.rows(read_sql("store/domain_tables")) == [("poem",), ("riddle",)]


def test_the_newest_versions_count(tables: Tables) -> None:
    tables.connection.execute("delete from schema_views")
    tables.connection.execute(
        "insert into schema_views values ('b', now()), ('a', now() + interval 1 hour)"
    )
    [(schema, views)] = tables.rows(VERSIONS_SQL)
    assert (schema, views) == (len(sql_names("migrations")), "a")


def test_flags_of_texts(tables: Tables) -> None:
    texts = {"b": "I like to see to see to see", "a": "A lock keeper."}
    tables.connection.register(
        "texts", pl.DataFrame({"id": list(texts), "text": list(texts.values())})
    )
    assert tables.rows(read_sql("quality/text_flags"), ngram=2, times=3) == [
        ("a", 3, "", "", "", ""),
        ("b", 8, "I", "", "", "to see"),
    ]


def add_stages(tables: Tables) -> None:
    stages = [
        {"shard": "s1", "stage": "text_to_persona", "input_count": 1, "rows_in": 2},
        {"shard": "s2", "stage": "text_to_persona", "input_count": 1, "rows_in": 2},
        {"shard": "s1", "stage": "corpus", "input_count": 1, "rows_in": 1},
        {"shard": "s3", "stage": "corpus", "input_count": 1, "rows_in": 1},
    ]
    for number, stage in enumerate(reversed(stages)):
        tables.add("runs.stages", stage, created_at=MOMENT + timedelta(minutes=number))
    for shard in ("s1", "s2"):
        tables.add("personas.extracted", {"persona_id": f"p-{shard}"}, shard=shard)
    tables.add("corpus.documents", {"document_id": "d1"})
    failed = {"stage": "text_to_persona", "reason": "call_failed"}
    tables.add("personas.rejected", failed, {**failed, "shard": "s3"})


def test_the_totals_of_a_run_cover_its_shards_in_the_order_of_the_stages(tables: Tables) -> None:
    add_stages(tables)
    assert tables.rows(read_sql("cli/funnel_totals"), shards=["s1", "s2"]) == [
        ("corpus", 1, 1, 0, 0, 0, True),
        ("text_to_persona", 4, 2, 0, 0, 1, False),
    ]


def test_the_reasons_of_a_run_are_counted_the_most_frequent_first(tables: Tables) -> None:
    tables.add("corpus.rejected", {"reason": "too_short"})
    tables.add(
        "personas.rejected",
        *[{"stage": "quality_rules", "reason": "too_long"}] * 2,
        {"stage": "quality_rules", "reason": "too_long", "shard": "s2"},
    )
    tables.add("personas.duplicates", {"persona_id": "a", "layer": "jaccard"})
    tables.add("synthetic.rejected", {"domain": "riddle", "reason": "failed_check"})
    matches = tables.rows(read_sql("cli/reasons"), shards=["s1"])
    assert matches[0] == ("quality_rules", "too_long", 2)
    assert {
        (stage.removeprefix("synthetic."), reason, rows) for stage, reason, rows in matches[1:]
    } == {
        ("corpus", "too_short", 1),
        ("deduplication", "jaccard duplicate", 1),
        ("riddle", "failed_check", 1),
    }


def test_the_shown_records_are_of_different_domains_related_personas_first(
    tables: Tables,
) -> None:
    tables.add("personas.extracted", {"persona_id": "a", "persona": "root"})
    tables.add(
        "personas.related",
        {"persona_id": "b", "parent_id": "a", "root_id": "a", "persona": "related"},
    )
    tables.add("synthetic.riddle", {"record_id": "r1", "persona_id": "a", "text": "plain"})
    tables.add("synthetic.poem", {"record_id": "o1", "persona_id": "a", "text": "first"})
    tables.add("synthetic.poem", {"record_id": "o2", "persona_id": "b", "text": "second"})
    tables.add("synthetic.poem", {"record_id": "o3", "persona_id": "b"}, shard="s2")
    sql = read_sql("cli/sample_records")
    matches = tables.rows(sql, shards=["s1"], count=3)
    assert matches == [
        ("poem", "second", None, ["root", "related"]),
        ("riddle", "plain", None, ["root"]),
    ]
    assert tables.rows(sql, shards=["s1"], count=1) == matches[:1]


def test_spending_is_unknown_as_soon_as_one_price_is(tables: Tables) -> None:
    sql = read_sql("cli/spending")
    assert tables.rows(sql, shards=["s1"]) == [(0, 0, 0, 0)]
    call = {"stage": "one", "model": "m", "tokens_in": 10, "tokens_out": 5}
    tables.add("llm.calls", {**call, "call_key": "a", "cost_usd": 0.5})
    tables.add("llm.calls", {**call, "call_key": "b", "cost_usd": 0.25})
    tables.add("llm.calls", {**call, "call_key": "c", "cost_usd": None, "shard": "s2"})
    assert tables.rows(sql, shards=["s1"]) == [(2, 20, 10, 0.75)]
    assert tables.rows(sql, shards=["s1", "s2"]) == [(3, 30, 15, None)]
