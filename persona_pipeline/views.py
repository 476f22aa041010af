"""The views of the database: over all domain tables, and the marts that read them."""

import duckdb

from persona_pipeline.hashing import stable_id
from persona_pipeline.sql_files import read_sql, sql_names


def refresh_views(connection: duckdb.DuckDBPyConnection) -> None:
    """Make the views over all domain tables, then the marts that read them.

    `synthetic.accepted` has every record that passed its checks, `synthetic.records` those of them
    that no other record makes superfluous.
    """
    connection.execute(f"create or replace view synthetic.accepted as {_accepted(connection)}")
    connection.execute(f"create or replace view synthetic.records as {read_sql('store/records')}")
    for name in sql_names("marts"):
        view = name.replace("/", ".")
        connection.execute(f"create or replace view {view} as {read_sql(name)}")


def domain_tables(connection: duckdb.DuckDBPyConnection) -> list[str]:
    """The names of the domains that have a table."""
    rows = connection.sql(read_sql("store/domain_tables")).fetchall()
    return [name for (name,) in rows]


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
    """Changes with the text of any view."""
    return stable_id([read_sql(name) for name in ("store/records", *sql_names("marts"))])
