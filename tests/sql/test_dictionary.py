"""The data dictionary: what stands in the file is what the database says of itself."""

import csv
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import duckdb
import pytest

from persona_pipeline.reasons import DocumentReason, PersonaReason, RecordReason, SkipReason
from persona_pipeline.sql import read_file
from persona_pipeline.store.dictionary import DICTIONARY, EVERYWHERE, ROW, describe, read_dictionary
from persona_pipeline.store.store import Store
from persona_pipeline.synthesis.domain import load_domains
from persona_pipeline.synthesis.tables import add_domain_table, table_descriptions
from tests.sql.conftest import Tables

DOMAINS = load_domains()
DESCRIBED = "select schema_name || '.' || table_name, column_name, description, row_description"
SCHEMAS = "corpus|personas|synthetic|llm|runs|marts|main"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a database with the tables of all domains, and its snapshot."""
    folder = tmp_path_factory.mktemp("dictionary")
    store = Store(folder / "pipeline.duckdb", folder / "published.duckdb")
    store.migrate()
    for domain in DOMAINS.values():
        add_domain_table(store, domain)
    store.publish()
    return folder


@pytest.fixture(scope="module")
def snapshot(folder: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """The snapshot, opened alone as its readers do."""
    with duckdb.connect(str(folder / "published.duckdb"), read_only=True) as connection:
        yield connection


@pytest.fixture
def store(folder: Path, tmp_path: Path) -> Store:
    """A copy that may be changed."""
    for name in ("pipeline.duckdb", "published.duckdb"):
        shutil.copy(folder / name, tmp_path)
    return Store(tmp_path / "pipeline.duckdb", tmp_path / "published.duckdb")


def file_rows() -> list[dict[str, str]]:
    return list(csv.DictReader(read_file(DICTIONARY).splitlines()))


def columns_of(connection: duckdb.DuckDBPyConnection) -> Mapping[str, set[str]]:
    matches: dict[str, set[str]] = {}
    for table, column in connection.sql(
        "select schema_name || '.' || table_name, column_name from duckdb_columns()"
        " where not internal"
    ).fetchall():
        matches.setdefault(table, set()).add(column)
    return matches


def described(store: Store, table: str) -> dict[str, str]:
    rows = store.query(f"{DESCRIBED} from marts.dictionary").rows()
    of_table = [row for row in rows if row[0] == table]
    return {ROW: of_table[0][3], **{column: text for _, column, text, _ in of_table}}


def test_every_table_and_column_has_a_description(snapshot: duckdb.DuckDBPyConnection) -> None:
    rows = snapshot.sql(f"{DESCRIBED} from marts.dictionary").fetchall()
    assert {(table, column) for table, column, *_ in rows} == {
        (table, column) for table, names in columns_of(snapshot).items() for column in names
    }
    assert {f"synthetic.{domain}" for domain in DOMAINS} <= {table for table, *_ in rows}
    assert [row[:2] for row in rows if not row[2]] == []
    assert [table for table, _, _, row in rows if not row.startswith("One row is ")] == []


def test_every_description_is_whole_and_short_and_no_chain_of_clauses() -> None:
    rows = file_rows()
    assert [row for row in rows if set(row) != {"table", "column", "description"}] == []
    texts = [row["description"] for row in rows]
    assert [text for text in texts if not text.endswith(".")] == []
    assert [text for text in texts if ";" in text] == []
    assert [text for text in texts if len(text) > 200] == []


def test_no_description_is_of_a_table_or_column_that_is_not_there(
    snapshot: duckdb.DuckDBPyConnection,
) -> None:
    existing = columns_of(snapshot)
    listed = [(row["table"], row["column"]) for row in file_rows()]
    everything = set().union(*existing.values())
    assert [
        (table, column)
        for table, column in listed
        if column not in {ROW, *(everything if table == EVERYWHERE else existing.get(table, ()))}
    ] == []
    assert len(listed) == len(set(listed)), "described twice"


def test_no_description_names_a_table_or_column_that_is_not_there(
    snapshot: duckdb.DuckDBPyConnection,
) -> None:
    existing, stray = columns_of(snapshot), []
    columns = set().union(*existing.values())
    for table, column, text, row in snapshot.sql(f"{DESCRIBED} from marts.dictionary").fetchall():
        for name in re.findall(rf"\b(?:{SCHEMAS})\.[a-z_]+", f"{text} {row}"):
            stray += [] if name in existing else [(table, column, name)]
        for name in re.findall(r"\b[a-z]+(?:_[a-z]+)*_(?:id|key|count|usd|rows|in)\b", text):
            stray += [] if name in columns else [(table, column, name)]
    assert stray == []


def test_every_reason_is_in_the_description_of_its_column() -> None:
    for table, reasons in (
        ("corpus.rejected", DocumentReason),
        ("personas.rejected", PersonaReason),
        ("synthetic.rejected", RecordReason),
    ):
        named = re.findall(
            r"[a-z]+(?:_[a-z0-9]+)+|empty|duplicate", read_dictionary()[table]["reason"]
        )
        assert named == [str(reason) for reason in reasons], table
    skipped = read_dictionary()["corpus.skipped"]["reason"]
    named = re.findall(r"(?:^|, | or )([a-z_]+)", re.sub(r"\(.*?\)", "", skipped))
    assert named == [str(reason) for reason in SkipReason]


def test_a_row_of_the_dictionary_says_all_of_a_column(
    snapshot: duckdb.DuckDBPyConnection,
) -> None:
    [row] = snapshot.sql(
        "from marts.dictionary where table_name = 'hub' and column_name = 'hop'"
    ).fetchall()
    assert row == (
        *("personas", "hub", "table", 7, "hop", "INTEGER"),
        read_dictionary()["personas.hub"]["hop"],
        read_dictionary()["personas.hub"][ROW],
    )
    [kinds] = snapshot.sql(
        "select list(distinct kind order by kind) from marts.dictionary where schema_name = 'marts'"
    ).fetchall()
    assert kinds == (["view"],)


def test_the_dictionary_leaves_out_other_databases(
    folder: Path, snapshot: duckdb.DuckDBPyConnection
) -> None:
    [(count,)] = snapshot.sql("select count(*) from marts.dictionary").fetchall()
    with duckdb.connect() as connection:
        connection.execute("create schema marts; create table marts.mine (a integer)")
        connection.execute(f"attach '{folder / 'published.duckdb'}' as theirs (read_only)")
        connection.execute("use theirs")
        assert connection.sql("select count(*) from marts.dictionary").fetchall() == [(count,)]


def test_a_database_with_an_older_dictionary_gets_the_new_one(store: Store) -> None:
    with store.transaction() as connection:
        connection.execute("comment on column personas.hub.hop is 'as it was'")
        connection.execute("comment on view marts.cost is null")
        connection.execute("comment on column synthetic.math.record_id is null")
        connection.execute("insert into schema_views values ('old', now())")
    store.migrate()
    assert described(store, "personas.hub")["hop"] == read_dictionary()["personas.hub"]["hop"]
    assert described(store, "marts.cost")[ROW] == read_dictionary()["marts.cost"][ROW]
    assert described(store, "synthetic.math") == table_descriptions(DOMAINS["math"])


def test_a_description_may_hold_any_character_and_describes_any_column(tables: Tables) -> None:
    tables.connection.execute('create table synthetic.haiku ("select" varchar, "a""b" varchar)')
    texts = {ROW: "One row is 'one'; or --two.", "select": "It's; a", 'a"b': "日本 %s $x"}
    describe(tables.connection, {"synthetic.haiku": texts})
    matches = tables.rows(
        "select column_name, description, row_description from marts.dictionary"
        " where table_name = 'haiku'"
    )
    assert matches == [("select", "It's; a", texts[ROW]), ('a"b', "日本 %s $x", texts[ROW])]
