"""Each file of sql/dedup: it binds against empty tables, and gives the rows written out here."""

from dataclasses import dataclass, field
from pathlib import Path

import duckdb
import pytest

from persona_pipeline import sql_files
from persona_pipeline.dedup import tokenizer
from persona_pipeline.sql_files import read_sql

FOLDER = Path(sql_files.__file__).parent.parent / "sql" / "dedup"

TABLES = {
    "candidates": "persona_id varchar, persona varchar, shard_number bigint",
    "normalized": (
        "persona_id varchar, shard_number bigint, tokens varchar[], normalized_text varchar"
    ),
    "priorities": "priority bigint, persona_id varchar",
    "exact": "later bigint, earlier bigint, similarity double",
    "words": "priority bigint, word varchar",
    "vocabulary": "word varchar, word_rank integer",
    "word_sets": "priority bigint, size integer, word_ranks integer[]",
    "combinations": "size integer, is_probe boolean, level tinyint, positions integer[]",
    "keys": "priority bigint, size integer, is_probe boolean, combination_key ubigint",
    "candidate_pairs": "earlier bigint, later bigint",
    "pairs": "earlier bigint, later bigint, similarity double",
    "undecided": "earlier bigint, later bigint",
    "beaten": "later bigint",
    "removed": "later bigint",
}


@dataclass(frozen=True, slots=True)
class Case:
    """The rows of the tables that a file reads, and the rows that it gives."""

    given: dict[str, str]
    rows: list[tuple[object, ...]]
    params: dict[str, float] = field(default_factory=dict)


CASES = {
    "normalized": Case(
        {"candidates": "('a', 'The CAT, the hat!', 1), ('b', '?!', 2)"},
        [("a", 1, ["the", "cat", "the", "hat"], "the cat the hat"), ("b", 2, [], "?!")],
    ),
    "exact": Case(
        {
            "normalized": "('a', 1, ['x'], 'x'), ('b', 1, ['x'], 'x'), ('c', 2, ['y'], 'y')",
            "priorities": "(1, 'a'), (0, 'b'), (2, 'c')",
        },
        [(1, 0, 1.0)],
    ),
    "words": Case(
        {
            "normalized": "('a', 1, ['x', 'y', 'x'], ''), ('b', 1, ['x'], ''), ('c', 1, [], '')",
            "priorities": "(0, 'a'), (1, 'b'), (2, 'c')",
            "exact": "(1, 0, 1.0)",
        },
        [(0, "x"), (0, "y")],
    ),
    "vocabulary": Case(
        {"words": "(0, 'b'), (1, 'b'), (0, 'c'), (1, 'a')"},
        [("a", 1), ("b", 3), ("c", 2)],
    ),
    "word_sets": Case(
        {"words": "(0, 'a'), (0, 'b'), (1, 'b')", "vocabulary": "('a', 2), ('b', 1)"},
        [(0, 2, [1, 2]), (1, 1, [1])],
    ),
    "candidate_pairs": Case(
        {
            "keys": "(3, 10, true, 7), (1, 9, false, 7), (2, 8, false, 7), (4, 10, false, 7),"
            " (3, 10, false, 7), (1, 9, false, 7), (5, 10, true, 8)"
        },
        [(1, 3)],
        {"min_similarity": 0.9},
    ),
    "pairs": Case(
        {
            "candidate_pairs": "(0, 1), (0, 2)",
            "word_sets": "(0, 2, [1, 2]), (1, 3, [1, 2, 3]), (2, 2, [2, 4])",
        },
        [(0, 1, 2 / 3)],
        {"min_similarity": 0.5},
    ),
    "beaten": Case({"undecided": "(0, 1), (1, 2), (2, 3)"}, [(1,)]),
    "undecided": Case(
        {"undecided": "(0, 1), (1, 2), (2, 3), (4, 5)", "beaten": "(1), (5)"}, [(2, 3)]
    ),
    "keepers": Case(
        {
            "pairs": "(0, 3, 0.8), (1, 3, 0.95), (2, 3, 0.9), (0, 1, 0.8), (0, 4, 0.7)",
            "removed": "(1), (3)",
        },
        [(1, 0, 0.8), (3, 2, 0.9)],
    ),
}


def connect(given: dict[str, str] | None = None) -> duckdb.DuckDBPyConnection:
    conn = duckdb.connect()
    for table, columns in TABLES.items():
        conn.execute(f"create table {table} ({columns})")
        if given and table in given:
            conn.execute(f"insert into {table} values {given[table]}")
    return conn


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.sql")))
def test_a_file_binds_against_empty_tables(name: str) -> None:
    query = read_sql(f"dedup/{name}")
    params = {"min_similarity": 0.9} if "$min_similarity" in query else {}
    with connect() as conn:
        assert conn.execute(f"explain {query}", params).fetchall()
        assert conn.execute(query, params).fetchall() == []


@pytest.mark.parametrize("name", CASES)
def test_a_file_gives_the_rows_of_its_example(name: str) -> None:
    case = CASES[name]
    with connect(case.given) as conn:
        assert sorted(conn.execute(read_sql(f"dedup/{name}"), case.params).fetchall()) == case.rows


def test_two_personas_get_the_same_key_for_the_same_words() -> None:
    given = {
        "word_sets": "(0, 3, [1, 2, 5]), (1, 3, [1, 2, 9]), (2, 4, [3, 4, 5, 6])",
        "combinations": "(3, true, 2, [1, 2]), (3, false, 2, [1, 2]), (3, true, 1, [1])",
    }
    with connect(given) as conn:
        rows = conn.execute(read_sql("dedup/keys")).fetchall()

    keys = {(priority, is_probe): set[int]() for priority, _, is_probe, _ in rows}
    for priority, _, is_probe, key in rows:
        keys[priority, is_probe].add(key)
    assert len(rows) == 6
    assert keys[0, True] == keys[1, True]
    assert keys[0, False] == keys[1, False] < keys[0, True]


def test_every_file_has_an_example_or_a_test_of_its_own() -> None:
    assert {path.stem for path in FOLDER.glob("*.sql")} == {*CASES, "keys"}


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.sql")), ids=lambda path: path.stem)
def test_a_file_says_what_a_row_is_and_what_it_reads(path: Path) -> None:
    first, second, *_ = path.read_text(encoding="utf-8").splitlines()

    assert first.startswith("-- One row per ")
    assert second.startswith("-- reads: ")
    assert "   params: " in second


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("Élan e\u0301lan", ["élan", "élan"]),
        ("a_b c-d 3½ x²", ["a_b", "c", "d", "3½", "x²"]),
        ("العَرَبِيَّة لغة", ["العَرَبِيَّة", "لغة"]),
        ("नमस्ते दुनिया", ["नमस्ते", "दुनिया"]),
        ("我喜欢数学\uff0c也喜欢音乐", ["我喜欢数学", "也喜欢音乐"]),
        ("👩‍🔬 chemist 🧪", ["chemist"]),
        ("before\x00été after", ["before", "été", "after"]),
        ("", []),
    ],
)
def test_tokenizer_version_1_splits_as_written_here(text: str, tokens: list[str]) -> None:
    assert tokenizer.TOKENIZER_VERSION == 1
    with connect() as conn:
        conn.execute("insert into candidates values ('a', $text, 1)", {"text": text})
        rows = conn.execute(read_sql("dedup/normalized")).fetchall()

    assert [row[2] for row in rows] == [tokens]


def test_an_unknown_file_is_named_in_the_error() -> None:
    with pytest.raises(FileNotFoundError, match="dedup/no_such_file"):
        read_sql("dedup/no_such_file")
