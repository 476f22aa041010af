"""Every SQL statement binds against empty tables: no wrong column, table or parameter."""

import re
from pathlib import Path

import duckdb
import polars as pl
import pytest

from persona_pipeline import sql
from persona_pipeline.dedup.resolve import PAIRS
from persona_pipeline.sql import read_sql, sql_names
from tests.sql.conftest import Tables
from tests.sql.statements import ASSETS, MARK, PACKAGE, SUFFIX, sql_constants, text_constants

FOLDER = Path(sql.__file__).parent.parent / "sql"
FOLDERS = [
    "checks",
    "cli",
    "corpus",
    "llm",
    "marts",
    "personas",
    "plots",
    "quality",
    "runs",
    "search",
    "store",
]
LONGEST_CONSTANT = 6
"""Lines of a statement that may stand in the code; a longer one has a file."""
ELSEWHERE = {"dedup", "examples", "migrations"}
"""Those of dedup have their own scratch tables and tests; every test here runs the migrations."""
PARAMETERS = {
    "model": "m",
    "shard": "s1",
    "shards": ["s1"],
    "count": 3,
    "ngram": 3,
    "times": 3,
    "schema": "llm",
    "table": "calls",
    "files": ["journal.jsonl"],
    "keys": "a,b",
    "name": "diverse",
    "names": ["diverse"],
    "but": ["s1"],
    "place": "inbox",
    "places": ["inbox"],
    "stages": ["corpus"],
    "domain": "poem",
    "persona_id": "a",
    "prefix": "a",
    "query": "a",
    "collection": "records",
    "jaccard": 0.9,
    "fuzzy": 95.0,
    "fuzzy_from": 0.7,
    "cosine": 0.9,
    "outdated": ["s1"],
    "undecided": ["s1"],
    "has_journals": False,
    "language": None,
    "most_rejected": 0.5,
    "most_growth": 2.0,
    "min_count": 20,
    "far": 0.5,
    "few_words": 6,
    "many_words": 60,
    "few_record_words": 5,
    "most_unusual": 0.05,
    "sampled": 1000,
}
STATEMENTS = {
    **{name: read_sql(name) for folder in FOLDERS for name in sql_names(folder)},
    **sql_constants(),
}
BOUGHT = "select * exclude (run_id, created_at) from llm.calls"


@pytest.mark.parametrize("name", STATEMENTS)
def test_every_statement_binds_and_names_its_parameters(
    name: str, tables: Tables, tmp_path: Path
) -> None:
    (tmp_path / "journal.jsonl").touch()  # the working directory of every test
    sql = STATEMENTS[name]
    named = set(re.findall(r"\$([a-z_]+)", re.sub(r"--.*", "", sql)))
    tables.connection.register("texts", pl.DataFrame({"id": ["a"], "text": ["b"]}))
    wanted = pl.DataFrame({"shard": ["s1"], "persona_id": ["a"]})
    tables.connection.register("wanted_personas", wanted)
    tables.connection.register("wanted_sets", pl.DataFrame({"key": [1]}))
    places = pl.DataFrame({"shard": ["s1"], "persona_id": ["a"], "place": [0]})
    tables.connection.register("places", places)
    tables.connection.register("ranked_pairs", pl.DataFrame(schema=PAIRS))
    for table in ("bought", "stored"):
        tables.connection.execute(f"create temp table {table} as {BOUGHT}")
    plan = tables.connection.execute(
        f"explain {sql}", {parameter: PARAMETERS[parameter] for parameter in named}
    )
    assert plan.fetchall()
    for parameter in named:
        assert f"${parameter}" in re.sub(r"(?m)^[^-].*", "", sql), "not named in the first lines"


@pytest.mark.parametrize("name", STATEMENTS)
def test_every_statement_says_what_one_row_is_and_what_it_reads(name: str) -> None:
    sql = STATEMENTS[name]
    assert re.match(r"-- One row\b.*[.:]", sql)
    assert re.search(r"-- .*reads: ", sql)
    assert re.match(r"\s*(?:with|select)\b", re.sub(r"(?m)^--.*", "", sql)), "a SELECT, no more"


