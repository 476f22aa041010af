"""The marts, each on a few rows written out by hand."""

from datetime import timedelta
from typing import Any

import pytest

from tests.sql.conftest import MOMENT, Tables

STAGES = [
    {"stage": "corpus", "input_count": 3, "rows_in": 3},
    {"stage": "text_to_persona", "input_count": 2, "rows_in": 4},
    {"stage": "persona_to_persona", "input_count": 2, "rows_in": 2},
    {"stage": "quality_rules", "input_count": 3, "rows_in": 3},
    {"stage": "deduplication", "input_count": 2, "rows_in": 2},
    {"stage": "synthetic.riddle", "input_count": 1, "rows_in": 1},
]
FUNNEL = "select * exclude (run_id, created_at) from marts.funnel"


@pytest.fixture
def filled(tables: Tables) -> Tables:
    """One shard, all stages: some rows of every kind of end."""
    tables.add("corpus.shards", {"shard_number": 0, "row_count": 3})
    tables.add("corpus.documents", {"document_id": "d1"}, {"document_id": "d2"})
    tables.add("corpus.rejected", {"document_id": "d3", "reason": "too_short"})
    tables.add("personas.extracted", {"persona_id": "p1"}, {"persona_id": "p2"})
    tables.add(
        "personas.rejected",
        {"stage": "text_to_persona", "reason": "call_failed"},
        {"stage": "text_to_persona", "reason": "invalid_answer"},
        {"stage": "persona_to_persona", "reason": "call_failed"},
        {"stage": "quality_rules", "reason": "too_long"},
    )
    tables.add("personas.related", {"persona_id": "p3", "parent_id": "p1", "root_id": "p1"})
    tables.add("personas.candidates", {"persona_id": "p1"}, {"persona_id": "p3"})
    tables.add("personas.duplicates", {"persona_id": "p3", "kept_id": "p1", "layer": "exact"})
    tables.add("personas.hub", {"persona_id": "p1"})
    tables.add("synthetic.riddle", {"record_id": "r1", "persona_id": "p1"})
    for number, stage in enumerate(STAGES):
        tables.add("runs.stages", stage, created_at=MOMENT + timedelta(minutes=number))
    return tables


def test_the_funnel_says_where_every_row_of_every_stage_ended(filled: Tables) -> None:
    assert filled.rows(FUNNEL) == [
        ("s1", "corpus", 3, 3, 2, 1, 0, 0, True, True),
        ("s1", "text_to_persona", 2, 4, 2, 1, 0, 1, True, True),
        ("s1", "persona_to_persona", 2, 2, 1, 0, 0, 1, True, True),
        ("s1", "quality_rules", 3, 3, 2, 1, 0, 0, True, True),
        ("s1", "deduplication", 2, 2, 1, 0, 1, 0, True, True),
        ("s1", "synthetic.riddle", 1, 1, 1, 0, 0, 0, True, True),
    ]


@pytest.mark.parametrize(
    ("lost", "stage"),
    [
        ("corpus.rejected", "corpus"),
        ("personas.extracted where persona_id = 'p2'", "text_to_persona"),
        ("personas.related", "persona_to_persona"),
        ("personas.rejected where reason = 'too_long'", "quality_rules"),
        ("personas.duplicates", "deduplication"),
        ("personas.hub", "deduplication"),
        ("synthetic.riddle", "synthetic.riddle"),
    ],
)
def test_the_funnel_finds_the_stage_that_lost_a_row(filled: Tables, lost: str, stage: str) -> None:
    filled.connection.execute(f"delete from {lost}")
    matches = filled.rows("select stage from marts.funnel where not is_balanced")
    assert matches == [(stage,)]


def test_the_funnel_finds_a_row_too_many(filled: Tables) -> None:
    filled.add("personas.hub", {"persona_id": "p1"})
    matches = filled.rows("select stage from marts.funnel where not is_balanced")
    assert matches == [("deduplication",)]


@pytest.mark.parametrize(
    ("changed", "behind"),
    [
        ("update corpus.shards set row_count = 4", ["corpus"]),
        ("insert into corpus.documents (shard) values ('s1')", ["text_to_persona"]),
        ("delete from corpus.documents", ["text_to_persona"]),
        (
            "insert into personas.extracted (shard) values ('s1')",
            ["persona_to_persona", "quality_rules"],
        ),
        ("delete from personas.related", ["quality_rules"]),
        ("delete from personas.candidates", ["deduplication"]),
        ("insert into personas.hub (shard) values ('s1')", ["synthetic.riddle"]),
        ("insert into personas.hub (shard) values ('s2')", []),
    ],
)
def test_the_funnel_finds_the_stages_that_are_behind(
    filled: Tables, changed: str, behind: list[str]
) -> None:
    filled.connection.execute(changed)
    matches = filled.rows("select stage from marts.funnel where not is_current")
    assert [stage for (stage,) in matches] == behind


