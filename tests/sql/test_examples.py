"""The example queries, each on a small database written out by hand, and from the command line."""

import csv
import io
import json
import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from persona_pipeline.cli.main import cli
from persona_pipeline.cli.sql import example_names, read_example
from persona_pipeline.errors import PipelineError
from persona_pipeline.store.store import Store
from persona_pipeline.synthesis.domain import load_domains
from persona_pipeline.synthesis.tables import table_columns
from tests.sql.conftest import MOMENT, Tables

SINGER, HAND, DRESSER = "A singer at the opera.", "A stage hand who lifts.", "A singer's dresser."
PAGES = [("d1", "Arts", "Opera"), ("d2", "Arts", "Locks"), ("d3", "Trade", "Salt")]
HUB = [("p1", SINGER, 0), ("p2", HAND, 0), ("q1", DRESSER, 1)]
STAGES = [("corpus", 3, 3), ("text_to_persona", 3, 5), ("deduplication", 4, 4)]
BOUGHT = {
    "a": ("text_to_persona", 0.25, "run-1"),
    "b": ("text_to_persona", 0.25, "run-1"),
    "f": ("persona_to_persona", 0.5, "run-1"),
    "g": ("synthetic.instruction", 0.5, "run-1"),
    "h": ("synthetic.instruction", 0.25, "run-2"),
    "i": ("synthetic.riddle", None, "run-3"),
}


def tell_of_pages(tables: Tables) -> None:
    """Three pages: one with three personas in the hub, one with a duplicate, one with a bad one."""
    tables.add("corpus.shards", {"shard_number": 0, "row_count": 3})
    tables.add(
        "corpus.documents",
        *(
            {"document_id": page, "topic": topic, "title": title, "url": f"https://e.org/{page}"}
            for page, topic, title in PAGES
        ),
        source="pages",
        license="CC0",
        char_count=300,
    )
    tables.add(
        "personas.extracted",
        {"persona_id": "p1", "document_id": "d1", "persona": SINGER, "call_key": "a"},
        {"persona_id": "p2", "document_id": "d1", "persona": HAND, "call_key": "b"},
        {"persona_id": "p3", "document_id": "d2", "persona": SINGER, "call_key": "a"},
        {"persona_id": "p4", "document_id": "d3", "persona": "I sell salt.", "call_key": "b"},
    )
    tables.add(
        "personas.related",
        {"persona_id": "q1", "parent_id": "p1", "root_id": "p1", "persona": DRESSER},
        hop=1,
        call_key="f",
    )
    tables.add(
        "personas.rejected",
        {"stage": "quality_rules", "persona_id": "p4", "reason": "first_person", "detail": "I"},
        {"stage": "text_to_persona", "persona_id": "p5", "reason": "call_failed", "detail": "503"},
    )
    tables.add("personas.candidates", {"persona_id": "p3", "persona": SINGER})
    tables.add("personas.duplicates", {"persona_id": "p3", "kept_id": "p1", "layer": "exact"})
    tables.connection.execute("update personas.duplicates set similarity = 1, threshold = 0.9")
    for person, text, hop in HUB:
        tables.add("personas.candidates", {"persona_id": person, "persona": text})
        hub = {"persona_id": person, "persona": text, "hop": hop, "root_document_id": "d1"}
        tables.add("personas.hub", {**hub, "origin": "told"})


