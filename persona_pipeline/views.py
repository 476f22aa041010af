"""The views of the database: over all domain tables, the marts that read them, and the search."""

import re

import duckdb

from persona_pipeline.hashing import stable_id
from persona_pipeline.sql_files import read_sql, sql_names

PARAMETER = re.compile(r"\$([a-z_]+)")


def refresh_views(connection: duckdb.DuckDBPyConnection) -> None:
    """Make the views over all domain tables, then the marts that read them, and the search.

    `synthetic.accepted` has every record that passed its checks, `synthetic.records` those of them
    that no other record makes superfluous.
    """
    connection.execute(f"create or replace view synthetic.accepted as {_accepted(connection)}")
    connection.execute(f"create or replace view synthetic.records as {read_sql('store/records')}")
    for name in sql_names("marts"):
        view = name.replace("/", ".")
        connection.execute(f"create or replace view {view} as {read_sql(name)}")
    for name in sql_names("search"):
        connection.execute(_as_macro(name))


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


def _accepted(connection: duckdb.DuckDBPyConnection) -> str:
    columns = "shard, record_id, persona_id, variant, prompting, text, call_key, run_id, created_at"
    selects = [
        f"select '{name}' as domain, {columns} from synthetic.{name}"
        for name in domain_tables(connection)
    ]
    empty = ", ".join(f"null::varchar as {column}" for column in columns.split(", ")[:-1])
    nothing = f"select null::varchar as domain, {empty}, null::timestamp as created_at where false"
    return " union all ".join([*selects, nothing])


def views_version() -> str:
    """Changes with the text of any view or macro."""
    names = ("store/records", *sql_names("marts"), *sql_names("search"))
    return stable_id([read_sql(name) for name in names])