def test_the_funnel_keeps_shards_apart(filled: Tables) -> None:
    filled.add("runs.stages", {"stage": "corpus", "input_count": 1, "rows_in": 1}, shard="s2")
    filled.add("corpus.shards", {"shard_number": 1, "row_count": 1}, shard="s2")
    filled.add("corpus.documents", {"document_id": "d9"}, shard="s2")
    matches = filled.rows(
        "select shard, is_balanced, is_current from marts.funnel where stage = 'corpus'"
    )
    assert matches == [("s1", True, True), ("s2", True, True)]


def add_chain(tables: Tables, hops: int) -> None:
    """A document, its persona, and so many hops of related ones, with a record of the last."""
    tables.add(
        "corpus.documents",
        {"document_id": "d1", "url": "https://e.org/1", "title": "Locks", "license": "CC0"},
        source="pages",
        topic="Crafts",
    )
    tables.add(
        "personas.extracted",
        {"persona_id": "p0", "document_id": "d1", "verb": "read", "persona": "person 0"},
    )
    for hop in range(1, hops + 1):
        tables.add(
            "personas.related",
            {
                "persona_id": f"p{hop}",
                "parent_id": f"p{hop - 1}",
                "root_id": "p0",
                "hop": hop,
                "relationship": f"friend {hop}",
                "persona": f"person {hop}",
            },
        )
    tables.add(
        "synthetic.riddle",
        {"record_id": "r1", "persona_id": f"p{hops}", "text": "A riddle.", "call_key": "c1"},
    )
    tables.add("llm.calls", {"call_key": "c1", "model": "fake/demo", "prompt_version": "v1"})


@pytest.mark.parametrize("hops", [0, 1, 3, 6])
def test_lineage_walks_from_a_record_to_its_page_over_any_number_of_hops(
    tables: Tables, hops: int
) -> None:
    add_chain(tables, hops)
    [row] = tables.connection.sql("from marts.lineage").pl().drop("created_at").to_dicts()
    assert row == {
        "shard": "s1",
        "domain": "riddle",
        "record_id": "r1",
        "text": "A riddle.",
        "variant": None,
        "persona_id": f"p{hops}",
        "persona": f"person {hops}",
        "hop": hops,
        "relationship": f"friend {hops}" if hops else None,
        "persona_path": [f"person {hop}" for hop in range(hops + 1)],
        "root_id": "p0",
        "verb": "read",
        "document_id": "d1",
        "title": "Locks",
        "url": "https://e.org/1",
        "source": "pages",
        "topic": "Crafts",
        "license": "CC0",
        "call_key": "c1",
        "model": "fake/demo",
        "prompt_version": "v1",
        "run_id": None,
    }


def test_several_records_of_one_persona_each_have_their_row(tables: Tables) -> None:
    add_chain(tables, 2)
    for domain, record in (("poem", "r2"), ("riddle", "r3")):
        tables.add(f"synthetic.{domain}", {"record_id": record, "persona_id": "p2"})
    matches = tables.table("from marts.lineage", ["domain", "record_id", "root_id", "hop"])
    assert matches == [
        {"domain": "poem", "record_id": "r2", "root_id": "p0", "hop": 2},
        {"domain": "riddle", "record_id": "r1", "root_id": "p0", "hop": 2},
        {"domain": "riddle", "record_id": "r3", "root_id": "p0", "hop": 2},
    ]


def test_a_record_whose_persona_is_gone_stays_visible_without_a_page(tables: Tables) -> None:
    tables.add("synthetic.riddle", {"record_id": "r1", "persona_id": "gone"})
    assert tables.table("from marts.lineage", ["record_id", "url"]) == [
        {"record_id": "r1", "url": None}
    ]


@pytest.fixture
def covered(tables: Tables) -> Tables:
    """Documents of three topics and two shards, which have come differently far."""
    tables.add(
        "corpus.documents",
        {"document_id": "d1", "topic": "Arts", "language": "en"},
        {"document_id": "d2", "topic": "Arts", "language": "en"},
        {"document_id": "d3", "topic": "Arts", "language": "en"},
        {"document_id": "d4", "topic": None, "language": "en"},
        {"document_id": "d5", "topic": "Trade", "language": "fr", "shard": "s2"},
        source="pages",
        char_count=100,
    )
    tables.add("runs.stages", {"stage": "text_to_persona", "input_count": 4, "rows_in": 5})
    tables.add("runs.stages", {"stage": "corpus", "input_count": 1, "rows_in": 1}, shard="s2")
    people = [("p1", "d1"), ("p2", "d1"), ("p3", "d2"), ("p4", "d4")]
    extracted = [{"persona_id": person, "document_id": page} for person, page in people]
    tables.add("personas.extracted", *extracted)
    related = [{"persona_id": name, "root_id": root} for name, root in (("q1", "p1"), ("q2", "p4"))]
    tables.add("personas.related", *related)
    tables.add("personas.hub", *({"persona_id": name} for name in ("p1", "q1", "q2")))
    tables.add(
        "synthetic.riddle",
        {"record_id": "r1", "persona_id": "q1"},
        {"record_id": "r2", "persona_id": "p2"},
    )
    tables.add("synthetic.poem", {"record_id": "o1", "persona_id": "q1"})
    return tables