def tell_of_records(tables: Tables) -> None:
    """Two requests that are kept, one that repeats, a riddle turned away, and what all cost."""
    tables.add(
        "synthetic.instruction",
        {"record_id": "r1", "persona_id": "p1", "instruction": "How do I rest?", "call_key": "g"},
        {"record_id": "r2", "persona_id": "q1", "instruction": "Which thread?", "call_key": "h"},
        {"record_id": "r3", "persona_id": "q1", "instruction": "Which thread", "call_key": "h"},
        response="Sleep.",
        text="A request.",
    )
    tables.add("synthetic.duplicates", {"domain": "instruction", "record_id": "r3"})
    tables.add(
        "synthetic.rejected",
        {"domain": "riddle", "persona_id": "p2", "reason": "failed_check", "detail": "no answer"},
        answer="{}",
        call_key="i",
    )
    for number, (stage, input_count, rows_in) in enumerate(STAGES):
        row = {"stage": stage, "input_count": input_count, "rows_in": rows_in}
        tables.add("runs.stages", row, created_at=MOMENT + timedelta(minutes=number))
    for number, (key, (stage, cost, run)) in enumerate(BOUGHT.items()):
        call = {"call_key": key, "stage": stage, "cost_usd": cost, "run_id": run, "model": "m"}
        numbers = {"tokens_in": 10, "tokens_cached": 0, "tokens_out": 5, "attempts": 1}
        moment = MOMENT + timedelta(minutes=number)
        tables.add("llm.calls", {**call, **numbers, "status": "ok", "created_at": moment})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with a database that holds the story, and its snapshot."""
    folder = tmp_path_factory.mktemp("data")
    store = Store(folder / "pipeline.duckdb", folder / "published.duckdb")
    store.migrate()
    store.add_table("synthetic.instruction", table_columns(load_domains()["instruction"]))
    with store.transaction() as connection:
        tell_of_pages(Tables(connection))
        tell_of_records(Tables(connection))
    store.publish()
    return folder


@pytest.fixture
def snapshot(folder: Path) -> Iterator[Tables]:
    """The snapshot, as a user opens it."""
    with Store(folder / "published.duckdb", folder / "none").connect(read_only=True) as connection:
        yield Tables(connection)


EXPECTED: dict[str, tuple[list[str], list[tuple[Any, ...]]]] = {
    "rows_ended": (
        ["stage", "rows_in", "rows_kept", "rows_rejected", "rows_duplicate", "rows_failed"],
        [
            ("corpus", 3, 3, 0, 0, 0),
            ("text_to_persona", 5, 4, 0, 0, 1),
            ("deduplication", 4, 3, 0, 1, 0),
        ],
    ),
    "record_to_page": (
        ["domain", "record_id", "persona_path", "title", "url", "license", "model"],
        [
            ("instruction", "r1", [SINGER], "Opera", "https://e.org/d1", "CC0", "m"),
            ("instruction", "r2", [SINGER, DRESSER], "Opera", "https://e.org/d1", "CC0", "m"),
        ],
    ),
    "shards_behind": (["shard", "source", "stages", "records_without_persona"], []),
    "removed_personas": (
        ["persona", "keeper", "layer", "similarity", "threshold", "keeper_shard", "persona_id"],
        [(SINGER, SINGER, "exact", 1.0, 0.9, "s1", "p3")],
    ),
    "answers_turned_away": (
        ["stage", "reason", "answers", "stage_ratio", "example_detail", "example_answer"],
        [
            ("quality_rules", "first_person", 1, 1.0, "I", None),
            ("synthetic.riddle", "failed_check", 1, 1.0, "no answer", "{}"),
            ("text_to_persona", "call_failed", 1, 1.0, "503", None),
        ],
    ),
    "cost_per_kept": (
        ["stage", "calls", "kept_rows", "tokens_out", "cost_usd", "usd_per_kept"],
        [
            ("synthetic.instruction", 2, 2, 10, 0.75, 0.375),
            ("persona_to_persona", 1, 1, 5, 0.5, 0.5),
            ("text_to_persona", 2, 2, 10, 0.5, 0.25),
            ("synthetic.riddle", 1, 0, 5, None, None),
        ],
    ),
    "cost_over_runs": (
        ["run_id", "calls", "cost_usd", "records", "usd_per_record", "usd_per_record_so_far"],
        [
            ("run-1", 4, 1.5, 1, 1.5, 1.5),
            ("run-2", 1, 0.25, 1, 0.25, 0.875),
            ("run-3", 1, None, 0, None, None),
        ],
    ),
    "documents_without_persona": (
        ["topic", "title", "personas", "ends", "document_id"],
        [
            ("Arts", "Locks", 1, ["duplicate"], "d2"),
            ("Trade", "Salt", 1, ["first_person"], "d3"),
        ],
    ),
    "personas_without_record": (
        ["persona", "turned_away", "topic", "persona_id"],
        [(HAND, ["riddle: failed_check"], "Arts", "p2")],
    ),
    "topics_in_hub": (
        ["topic", "documents", "personas_in_hub", "records", "hub_ratio", "representation"],
        [("Arts", 2, 3, 2, 1.0, 1.5), ("Trade", 1, 0, 0, 0.0, 0.0)],
    ),
    "training_file": (
        ["messages"],
        [
            ([{"role": "user", "content": said}, {"role": "assistant", "content": "Sleep."}],)
            for said in ("How do I rest?", "Which thread?")
        ],
    ),
    "search_personas": (
        ["persona", "topic", "title", "url"],
        [(SINGER, "Arts", "Opera", "https://e.org/d1")],
    ),
}


@pytest.mark.parametrize("name", example_names())
def test_an_example_answers_its_question_from_the_snapshot(name: str, snapshot: Tables) -> None:
    columns, expected = EXPECTED[name]
    matches = snapshot.table(read_example(name), columns)
    assert [tuple(row[column] for column in columns) for row in matches] == expected


@pytest.mark.parametrize("name", example_names())
def test_an_example_begins_with_its_question_and_says_what_a_row_is(name: str) -> None:
    sql = read_example(name)
    assert re.match(r"-- [^\n]+\?\n-- One row per .*reads: ", sql, re.DOTALL)
    assert re.match(r"\s*(?:with|select)\b", re.sub(r"(?m)^--.*", "", sql)), "a SELECT, no more"
    assert "$" not in sql


def test_a_document_that_gave_nothing_yet_is_one_without_a_persona(tables: Tables) -> None:
    tables.add("corpus.documents", *({"document_id": name} for name in ("d1", "d2", "d3")))
    tables.add(
        "personas.extracted",
        {"persona_id": "p2", "document_id": "d2"},
        {"persona_id": "p3", "document_id": "d3"},
    )
    tables.add("personas.hub", {"persona_id": "p3"})
    matches = tables.table(read_example("documents_without_persona"), ["document_id", "ends"])
    assert matches == [
        {"document_id": "d1", "ends": ["no_persona"]},
        {"document_id": "d2", "ends": ["not_decided"]},
    ]


def test_shards_are_behind_where_an_input_has_changed_or_a_persona_has_left(tables: Tables) -> None:
    for number, shard in enumerate(("s1", "s2", "s3")):
        tables.add("corpus.shards", {"shard": shard, "shard_number": number, "source_spec": "p"})
        tables.add("personas.hub", {"shard": shard, "persona_id": f"p{shard}"})
    asked = {"stage": "synthetic.riddle", "input_count": 1, "rows_in": 1}
    tables.add("runs.stages", asked)
    tables.add("runs.stages", *({**asked, "shard": s, "input_count": 2} for s in ("s2", "s3")))
    written = [("r1", "ps1", "s1"), ("r2", "gone", "s3"), ("r3", "ps3", "s3")]
    tables.add(
        "synthetic.riddle",
        *({"record_id": r, "persona_id": p, "shard": shard} for r, p, shard in written),
    )
    columns = ["shard", "stages", "records_without_persona"]
    assert tables.table(read_example("shards_behind"), columns) == [
        {"shard": "s2", "stages": ["synthetic.riddle"], "records_without_persona": 0},
        {"shard": "s3", "stages": ["synthetic.riddle"], "records_without_persona": 1},
    ]


def run_sql(folder: Path, *arguments: str, columns: int = 160) -> Result:
    return CliRunner().invoke(
        cli, ["sql", *arguments, "--data-dir", str(folder)], env={"COLUMNS": str(columns)}
    )


def test_the_training_file_is_written_as_one_object_a_line(folder: Path) -> None:
    lines = run_sql(folder, "--jsonl", "--example", "training_file").output.splitlines()
    assert [json.loads(line) for line in lines] == [
        {"messages": row[0]} for row in EXPECTED["training_file"][1]
    ]


@pytest.mark.parametrize("form", ["--jsonl", "--csv", "--lines", ""])
def test_no_control_character_is_printed(folder: Path, form: str) -> None:
    query = "select concat('a', chr(27), '[2Jb', chr(155), '31m', chr(127), chr(13), chr(0)) as x"
    printed = run_sql(folder, *([form] if form else []), query).output
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", printed)
    assert "[2Jb" in printed
    if form == "--jsonl":
        assert json.loads(printed) == {"x": "a\x1b[2Jb\x9b31m\x7f\r\x00"}


def test_numbers_of_any_width_and_lists_are_printed_as_such(folder: Path) -> None:
    columns = "sum(range) as total, 1.5::decimal(4, 1) as price, [1, null] as some"
    query = f"select {columns}, date '2026-01-02' as day"
    printed = run_sql(folder, "--jsonl", f"{query} from range(3000000000, 3000000003);").output
    assert json.loads(printed) == {
        "total": 9_000_000_003,
        "price": 1.5,
        "some": [1, None],
        "day": "2026-01-02",
    }


def test_a_result_without_rows_prints_no_line(folder: Path) -> None:
    assert run_sql(folder, "--jsonl", "select 1 as one where false").output == ""


def test_the_command_runs_an_example_and_lists_all(folder: Path) -> None:
    matches = run_sql(folder, "--csv", "--example", "removed_personas").output
    [row] = csv.DictReader(io.StringIO(matches))
    assert (row["keeper"], row["persona_id"]) == (SINGER, "p3")
    listed = run_sql(folder, "--examples").output.splitlines()
    assert [line.split()[0] for line in listed] == example_names()
    assert listed[-1].endswith("as chat messages?")


def test_the_command_names_the_examples_and_takes_one_question_only(folder: Path) -> None:
    wrong = run_sql(folder, "--example", "none")
    assert isinstance(wrong.exception, PipelineError)
    assert "unknown example 'none'" in str(wrong.exception)
    both = run_sql(folder, "select 1", "--example", "rows_ended")
    assert (both.exit_code, "either QUERY or --example" in both.output) == (2, True)
    both = run_sql(folder, "select 1", "--csv", "--jsonl")
    assert (both.exit_code, "either --csv or --jsonl" in both.output) == (2, True)


WIDE = "select " + ", ".join(f"'value {number}' as c{number}" for number in range(12))


def test_a_few_rows_that_are_too_wide_are_printed_a_line_per_value(folder: Path) -> None:
    assert "│ value 11 │" in run_sql(folder, WIDE).output
    query = f"{WIDE}, null as nothing, e'one\\ntwo\\x1b' as more"
    lines = run_sql(folder, query, columns=60).output
    assert re.findall(r"^c\d+ +(value \d+)", lines, re.MULTILINE) == [
        f"value {number}" for number in range(12)
    ]
    assert re.search(r"^nothing +null *\nmore +one *\n +two *$", lines, re.MULTILINE)


def test_what_is_no_select_is_printed_by_lines_and_as_objects_too(folder: Path) -> None:
    lines = run_sql(folder, "show tables", "--lines").output
    objects = run_sql(folder, "show tables", "--jsonl").output.splitlines()
    names = [json.loads(line)["name"] for line in objects]
    assert re.findall(r"^name +(\w+)", lines, re.MULTILINE) == names
    assert "schema_migrations" in names
    assert "result_rows" not in names
    assert run_sql(folder, "--lines", "select 1 where false").output == "0 rows\n"


def test_lists_and_structs_are_json_in_comma_separated_values(folder: Path) -> None:
    query = """select ['a, b', 'c'] as l, {'x': 1} as "o""o", 'p, q' as t"""
    [row] = csv.DictReader(io.StringIO(run_sql(folder, "--csv", query).output))
    assert (json.loads(row["l"]), json.loads(row['o"o'])) == (["a, b", "c"], {"x": 1})
    assert row["t"] == "p, q"
    assert run_sql(folder, "--csv", "select [1] as a, 2 as a").output == "a,a_1\n[1],2\n"
    assert run_sql(folder, "--csv", "select [1] as a, 2 as A").output == "a,A_1\n[1],2\n"


def test_a_domain_that_no_run_had_is_named(folder: Path) -> None:
    wrong = run_sql(folder, "from synthetic.math")
    assert str(wrong.exception) == "there is no synthetic.math yet: no run had the domain math"
    assert "nothing_here does not exist" in str(run_sql(folder, "from nothing_here").exception)
    assert "synthetic.instruction" in str(run_sql(folder, "from instruction").exception)


def test_data_that_reads_like_the_end_of_a_wide_table_is_data(folder: Path) -> None:
    shown = run_sql(folder, "select '12 columns (3 shown)' as a").output
    assert "│ 12 columns (3 shown) │" in shown


def test_many_rows_that_are_too_wide_are_a_table_that_says_what_it_hides(folder: Path) -> None:
    shown = run_sql(folder, f"{WIDE} from range(11)", columns=60).output
    assert re.search(r"\n\d of 12 columns fit: .* --lines or --csv", shown)
    lines = run_sql(folder, f"{WIDE} from range(201)", "--lines", columns=60).output
    assert lines.count("c11") == 200
    assert "The first 200 rows: --csv and --jsonl print all." in lines
