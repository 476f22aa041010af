"""Each file of sql/dedup: it binds against empty tables, and gives the rows written out here."""

from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

import duckdb
import pytest

from persona_pipeline import sql
from persona_pipeline.dedup.words.characters import RULES
from persona_pipeline.sql import read_sql

FOLDER = Path(sql.__file__).parent.parent / "sql" / "dedup"

PLACES = "place bigint, set_key ubigint, text_key ubigint"
PLACED = "place bigint, rank bigint, sequence_key ubigint, set_key ubigint, text_key ubigint"
TABLES = {
    "texts": "key ubigint, text varchar",
    "words": "key ubigint, word varchar",
    "fingerprints": PLACED,
    "pairs": (
        "layer varchar, first_key ubigint, second_key ubigint, "
        "similarity double, fuzzy_score double"
    ),
    "links": (
        "is_text boolean, from_key ubigint, to_key ubigint, layer varchar, "
        "similarity double, fuzzy_score double"
    ),
    "conflicting": PLACED,
    "undecided": PLACES,
    "kept_now": PLACES,
    "dominated": "place bigint",
    "kept": "place bigint",
    "removed": "place bigint",
    "exact_keys": "place bigint, layer varchar, layer_order bigint, key ubigint",
}
PARAMS: dict[str, float | str] = {
    "jaccard": 0.9,
    "fuzzy": 90.0,
    "fuzzy_from": 0.7,
    "cosine": 0.8,
    **RULES,
}
S, T = "(false,", "(true,"
"""A link of word sets, and one of texts."""


@dataclass(frozen=True, slots=True)
class Case:
    """The rows of the tables that a file reads, and the rows that it gives."""

    given: dict[str, str]
    rows: list[tuple[object, ...]]


CASES = {
    "words": Case(
        {"texts": "(1, 'The CAT, the hat!'), (2, '?!'), (3, '東京都のcat')"},
        [(1, "cat"), (1, "hat"), (1, "the"), (3, "cat"), (3, "京都"), (3, "東京"), (3, "都の")],
    ),
    "word_texts": Case(
        {"words": "(1, 'b'), (1, 'a'), (2, 'c'), (1, 'é')"}, [(1, "a b é"), (2, "c")]
    ),
    "links": Case(
        {
            "pairs": "('jaccard', 1, 2, 0.9, 10), ('jaccard', 1, 3, 0.7, 90),"
            " ('jaccard', 1, 4, 0.69, 99),"
            " ('jaccard', 1, 5, 0.8, 89), ('jaccard', 1, 6, 0.8, null),"
            " ('semantic', 1, 7, 0.8, null), ('semantic', 1, 8, 0.79, null)"
        },
        [
            (False, 1, 2, "jaccard", 0.9, 10),
            (False, 1, 3, "fuzzy", 0.7, 90),
            (False, 2, 1, "jaccard", 0.9, 10),
            (False, 3, 1, "fuzzy", 0.7, 90),
            (True, 1, 7, "semantic", 0.8, None),
            (True, 7, 1, "semantic", 0.8, None),
        ],
    ),
    "conflicting": Case(
        {
            "fingerprints": "(4, 2, 9, 1, 11), (3, 1, 9, 1, 12), (1, 1, 8, 2, 13),"
            " (2, 1, 7, 3, 10), (5, 1, 7, 4, 15), (6, 1, 7, 5, 16)",
            "links": f"{S} 2, 9, 'jaccard', 1, null), {T} 10, 9, 'semantic', 1, null),"
            f" {S} 15, 9, 'jaccard', 1, null), {T} 5, 9, 'semantic', 1, null)",
            "exact_keys": "(6, 'url', 0, 1)",
        },
        [
            (6, 1, 7, 5, 16),
            (1, 1, 8, 2, 13),
            (2, 1, 7, 3, 10),
            (3, 1, 9, 1, 12),
            (4, 2, 9, 1, 11),
        ],
    ),
    "kept_now": Case(
        {
            # 2 is of the set of 1; 3 is linked to 1, 4 to 3, 5 by its text to 2; 6 to nobody here;
            # 7 has the exact key of 6, and 8 one that only a decided row has.
            "undecided": "(1, 1, 11), (2, 1, 12), (3, 3, 13), (4, 4, 14), (5, 5, 15), (6, 6, 16),"
            " (7, 7, 17), (8, 8, 18)",
            "exact_keys": "(6, 'url', 0, 1), (7, 'url', 0, 1), (0, 'url', 0, 2), (8, 'url', 0, 2)",
            "links": f"{S} 1, 3, '', 1, null), {S} 3, 1, '', 1, null), {S} 3, 4, '', 1, null),"
            f" {T} 12, 15, '', 1, null), {S} 99, 6, '', 1, null), {S} 12, 6, '', 1, null)",
        },
        [(1, 1, 11), (6, 6, 16), (8, 8, 18)],
    ),
    "dominated": Case(
        {
            "undecided": "(1, 1, 11), (2, 1, 12), (3, 3, 13), (4, 4, 14), (5, 11, 3), (6, 6, 16),"
            " (7, 7, 17)",
            "exact_keys": "(1, 'url', 0, 1), (6, 'url', 0, 1), (7, 'url', 0, 2)",
            "kept_now": "(1, 1, 11)",
            "links": f"{S} 1, 3, '', 1, null), {T} 11, 14, '', 1, null), {S} 4, 1, '', 1, null)",
        },
        [(1,), (2,), (3,), (4,), (6,)],
    ),
    "still_undecided": Case(
        {
            "undecided": "(1, 1, 11), (2, 1, 12), (3, 3, 13), (4, 4, 14)",
            "dominated": "(2)",
            "kept_now": "(1, 1, 11), (4, 4, 14)",
        },
        [(3, 3, 13)],
    ),
    "keepers": Case(
        {
            "conflicting": "(1, 1, 1, 1, 11), (2, 1, 2, 2, 12), (3, 1, 3, 2, 13), (4, 1, 1, 1, 11),"
            " (5, 1, 5, 5, 15), (6, 1, 6, 6, 16), (7, 1, 7, 7, 17), (8, 1, 8, 8, 18),"
            " (9, 1, 1, 1, 19)",
            "kept": "(1), (2), (8)",
            "removed": "(3), (4), (5), (6), (7), (9)",
            # 9: the words of 1, and before them the exact key of 2.
            "exact_keys": "(2, 'url', 0, 1), (9, 'url', 0, 1)",
            # 5: 0.95 to 8, who comes later; 6: a layer before a similarity; 7: the first of two.
            "links": f"{S} 5, 1, 'jaccard', 0.9, 50), {S} 5, 8, 'jaccard', 0.95, 50),"
            f" {S} 6, 1, 'fuzzy', 0.8, 91), {T} 16, 12, 'semantic', 0.99, null),"
            f" {T} 17, 12, 'semantic', 0.8, null), {T} 17, 11, 'semantic', 0.8, null)",
        },
        [
            (3, 2, "jaccard", 1.0, 0.9, None),
            (4, 1, "exact", 1.0, 1.0, None),
            (5, 1, "jaccard", 0.9, 0.9, 50.0),
            (6, 1, "fuzzy", 0.8, 90.0, 91.0),
            (7, 1, "semantic", 0.8, 0.8, None),
            (9, 2, "url", 1.0, 1.0, None),
        ],
    ),
}


