"""Bring an older database's tables up to date by numbered SQL files, each applied once."""

from pathlib import Path
from typing import Final

import duckdb

from persona_pipeline.errors import StoreError
from persona_pipeline.sql import read_sql, sql_names
from persona_pipeline.store.views import refresh_views, views_version

VERSIONS_SQL: Final = """
-- One row: the schema version of the database, and the version of its views.
-- reads: schema_migrations, schema_views
select
    (select max(version) from schema_migrations) as schema_version,
    (select arg_max(version, applied_at) from schema_views) as views_version
"""


def is_current(connection: duckdb.DuckDBPyConnection) -> bool:
    """Tell whether the database has all tables and views as this program knows them."""
    if not columns_of(connection, "main.schema_views"):
        return False
    [(version, views)] = connection.sql(VERSIONS_SQL).fetchall()
    return bool(version == len(sql_names("migrations")) and views == views_version())


def needs_upgrade(connection: duckdb.DuckDBPyConnection, path: Path) -> bool:
    """Tell whether the next run would change tables or views.

    Args:
        connection: to the database.
        path: the file, to be named in errors.

    Raises:
        StoreError: a newer program wrote the file.
    """
    if columns_of(connection, "main.schema_migrations"):
        _checked_version(connection, path)
    return not is_current(connection)


def apply_migrations(connection: duckdb.DuckDBPyConnection, path: Path) -> None:
    """Create missing tables and views, and change older ones.

    Args:
        connection: to the database, in a transaction.
        path: the file, to be named in errors.

    Raises:
        StoreError: a newer program wrote the file.
    """
    for table, column in (
        ("schema_migrations", "version integer"),
        ("schema_views", "version varchar"),
    ):
        connection.execute(f"create table if not exists {table} ({column}, applied_at timestamp)")
    version = _checked_version(connection, path)
    names = sql_names("migrations")
    for number, name in enumerate(names[version:], start=version + 1):
        connection.execute(read_sql(name))
        connection.execute(
            "insert into schema_migrations values (?, now() at time zone 'UTC')", [number]
        )
    refresh_views(connection)
    connection.execute(
        "insert into schema_views values (?, now() at time zone 'UTC')", [views_version()]
    )


COLUMNS_SQL: Final = """
-- One row per column of a table.
-- reads: information_schema.columns   params: $schema, $table
select column_name, data_type
from information_schema.columns
where table_schema = $schema and table_name = $table
order by ordinal_position
"""


def columns_of(connection: duckdb.DuckDBPyConnection, table: str) -> dict[str, str]:
    """Return the names of the table's columns and their DuckDB types in lower case.

    The result is empty if there is no such table.
    """
    schema, name = table.split(".")
    rows = connection.sql(COLUMNS_SQL, params={"schema": schema, "table": name}).fetchall()
    return {column: kind.lower() for column, kind in rows}


def _checked_version(connection: duckdb.DuckDBPyConnection, path: Path) -> int:
    query = "select coalesce(max(version), 0) from schema_migrations"
    [(version,)] = connection.sql(query).fetchall()
    known = len(sql_names("migrations"))
    if version > known:
        msg = (
            f"{path} has schema version {version}, this program knows {known}: "
            "upgrade persona-pipeline, or choose another data_dir"
        )
        raise StoreError(msg)
    return int(version)
