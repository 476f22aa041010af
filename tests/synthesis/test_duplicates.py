"""Records that say the same: by their signature, by their words, across shards."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from persona_pipeline.store.stage_rows import StageRows
from persona_pipeline.store.store import Store
from persona_pipeline.synthesis.domain import Domain, load_domains
from persona_pipeline.synthesis.duplicates import deduplicate_records, find_record_duplicates
from persona_pipeline.synthesis.tables import table_columns, table_name
from tests.support.record_reference import keep_first

DOMAINS = load_domains()
TIDES = (
    "A harbour pilot guides 12 ships on each of 5 days and writes every one of them into a log. "
    "How many ships are in the log?"
)


def problem(
    record_id: str, text: str, shard: int = 1, solution: str = "Multiply."
) -> dict[str, Any]:
    fields = {"problem": text, "solution": solution, "answer": "60", "text": f"{text} {solution}"}
    return {"shard": f"s{shard}", "shard_number": shard, "record_id": record_id, **fields}


def tool(record_id: str, name: str, *parameters: str) -> dict[str, Any]:
    listed = [
        f'{{"name": "{each}", "type": "string", "description": "what", "required": true}}'
        for each in parameters
    ]
    return {
        "shard": "s1",
        "shard_number": 1,
        "record_id": record_id,
        "name": name,
        "description": f"{record_id} says it in other words",
        "parameters": f"[{', '.join(listed)}]",
        "returns": "something",
        "text": f"{record_id} as one text",
    }


def duplicates(domain: str, *records: dict[str, Any], threshold: float | None = 0.9) -> list[Any]:
    matches = find_record_duplicates(DOMAINS[domain], pl.DataFrame(records), threshold)
    return matches.sort("record_id").select("record_id", "kept_id", "layer").rows()


def test_a_problem_that_another_record_has_goes_whatever_its_solution() -> None:
    changed = TIDES.replace("every one", "each one")
    matches = duplicates("math", problem("a", TIDES), problem("b", TIDES, 2, "Count."))
    assert matches == [("b", "a", "exact")]
    assert duplicates("math", problem("a", TIDES), problem("b", changed, 2)) == [
        ("b", "a", "jaccard")
    ]


def test_without_a_threshold_all_problems_stay() -> None:
    rows = [problem("a", TIDES), problem("b", TIDES, 2)]
    assert duplicates("math", *rows, threshold=None) == []


def test_tools_with_the_same_name_and_parameters_are_one_whatever_they_say() -> None:
    matches = duplicates(
        "tool",
        tool("a", "Find Tide", "port", "date"),
        tool("b", "find_tide", "date", "port"),
        tool("c", "find_tide", "port"),
    )
    assert {layer for *_, layer in matches} == {"signature"}
    assert [{removed, kept} for removed, kept, _ in matches] == [{"a", "b"}]


def test_who_removed_a_record_is_kept_whatever_removed_the_record() -> None:
    matches = duplicates(
        "tool",
        tool("a", "find_tide", "port"),
        tool("b", "find_port", "tide"),
        tool("c", "find_port", "tide"),
        threshold=0.5,
    )
    kept = {"a", "b", "c"} - {removed for removed, *_ in matches}
    assert {keeper for _, keeper, _ in matches} <= kept


def test_a_signature_is_compared_as_it_stands_not_word_by_word() -> None:
    matches = duplicates(
        "tool",
        tool("a", "copy_a", "b"),
        tool("b", "b", "copy_a"),
        tool("c", "b", "copy_a"),
        threshold=None,
    )
    assert [{removed, keeper} for removed, keeper, _ in matches] == [{"b", "c"}]


def simple_tools(signature: str | None) -> Domain:
    """Compare tools by their description, and by this signature."""
    rules = {"text": "{{ description }}", "signature": signature}
    file = DOMAINS["tool"].file
    dedup = file.dedup.model_copy(update=rules)
    return replace(DOMAINS["tool"], file=file.model_copy(update={"dedup": dedup}))


@st.composite
def tool_rows(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Few names and words, so that many records have the same signature or similar texts."""
    rows = list[dict[str, Any]]()
    for number in range(draw(st.integers(0, 20))):
        words = draw(st.lists(st.sampled_from("abcde"), max_size=6))
        row = tool(f"r{number}", draw(st.sampled_from(["one", "two", "three", "four", "five"])))
        shard = draw(st.integers(1, 3))
        place = {"shard": f"s{shard}", "shard_number": shard}
        rows.append({**row, **place, "description": " ".join(words)})
    return rows


