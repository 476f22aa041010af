"""Numbered SQL files that bring an older database's tables up to date, each applied once."""

from pathlib import Path

import duckdb

from persona_pipeline.errors import StoreError
from persona_pipeline.sql import read_sql, sql_names
from persona_pipeline.store.views import refresh_views, views_version


def is_current(connection: duckdb.DuckDBPyConnection) -> bool:
    """Whether the database has all tables and views as this program knows them."""
    if not columns_of(connection, "main.schema_views"):
        return False
    [(version, views)] = connection.sql(read_sql("store/versions")).fetchall()
    return bool(version == len(sql_names("migrations")) and views == views_version())


def needs_upgrade(connection: duckdb.DuckDBPyConnection, path: Path) -> bool:
    """Whether the next run would change tables or views; `path` is named in errors.

    Raises:
        StoreError: the file was written by a newer program.
    """
    if columns_of(connection, "main.schema_migrations"):
        _checked_version(connection, path)
    return not is_current(connection)


def apply_migrations(connection: duckdb.DuckDBPyConnection, path: Path) -> None:
    """Create or change what is missing or older; `path` is named in errors.

    Raises:
        StoreError: the file was written by a newer program.
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


def columns_of(connection: duckdb.DuckDBPyConnection, table: str) -> dict[str, str]:
    """Column names and types, in lower case."""
    schema, name = table.split(".")
    rows = connection.sql(
        read_sql("store/columns"), params={"schema": schema, "table": name}
    ).fetchall()
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
