"""Create the views: over all domain tables, the marts that read them, and the search."""

import re
from collections.abc import Mapping
from typing import Final

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
"""A parameter of a statement, as `$shard`."""


RECORDS_SQL: Final = """
-- One row per synthetic record that is kept.
-- reads: synthetic.accepted, synthetic.duplicates   params: none
select accepted.*
from synthetic.accepted
anti join synthetic.duplicates using (domain, record_id)
"""


def refresh_views(connection: duckdb.DuckDBPyConnection) -> None:
    """Create or replace all views and the search macros, and describe every table and column.

    `synthetic.accepted` has every record that passed its checks. `synthetic.records` leaves out
    those that duplicate another record.
    """
    _make_accepted(connection)
    connection.execute(f"create or replace view synthetic.records as {RECORDS_SQL}")
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
    """Add new, described domain tables to `synthetic.accepted`, which other views read."""
    _make_accepted(connection)
    describe(connection, {RECORDS: read_dictionary()[RECORDS], **descriptions})


def domain_tables(connection: duckdb.DuckDBPyConnection) -> list[str]:
    """List the domains that have a table."""
    rows = connection.sql(read_sql("store/domain_tables")).fetchall()
    return [name for (name,) in rows]


def views_version() -> str:
    """Return a hash of the text of all views, macros and descriptions."""
    names = (*sql_names("marts"), *sql_names("search"))
    return stable_id([RECORDS_SQL, *map(read_sql, names), read_file(DICTIONARY)])


def _as_macro(name: str) -> str:
    """Return the statement that creates a table macro of `sql/<name>.sql` in schema `marts`.

    The $parameters of the file become the macro's parameters.
    """
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


def declare_table(
    connection: duckdb.DuckDBPyConnection,
    name: str,
    columns: Mapping[str, str],
    wanted: Mapping[str, Descriptions],
) -> None:
    """Create a domain's table, or add the columns that it lacks, and its descriptions."""
    listing = ", ".join(f'"{column}" {kind}' for column, kind in columns.items())
    connection.execute(f"create table if not exists {name} ({listing})")
    for column, kind in columns.items():
        connection.execute(f'alter table {name} add column if not exists "{column}" {kind}')
    add_to_views(connection, wanted)
