"""The statements of the stages and of the command line, each on a few rows."""

from datetime import timedelta
from threading import Thread

import polars as pl

from assets.personas import CANDIDATES_SQL, DOCUMENTS_SQL, EXTRACTED_SQL, RELATED_SQL
from persona_pipeline.hub.decisions import CANDIDATE_COUNTS_SQL
from persona_pipeline.hub.state import DECIDED_SHARDS_SQL
from persona_pipeline.sql import fetch, read_sql, sql_names
from persona_pipeline.store.migrations import COLUMNS_SQL, VERSIONS_SQL
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