@given(
    tool_rows(),
    st.sampled_from([None, 0.4, 0.5, 0.75, 0.9, 1.0]),
    st.sampled_from(["{{ name }}", None]),
)
def test_records_go_as_a_walk_down_their_ranking_says(
    rows: list[dict[str, Any]], threshold: float | None, signature: str | None
) -> None:
    columns = ("record_id", "name", "description", "parameters", "returns", "text", "shard")
    schema = {**dict.fromkeys(columns, pl.String), "shard_number": pl.Int64}
    table = pl.DataFrame(rows, schema=schema)
    domain = simple_tools(signature)

    matches = find_record_duplicates(domain, table, threshold)

    expected = keep_first(
        [
            (
                row["record_id"],
                row["shard_number"],
                row["description"],
                row["name"] if signature else None,
            )
            for row in rows
        ],
        threshold,
    )
    assert matches.drop("shard").rows() == [
        (each.record_id, each.keepers[0], each.layer, each.similarity, each.threshold)
        for each in expected
    ]
    shard_of = {row["record_id"]: row["shard"] for row in rows}
    assert matches["shard"].to_list() == [shard_of[each.record_id] for each in expected]


def test_of_equally_similar_records_the_first_in_the_ranking_is_the_keeper() -> None:
    words = [f"word{number}" for number in range(20)]
    halves = [" ".join([*words, side]) for side in ("left", "right")]
    both = " ".join([*words, "left", "right"])
    rows = [problem("a", halves[0], 2), problem("z", halves[1], 1), problem("b", both, 3)]

    matches = find_record_duplicates(DOMAINS["math"], pl.DataFrame(rows), 0.95)

    assert matches.select("record_id", "kept_id", "layer").rows() == [("b", "z", "jaccard")]


def test_another_threshold_rewrites_the_earlier_shards_too(store: Store) -> None:
    words = [f"word{number}" for number in range(20)]
    texts = [" ".join(words), " ".join([*words[:18], "x", "y"]), " ".join([*words[:16], "x", "y"])]
    for shard, text in enumerate(texts[:2], start=1):
        write(store, shard, problem(f"r{shard}", text, shard))
    domain = DOMAINS["math"]
    for threshold in (0.7, 0.95, 0.7):
        matches = deduplicate_records(store, [domain], {"math": threshold}, "s2")
        store.replace(matches, [], run_id="r")
        expected = [("r2", "r1")] if threshold < 0.8 else []
        assert rows(store, "select record_id, kept_id from synthetic.duplicates") in (
            expected,
            [(kept, gone) for gone, kept in expected],
        )


def test_a_domain_without_records_has_no_duplicates() -> None:
    schema = dict.fromkeys(
        ("shard", "record_id", "text", "problem", "solution", "answer"), pl.String
    )
    nothing = pl.DataFrame(schema={**schema, "shard_number": pl.Int64})
    assert find_record_duplicates(DOMAINS["math"], nothing, 0.9).is_empty()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    result = Store(tmp_path / "pipeline.duckdb", tmp_path / "published.duckdb")
    result.migrate()
    result.add_table("synthetic.math", table_columns(DOMAINS["math"]))
    with result.transaction() as connection:
        connection.execute(
            "insert into corpus.shards (shard, shard_number) values ('s1', 1), ('s2', 2)"
        )
    return result


def write(store: Store, shard: int, *records: dict[str, Any]) -> None:
    domain = DOMAINS["math"]
    columns = ["shard", "shard_number"]
    rows = (
        pl.DataFrame(records).drop(columns) if records else pl.DataFrame(schema={"text": pl.String})
    )
    store.replace([StageRows(f"s{shard}", "t", {table_name(domain): rows})], [], run_id="r")
    matches = deduplicate_records(store, [domain], {}, f"s{shard}")
    store.replace(matches, [], run_id="r")


def rows(store: Store, sql: str) -> list[Any]:
    return store.query(sql).rows()


def test_the_view_of_records_leaves_duplicates_out_and_the_table_has_them(store: Store) -> None:
    write(store, 1, problem("a", TIDES))
    write(store, 2, problem("b", TIDES, 2), problem("c", TIDES[:60] + " What else?", 2))
    assert rows(store, "select record_id from synthetic.records order by 1") == [("a",), ("c",)]
    assert rows(store, "select count(*) from synthetic.math") == [(3,)]
    assert rows(store, "select domain, record_id, kept_id from synthetic.duplicates") == [
        ("math", "b", "a")
    ]


def test_an_earlier_shard_that_loses_its_record_gives_the_later_one_back(store: Store) -> None:
    write(store, 1, problem("a", TIDES))
    write(store, 2, problem("b", TIDES, 2))
    write(store, 1)
    assert rows(store, "select record_id from synthetic.records") == [("b",)]
