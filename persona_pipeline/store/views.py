"""The views of the database: over all domain tables, the marts that read them, and the search."""

import re
from collections.abc import Mapping

import duckdb

from persona_pipeline.hashing import stable_id
from persona_pipeline.sql import read_file, read_sql, sql_names
from persona_pipeline.store.dictionary import (
    DICTIONARY,
    RECORD_COLUMNS,
    RECORDS,
    Descriptions,
    describe,
    read_dictionary,
    record_descriptions,
)

PARAMETER = re.compile(r"\$([a-z_]+)")


def refresh_views(connection: duckdb.DuckDBPyConnection) -> None:
    """Make all views and the search, and describe what is in the database.

    `synthetic.accepted` has every record that passed its checks, `synthetic.records` those of them
    that no other record makes superfluous.
    """
    _make_accepted(connection)
    connection.execute(f"create or replace view synthetic.records as {read_sql('store/records')}")
    for name in sql_names("marts"):
        view = name.replace("/", ".")
        connection.execute(f"create or replace view {view} as {read_sql(name)}")
    for name in sql_names("search"):
        connection.execute(_as_macro(name))
    records = {f"synthetic.{name}": record_descriptions() for name in domain_tables(connection)}
    describe(connection, {**records, **read_dictionary()})


def add_to_views(
    connection: duckdb.DuckDBPyConnection, descriptions: Mapping[str, Descriptions]
) -> None:
    """Have the described new tables of domains in `synthetic.accepted`, which other views read."""
    _make_accepted(connection)
    describe(connection, {RECORDS: read_dictionary()[RECORDS], **descriptions})


def domain_tables(connection: duckdb.DuckDBPyConnection) -> list[str]:
    """The names of the domains that have a table."""
    rows = connection.sql(read_sql("store/domain_tables")).fetchall()
    return [name for (name,) in rows]


def _as_macro(name: str) -> str:
    """The statement with its $parameters as those of a table macro in `marts`."""
    select = re.sub(r"^--.*\n", "", read_sql(name), flags=re.MULTILINE)
    parameters = ", ".join(sorted(set(PARAMETER.findall(select))))
    macro = f"marts.{name.split('/')[1]}({parameters})"
    body = PARAMETER.sub(r"\1", select)
    return f"create or replace macro {macro} as table {body}"


def _make_accepted(connection: duckdb.DuckDBPyConnection) -> None:
    columns = ", ".join(RECORD_COLUMNS)
    selects = [
        f"select '{name}' as domain, {columns} from synthetic.{name}"
        for name in domain_tables(connection)
    ]
    empty = ", ".join(f"null::varchar as {column}" for column in RECORD_COLUMNS[:-1])
    nothing = f"select null::varchar as domain, {empty}, null::timestamp as created_at where false"
    query = " union all ".join([*selects, nothing])
    connection.execute(f"create or replace view {RECORDS} as {query}")


def views_version() -> str:
    """Changes with the text of any view or macro, and of any description."""
    names = ("store/records", *sql_names("marts"), *sql_names("search"))
    return stable_id([*map(read_sql, names), read_file(DICTIONARY)])
