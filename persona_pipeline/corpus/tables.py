"""Read Parquet and Arrow files, and remote files through DuckDB. It streams remote Parquet only."""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

import duckdb

from persona_pipeline.corpus.addresses import redact
from persona_pipeline.corpus.options import CorpusOptions
from persona_pipeline.corpus.rows import (
    FileReader,
    Place,
    Row,
    build_row_from_record,
    choose_fields,
    describe_missing,
)
from persona_pipeline.errors import SourceError
from persona_pipeline.reasons import DocumentReason
from persona_pipeline.sql import open_duckdb

_DETAIL_LENGTH = 300
_TABLE = "read_parquet($1, hive_partitioning = false)"
"""What a query reads. Partitions are off, since a folder named text=x would override the column."""


def connect() -> duckdb.DuckDBPyConnection:
    """Open an empty database that downloads nothing.

    One thread keeps the file's order, and memory near one row group (330 MB where two took 600).
    The small buffer limits reading ahead: rows that DuckDB holds when a file breaks are read again.
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
    """Yield the rows of one file on this machine. `line` is the row number, from 1."""
    from persona_pipeline.corpus.parquet_files import read_parquet_file  # noqa: PLC0415 - 0.5 s

    return read_parquet_file(path, place, options)


def read_arrow(path: Path, place: Place, options: CorpusOptions) -> Iterator[Row]:
    """Yield the rows of one Arrow file or stream. `line` is the row number, from 1."""
    from persona_pipeline.corpus.arrow_files import read_arrow_file  # noqa: PLC0415 - 0.5 s

    return read_arrow_file(path, place, options)


def stream_parquet(
    connection: duckdb.DuckDBPyConnection, address: str, place: Place, options: CorpusOptions
) -> Iterator[Row]:
    """Yield the rows of one remote file, as `read_parquet` does.

    DuckDB ends at the first value that it cannot read, and knows no two columns whose names differ
    in case only. From there on, the file is fetched and read here.

    Raises:
        SourceError: the file cannot be reached.
    """
    number = 0
    try:
        columns = _list_columns(connection, f"select * from {_TABLE} limit 0", address)
        if _has_renamed(connection, address, columns, options):
            yield from _read_rest(connection, address, place, options, 0)
            return
        fields = choose_fields(columns, options)
        if not fields:
            detail = describe_missing(dict.fromkeys(columns), options)
            yield place.reject(DocumentReason.MISSING_TEXT, detail)
            return
        query = f"select {', '.join(_quote(field) for field in fields)} from {_TABLE}"
        for number, values in enumerate(_fetch_rows(connection, query, address), start=1):
            record = dict(zip(fields, values, strict=True))
            yield build_row_from_record(record, number, place, options)
    except duckdb.Error as error:
        if number == 0 and isinstance(error, duckdb.IOException):
            raise _unreachable(error, address) from None
        yield from _read_rest(connection, address, place, options, number)


def read_fetched(
    connection: duckdb.DuckDBPyConnection,
    address: str,
    place: Place,
    options: CorpusOptions,
    reader: FileReader,
) -> Iterator[Row]:
    """Yield the rows of one remote file, which is fetched as a whole and then read here.

    So there are the same rows as in a file on this machine. DuckDB's own reader of JSON guesses
    types and layout from a sample, and drops what does not fit.

    Raises:
        SourceError: the file cannot be reached.
    """
    with TemporaryDirectory() as folder:
        path = Path(folder, PurePosixPath(urlsplit(address).path).name or "file")
        try:
            _fetch_file(connection, address, path)
        except duckdb.IOException as error:
            raise _unreachable(error, address) from None
        except duckdb.Error as error:
            detail = f"cannot be fetched: {describe_error(error)}; download it and name the file"
            yield place.reject(DocumentReason.BROKEN_FILE, detail)
            return
        yield from reader(path, place, options)


def describe_error(error: duckdb.Error) -> str:
    """Return DuckDB's first line, without the secrets that an address in it may contain."""
    return redact(str(error).split("\n", 1)[0])[:_DETAIL_LENGTH]


def _read_rest(
    connection: duckdb.DuckDBPyConnection,
    address: str,
    place: Place,
    options: CorpusOptions,
    number: int,
) -> Iterator[Row]:
    """Fetch the file and yield its rows behind the first `number`."""
    from persona_pipeline.corpus.parquet_files import read_parquet_file  # noqa: PLC0415 - 0.5 s

    def read(path: Path, place: Place, options: CorpusOptions) -> Iterator[Row]:
        return read_parquet_file(path, place, options, skip_rows=number)

    yield from read_fetched(connection, address, place, options, read)


def _list_columns(connection: duckdb.DuckDBPyConnection, query: str, address: str) -> list[str]:
    return [column[0] for column in connection.execute(query, [address]).description or ()]


def _has_renamed(
    connection: duckdb.DuckDBPyConnection,
    address: str,
    columns: list[str],
    options: CorpusOptions,
) -> bool:
    """Return whether DuckDB gave a column that we read another name: text beside Text is text_1."""
    lower = {column.lower() for column in columns}
    missing = [f for f in options.columns if f not in columns and f.lower() in lower]
    if not missing:
        return False
    rows = connection.execute("select name from parquet_schema($1)", [address]).fetchall()
    return not {row[0] for row in rows}.isdisjoint(missing)


def _fetch_file(connection: duckdb.DuckDBPyConnection, address: str, path: Path) -> None:
    """Copy a file of at most 4 GB, which DuckDB holds in memory meanwhile.

    Raises:
        duckdb.Error: it cannot be read, or is too large.
    """
    # DuckDB would compress the copy once more if its name ended in .gz.
    copy = path.with_name("copy")
    target = str(copy).replace("'", "''")
    count = connection.execute(
        f"copy (select content from read_blob($1)) to '{target}' (format blob)", [address]
    ).fetchone()
    if count == (0,):  # of a folder, DuckDB says nothing about a file that is not in it
        message = "there is no such file"
        raise duckdb.IOException(message)
    copy.replace(path)


def _fetch_rows(
    connection: duckdb.DuckDBPyConnection, query: str, address: str
) -> Iterator[tuple[object, ...]]:
    """Yield row by row from DuckDB's own batches: `fetchmany` drops the rows before an error."""
    cursor = connection.execute(query, [address])
    while (row := cursor.fetchone()) is not None:
        yield row


def _quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _unreachable(error: duckdb.Error, address: str) -> SourceError:
    return SourceError(f"cannot read {redact(address)}: {describe_error(error)}")
