"""Searching personas and records: which are found, in what order, and what they come with."""

import math
import re

import duckdb
import pytest

from persona_pipeline.dedup.words.characters import SPACELESS_RULE, WORD_RULE
from persona_pipeline.sql import read_sql
from tests.sql.conftest import Tables

FOUND = "select persona_id from marts.search_personas($query)"


def add_personas(tables: Tables, **personas: str) -> None:
    rows = [{"persona_id": name, "persona": text} for name, text in personas.items()]
    tables.add("personas.hub", *rows)


def search(tables: Tables, query: str | None) -> list[str]:
    return [name for (name,) in tables.rows(FOUND, query=query)]


def test_rare_words_count_more_than_frequent_ones_and_short_texts_more_than_long_ones(
    tables: Tables,
) -> None:
    add_personas(
        tables,
        a="A nurse who works on the night ward of a small hospital in the mountains.",
        b="A night nurse.",
        c="A nurse who works by day.",
        d="A nurse who trains dogs.",
        e="A night porter.",
        f="A baker of rye bread.",
    )
    assert search(tables, "night nurse") == ["b", "e", "a", "d", "c"]
    assert search(tables, "night") == ["b", "e", "a"]


def test_the_score_is_that_of_the_formula(tables: Tables) -> None:
    add_personas(tables, a="salt salt", b="salt bread", c="rye bread")
    weight, mean_size = math.log(1 + (3 - 2 + 0.5) / (2 + 0.5)), 28 / 3
    expected = {
        name: weight * times * 2.2 / (times + 1.2 * (0.25 + 0.75 * size / mean_size))
        for name, times, size in (("a", 2, 9), ("b", 1, 10))
    }
    matches = tables.rows("select text_id, score from marts.scores('personas', 'salt')")
    assert dict(matches) == pytest.approx(expected)
    shown = tables.rows("select persona_id, score from marts.search_personas('salt')")
    assert shown == [(name, round(expected[name], 3)) for name in ("a", "b")]


def test_a_word_that_stands_twice_counts_more(tables: Tables) -> None:
    add_personas(tables, a="A salter of salt fish.", b="A maker of salt, salt.", c="A cooper, too.")
    assert search(tables, "salt") == ["b", "a"]


CASES = ["salt", "Salt.", "SALT", "sea-salt", "(salt)", "of\nsalt", "salt\u2014pepper", "Sált"]


@pytest.mark.parametrize("text", [*CASES, "sa\u0301lt"])
def test_a_word_is_found_whole_in_any_case_and_with_any_accent(tables: Tables, text: str) -> None:
    add_personas(tables, a=text, b="another")
    assert search(tables, "salt") == ["a"]
    assert search(tables, "SÁLT") == ["a"]


@pytest.mark.parametrize("text", ["salty", "basalt", "salt_2", "salts", "salt9", "s alt", "saltß"])
def test_a_part_of_a_word_is_not_found(tables: Tables, text: str) -> None:
    add_personas(tables, a=text)
    assert search(tables, "salt") == []


@pytest.mark.parametrize(
    ("text", "word"),
    [("boss", "s"), ("class", "s"), ("2011", "1"), ("haha", "ha"), ("all lls", "l"), ("sss", "s")],
)
def test_a_part_that_stands_twice_in_a_row_is_not_found(
    tables: Tables, text: str, word: str
) -> None:
    add_personas(tables, a=text)
    assert search(tables, word) == []


def test_a_word_inside_longer_ones_does_not_count(tables: Tables) -> None:
    add_personas(tables, a="A basalt salter, salty salt, unsalted.")
    add_personas(tables, b="A wallet waller, wetly salt, unwanted.")
    matches = tables.rows(
        "select count(*), count(distinct score) from marts.scores('personas', 'salt')"
    )
    assert matches == [(2, 1)]


@pytest.mark.parametrize("query", ["", " ", "''", '"', "%", "_", ".*", "\\", "xyzzy", None, "🚢"])
def test_a_query_without_a_word_that_is_there_finds_nothing(
    tables: Tables, query: str | None
) -> None:
    add_personas(tables, a='A salt maker\'s friend said: 100% "pure" \\o/ .*', b="(A)")
    assert search(tables, query) == []


@pytest.mark.parametrize("query", ["maker's", '"salt maker"', "salt; drop table x --", "salt salt"])
def test_signs_in_a_query_part_words_and_do_no_harm(tables: Tables, query: str) -> None:
    add_personas(tables, a="A salt maker's friend.", b="A baker.")
    assert search(tables, query) == ["a"]
    quoted = query.replace("'", "''")
    [row] = tables.rows(f"select persona_id from marts.search_personas('{quoted}')")
    assert row == ("a",)


def test_writing_without_spaces_is_found_wherever_it_stands(tables: Tables) -> None:
    add_personas(
        tables,
        a="一位在医院工作的护士。",
        b="一位老师和护士、护士。",
        c="夜班nurse护士长",
        d="A nurse.",
        e="病院で働く看護師",
    )
    assert sorted(search(tables, "护士")) == ["a", "b", "c"]
    assert search(tables, "护士")[0] == "b"
    assert search(tables, "医院工作") == ["a"]
    assert sorted(search(tables, "nurse")) == ["c", "d"]
    assert sorted(search(tables, "nurse医院")) == ["a", "c", "d"]
    assert search(tables, "看護師") == ["e"]