def test_a_statement_in_the_code_has_the_name_by_which_it_is_checked_here() -> None:
    misnamed = [
        f"{module}.{name}"
        for module, name, text in text_constants()
        if MARK in text and not name.endswith(SUFFIX)
    ]
    assert misnamed == []
    assert len(sql_constants()) >= 19


@pytest.mark.parametrize("name", sql_constants())
def test_a_statement_in_the_code_is_short_and_used_by_its_module(name: str) -> None:
    lines = [line for line in STATEMENTS[name].splitlines() if not line.startswith("--")]
    assert len(lines) <= LONGEST_CONSTANT
    *path, constant = name.split(".")
    root = ASSETS.parent if path[0] == ASSETS.name else PACKAGE
    module = root.joinpath(*path).with_suffix(".py").read_text(encoding="utf-8")
    assert len(re.findall(rf"\b{constant}\b", module)) > 1


def test_no_folder_of_statements_is_left_out() -> None:
    folders = {path.name for path in FOLDER.iterdir() if path.is_dir()}
    assert folders == {*FOLDERS, *ELSEWHERE}


def test_tables_have_no_keys_and_no_types_that_only_a_plain_file_has(tables: Tables) -> None:
    assert tables.rows("select constraint_text from duckdb_constraints()") == []
    assert tables.rows("select index_name from duckdb_indexes()") == []
    types = {kind for (kind,) in tables.rows("select distinct data_type from duckdb_columns()")}
    assert not [kind for kind in types if re.search(r"ENUM|\[\d+\]", kind)]


def test_every_table_says_shard_run_and_time(tables: Tables) -> None:
    matches = tables.rows(
        "select schema_name, table_name, list(column_name) from duckdb_columns()"
        " where schema_name in ('corpus', 'personas', 'synthetic', 'llm', 'runs')"
        " and not internal group by all"
    )
    assert len(matches) >= 15
    for schema, table, columns in matches:
        # a file may be in several shards
        own = {"files": {"place"}, "skipped": {"source"}}.get(table, {"shard"})
        assert {*own, "run_id", "created_at"} <= set(columns), f"{schema}.{table}"


def test_a_statement_that_is_not_there_is_named_with_the_places() -> None:
    with pytest.raises(FileNotFoundError, match=r"no SQL file 'marts/none'.*none\.sql in .*sql"):
        read_sql("marts/none")
    assert sql_names("none") == []


def test_views_hold_nothing_before_the_first_run(tables: Tables) -> None:
    for name in set(sql_names("marts")) - {"marts/dictionary"}:
        assert tables.rows(f"select * from {name.replace('/', '.')}") == []


def test_a_view_with_a_wrong_column_would_not_be_made(tables: Tables) -> None:
    with pytest.raises(duckdb.BinderException):
        tables.connection.execute("create view marts.wrong as select no_such from llm.calls")


def test_one_module_connects_to_duckdb_since_every_connection_needs_its_settings() -> None:
    connecting = [
        path.relative_to(PACKAGE).as_posix()
        for path in sorted(PACKAGE.rglob("*.py"))
        if re.search(r"\bduckdb\.connect\(", path.read_text(encoding="utf-8"))
    ]
    assert connecting == ["sql.py"]


def test_every_file_of_a_statement_is_read_by_name_or_with_its_folder() -> None:
    folder_wise = {"checks", "marts", "search"}
    sources = [*PACKAGE.rglob("*.py"), *(PACKAGE.parent / "assets").rglob("*.py")]
    code = "\n".join(path.read_text(encoding="utf-8") for path in sources)
    names = [name for folder in FOLDERS if folder not in folder_wise for name in sql_names(folder)]
    assert [name for name in names if not re.search(rf"[\"']{name}[\"']", code)] == []
