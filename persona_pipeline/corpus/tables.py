"""Read Parquet and remote JSON, streamed by DuckDB on a connection of its own."""

from collections.abc import Iterator
from glob import escape
from pathlib import Path

import duckdb

from persona_pipeline.corpus.addresses import is_url, redact
from persona_pipeline.corpus.json_lines import parse_json_row
from persona_pipeline.corpus.options import CorpusOptions
from persona_pipeline.corpus.rows import Place, Row, build_row_from_record, describe_missing
from persona_pipeline.errors import SourceError
from persona_pipeline.reasons import DocumentReason
from persona_pipeline.sql import open_duckdb

_DETAIL_LENGTH = 300


def connect() -> duckdb.DuckDBPyConnection:
    """Open an empty database that downloads nothing.

    One thread keeps the file's order, and memory near one row group (330 MB where two took 600).
    The small buffer limits reading ahead: the rows that DuckDB holds when a file breaks are lost.
    """
    connection = open_duckdb(
        config={
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
            "threads": "1",
        }
    )
    connection.execute("set streaming_buffer_size = '1KB'")
    return connection


def read_parquet(path: Path, place: Place, options: CorpusOptions) -> Iterator[Row]:
    """Yield the rows of one local file. `line` is the row number, from 1.

    Damage also loses up to 2,048 good rows before it, since DuckDB reads one batch ahead.
    """
    with connect() as connection:
        yield from read_parquet_rows(connection, escape(str(path.absolute())), place, options)


def read_parquet_rows(
    connection: duckdb.DuckDBPyConnection, address: str, place: Place, options: CorpusOptions
) -> Iterator[Row]:
    """Yield the rows of one file, local or remote.

    A file without the text column is rejected once.
    """
    number = 0
    # No Hive partitions: a folder named text=x would override the column.
    table = "read_parquet($1, hive_partitioning = false)"
    try:
        columns = _list_columns(connection, f"select * from {table} limit 0", address)
        options.fields_met.last = dict.fromkeys(columns)
        if not options.holds_text(columns):
            detail = describe_missing(dict.fromkeys(columns), options)
            yield place.reject(DocumentReason.MISSING_TEXT, detail)
            return
        fields = [field for field in options.fields if field in columns]
        query = f"select {', '.join(_quote(field) for field in fields)} from {table}"
        for number, values in enumerate(_fetch(connection, query, address), start=1):
            record = dict(zip(fields, values, strict=True))
            yield build_row_from_record(record, number, place, options)
    except duckdb.Error as error:
        yield _reject_broken(error, address, number, place)


def read_json_rows(
    connection: duckdb.DuckDBPyConnection, address: str, place: Place, options: CorpusOptions
) -> Iterator[Row]:
    """Yield the values of one file. DuckDB only finds where each begins; a broken value is null."""
    number = 0
    query = (
        "select json from read_json_objects($1, ignore_errors = true, hive_partitioning = false)"
    )
    try:
        for number, (text,) in enumerate(_fetch(connection, query, address), start=1):
            if isinstance(text, str):
                yield parse_json_row(text, number, place, options)
            else:
                detail = "not JSON in UTF-8; the number counts the lines that are not blank"
                yield place.reject(DocumentReason.BROKEN_JSON, detail, number)
    except duckdb.Error as error:
        yield _reject_broken(error, address, number, place)


def describe_error(error: duckdb.Error) -> str:
    """Return DuckDB's first line, without the secrets that an address in it may contain."""
    return redact(str(error).split("\n", 1)[0])[:_DETAIL_LENGTH]


def _list_columns(connection: duckdb.DuckDBPyConnection, query: str, address: str) -> list[str]:
    return [column[0] for column in connection.execute(query, [address]).description or ()]


def _fetch(
    connection: duckdb.DuckDBPyConnection, query: str, address: str
) -> Iterator[tuple[object, ...]]:
    """Yield row by row from DuckDB's own batches: `fetchmany` drops the rows before an error."""
    cursor = connection.execute(query, [address])
    while (row := cursor.fetchone()) is not None:
        yield row


def _quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _reject_broken(error: duckdb.Error, address: str, number: int, place: Place) -> Row:
    """Reject a file that broke after `number` rows.

    A remote file that never opened is no source.
    """
    if isinstance(error, duckdb.IOException) and number == 0 and is_url(address):
        message = f"cannot read {redact(address)}: {describe_error(error)}"
        raise SourceError(message) from None  # the cause would print the address with its secrets
    line = number + 1 if number else None
    return place.reject(DocumentReason.BROKEN_FILE, describe_error(error), line)