@pytest.mark.parametrize(
    ("text", "query"),
    [("Медсестра ночью", "МЕДСЕСТРА"), ("간호사 밤", "간호사"), ("قابلة", "قابلة")],
)
def test_other_scripts_are_cut_at_their_spaces(tables: Tables, text: str, query: str) -> None:
    add_personas(tables, a=text, b=f"x{text}x")
    assert search(tables, query) == ["a"]


@pytest.mark.parametrize(
    ("language", "text", "query", "is_found"),
    [
        ("German", "Müller", "muller", True),
        ("German", "Muller", "MÜLLER", True),
        ("French", "Élève à Orléans", "eleve", True),
        ("Spanish", "la niña", "nina", True),
        ("Vietnamese", "Y tá ở Huế", "hue", True),
        ("Vietnamese", "y ta\u0301", "tá", True),  # written with a mark of its own
        ("Polish", "Święto", "swieto", True),
        ("Turkish", "Çiftçi", "ciftci", True),
        ("Hindi", "लड़की नर्स है", "लड़की", True),
        ("Hindi", "लड़की नर्स है", "लड़का", False),  # a girl is no boy
        ("Hindi", "लड़की in Café Delhi", "cafe", True),
        ("Bengali", "তিনি শিক্ষক", "শিক্ষক", True),
        ("Bengali", "তিনি শিক্ষক", "শক্ষক", False),
        ("Japanese", "パン屋", "パン", True),
        ("Japanese", "パン屋", "ハン", False),  # bread is no ham
        ("Japanese", "ハ\u309aン屋", "パン", True),  # the same bread in two characters
        ("Thai", "ครูคนหนึ่ง", "ครู", True),
        ("Thai", "ครูคนหนึ่ง", "คร", True),  # writing without spaces is found anywhere ...
        ("Thai", "คร", "ครู", False),  # ... but what is sought has its vowel
        ("Russian", "мой район", "мой", True),
        ("Russian", "мой район", "мои", False),
        ("Russian", "мои\u0306 район", "мой", True),
        ("Greek", "γιατρός και", "γιατρός", True),
        ("Arabic", "مُدَرِّسة", "مُدَرِّسة", True),
        ("Korean", "빵집 주인", "빵집", True),
    ],
)
def test_accents_are_folded_on_latin_letters_only(
    tables: Tables, language: str, text: str, query: str, *, is_found: bool
) -> None:
    add_personas(tables, a=text, b="A porter.")
    assert search(tables, query) == (["a"] if is_found else []), language


def test_a_persona_comes_with_its_page(tables: Tables) -> None:
    page = {"document_id": "d1", "topic": "Trade", "title": "Salt", "url": "https://e.org/1"}
    tables.add("corpus.documents", page, {**page, "shard": "s2", "url": "https://e.org/2"})
    person = {"persona_id": "p1", "persona": "A salter.", "root_document_id": "d1", "hop": 1}
    tables.add("personas.hub", {**person, "origin": "persona_to_persona"})
    [row] = tables.connection.sql("from marts.search_personas('salter')").pl().to_dicts()
    assert row.pop("score") > 0
    assert row == {
        "persona_id": "p1",
        "persona": "A salter.",
        "origin": "persona_to_persona",
        "hop": 1,
        "shard": "s1",
        "topic": "Trade",
        "title": "Salt",
        "url": "https://e.org/1",
    }


def test_records_are_searched_by_themselves_and_come_with_persona_and_page(tables: Tables) -> None:
    tables.add("corpus.documents", {"document_id": "d1", "title": "Salt", "url": "https://e.org/1"})
    person = {"persona_id": "p1", "persona": "A salter.", "root_document_id": "d1"}
    tables.add("personas.hub", person)
    tables.add(
        "synthetic.riddle",
        {"record_id": "r1", "persona_id": "p1", "text": "What is white? Salt."},
        {"record_id": "r2", "persona_id": "p1", "text": "What is white? Salt!"},
        {"record_id": "r3", "persona_id": "gone", "text": "Salt and sea salt."},
        {"record_id": "r4", "persona_id": "p1", "text": "What is black?"},
    )
    tables.add("synthetic.duplicates", {"domain": "riddle", "record_id": "r2"})
    columns = ["record_id", "domain", "persona", "url"]
    assert tables.table("from marts.search_records('salt')", columns) == [
        {"record_id": "r3", "domain": "riddle", "persona": None, "url": None},
        {"record_id": "r1", "domain": "riddle", "persona": "A salter.", "url": "https://e.org/1"},
    ]
    assert tables.rows("from marts.search_personas('white')") == []


def test_equal_texts_come_in_the_order_of_their_ids(tables: Tables) -> None:
    add_personas(tables, c="Salt.", a="Salt.", b="Salt.")
    assert search(tables, "salt") == ["a", "b", "c"]


def test_a_collection_that_is_none_has_no_text(tables: Tables) -> None:
    add_personas(tables, a="salt")
    assert tables.rows("from marts.scores('others', 'salt')") == []


def test_words_and_scripts_are_those_of_deduplication() -> None:
    sql = read_sql("search/scores")
    scripts = SPACELESS_RULE.strip("[]")
    listed = re.findall(r"\\p\{Han\}[^\]]*", sql)
    assert listed == [scripts] * 3
    assert f"'{WORD_RULE}+'" in sql


def test_a_search_reads_the_database_it_is_made_in(database: duckdb.DuckDBPyConnection) -> None:
    result = database.sql(
        "select function_name, parameters from duckdb_functions()"
        " where schema_name = 'marts' order by all"
    ).fetchall()
    assert result == [
        ("scores", ["collection", "query"]),
        ("search_personas", ["query"]),
        ("search_records", ["query"]),
    ]