def test_coverage_shows_topics_without_personas_and_personas_without_records(
    covered: Tables,
) -> None:
    matches = covered.rows("select * exclude (char_count) from marts.coverage")
    assert matches == [
        # documents: all, waiting, without a persona, not in the hub
        # personas: extracted, related, in the hub, without a record; records; means; shares
        ("pages", "Arts", "en", 3, 0, 1, 1, 3, 1, 2, 1, 3, 0.667, 1.5, 0.6, 0.6667),
        ("pages", "Trade", "fr", 1, 1, 0, 0, 0, 0, 0, 0, 0, 0.0, None, 0.2, 0.0),
        ("pages", None, "en", 1, 0, 0, 0, 1, 1, 1, 1, 0, 1.0, 0.0, 0.2, 0.3333),
    ]
    assert covered.rows("select sum(char_count) from marts.coverage") == [(500,)]


def test_coverage_adds_up_to_the_tables_also_where_a_shard_is_being_rewritten(
    covered: Tables,
) -> None:
    covered.connection.execute("delete from personas.extracted where persona_id = 'p1'")
    covered.connection.execute("delete from corpus.documents where document_id = 'd2'")
    covered.add("synthetic.poem", {"record_id": "o2", "persona_id": "gone"})
    [sums] = covered.rows(
        "select sum(documents), sum(personas_extracted), sum(personas_related),"
        " sum(personas_in_hub), sum(records) from marts.coverage"
    )
    assert sums == (4, 3, 2, 3, 4)
    [rest] = covered.rows(
        "select documents, personas_extracted, personas_in_hub, records"
        " from marts.coverage where source is null"
    )
    assert rest == (0, 1, 2, 3)


def call(key: str, stage: str, cost: float | None, **more: Any) -> dict[str, Any]:  # noqa: ANN401 - a row
    return {
        "call_key": key, "stage": stage, "model": "m", "status": "ok", "attempts": 1,
        "tokens_in": 10, "tokens_cached": 2, "tokens_out": 5, "cost_usd": cost,
        "latency_ms": 1000, **more,
    }  # fmt: skip


def test_cost_sums_what_was_bought_and_an_unknown_price_is_not_zero(tables: Tables) -> None:
    tables.add(
        "llm.calls",
        call("a", "one", 0.25),
        call("b", "one", 0.5, status="invalid", attempts=2, latency_ms=2000),
        call("c", "two", None),
        call("d", "two", 0.5),
        call("e", "one", 0.125, shard="s2"),
    )
    matches = tables.rows(
        "select * exclude (created_at, domain, kept_rows, usd_per_kept) from marts.cost"
    )
    assert matches == [
        ("s1", "one", "m", 2, 1, 3, 20, 4, 10, 0.75, 1.5),
        ("s1", "two", "m", 2, 2, 2, 20, 4, 10, None, 1.0),
        ("s2", "one", "m", 1, 1, 1, 10, 2, 5, 0.125, 1.0),
    ]


def test_cost_is_reported_per_persona_and_record_that_was_kept(tables: Tables) -> None:
    tables.add(
        "llm.calls",
        call("a", "text_to_persona", 0.25),
        call("b", "text_to_persona", 0.25),
        call("c", "persona_to_persona", 0.5),
        call("d", "synthetic.riddle", 0.5),
        call("e", "synthetic.poem", None),
    )
    tables.add(
        "personas.extracted",
        {"persona_id": "p1", "call_key": "a"},
        {"persona_id": "p2", "call_key": "b"},
    )
    tables.add(
        "personas.related",
        {"persona_id": "p3", "call_key": "c"},
        {"persona_id": "p4", "call_key": "c"},
    )
    tables.add("personas.hub", *({"persona_id": name} for name in ("p1", "p3", "p4")))
    tables.add("synthetic.riddle", {"record_id": "r1", "persona_id": "p1", "call_key": "d"})
    tables.add("synthetic.poem", {"record_id": "o1", "persona_id": "p1", "call_key": "e"})
    matches = tables.rows("select stage, domain, kept_rows, usd_per_kept from marts.cost")
    assert matches == [
        ("persona_to_persona", None, 2, 0.25),
        ("synthetic.poem", "poem", 1, None),
        ("synthetic.riddle", "riddle", 1, 0.5),
        ("text_to_persona", None, 1, 0.5),
    ]


def test_samples_are_five_records_of_each_domain_the_same_each_time(tables: Tables) -> None:
    for number in range(7):
        tables.add("synthetic.riddle", {"record_id": f"r{number}", "persona_id": "p"})
    tables.add("synthetic.poem", {"record_id": "o1", "persona_id": "p"})
    matches = tables.rows("select domain, record_id from marts.samples")
    assert [domain for domain, _ in matches] == ["poem"] + ["riddle"] * 5
    assert len(set(matches)) == 6
    assert tables.rows("select domain, record_id from marts.samples") == matches