def connect(arguments: dict[str, str] | None = None) -> duckdb.DuckDBPyConnection:
    conn = duckdb.connect()
    for table, columns in TABLES.items():
        conn.execute(f"create table {table} ({columns})")
        if arguments and table in arguments:
            conn.execute(f"insert into {table} values {arguments[table]}")
    return conn


def header_of(query: str) -> list[str]:
    return list(takewhile(lambda line: line.startswith("--"), query.splitlines()))


def params_of(query: str) -> dict[str, float | str]:
    """Those that the file's header names: DuckDB takes no others."""
    words = header_of(query)[-1].partition("params:")[2].replace(",", " ").split()
    return {name: value for name, value in PARAMS.items() if f"${name}" in words}


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.sql")))
def test_a_file_binds_against_empty_tables(name: str) -> None:
    query = read_sql(f"dedup/{name}")
    with connect() as conn:
        assert conn.execute(f"explain {query}", params_of(query)).fetchall()
        assert conn.execute(query, params_of(query)).fetchall() == []


@pytest.mark.parametrize("name", CASES)
def test_a_file_gives_the_rows_of_its_example(name: str) -> None:
    query = read_sql(f"dedup/{name}")
    with connect(CASES[name].given) as conn:
        rows = conn.execute(query, params_of(query)).fetchall()

    assert sorted(rows, key=str) == sorted(CASES[name].rows, key=str)


def test_every_file_has_an_example() -> None:
    assert {path.stem for path in FOLDER.glob("*.sql")} == {*CASES}


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.sql")), ids=lambda path: path.stem)
def test_a_file_says_what_a_row_is_and_what_it_reads(path: Path) -> None:
    header = header_of(path.read_text(encoding="utf-8"))

    assert header[0].startswith("-- One row per ")
    assert header[-1].startswith("-- reads: ")
    assert "   params: " in header[-1]


def test_an_unknown_file_is_named_in_the_error() -> None:
    with pytest.raises(FileNotFoundError, match="dedup/no_such_file"):
        read_sql("dedup/no_such_file")
