"""Read Parquet files on this machine, column by column, so that damage stays where it is."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from persona_pipeline.corpus.arrow_columns import DAMAGES, describe_arrow_error, read_values
from persona_pipeline.corpus.options import CorpusOptions
from persona_pipeline.corpus.rows import (
    Place,
    Row,
    build_row_from_record,
    choose_fields,
    describe_missing,
)
from persona_pipeline.corpus.text_values import Unreadable
from persona_pipeline.reasons import DocumentReason

_BATCH_SIZES = (1024, 32, 1)
"""Rows of a batch: at first, and behind each damage. Reading 100,000 rows one by one takes
1.1 s instead of 0.04."""
_BUFFER_BYTES = 1024 * 1024
_PLAUSIBLE_ROWS = 1_000_000
"""Rows that any row group may have; a larger one needs a bit per row. A damaged footer may claim
10**18 rows, each of which would be rejected."""


def read_parquet_file(
    path: Path, place: Place, options: CorpusOptions, *, skip_rows: int = 0
) -> Iterator[Row]:
    """Yield the rows behind the first `skip_rows`. `line` is the row number, from 1.

    A value that cannot be read costs no other: a text is rejected, another field is absent. Where a
    page of a column is damaged, this holds for the rest of that column in the row group.
    """
    try:
        # An open file, since Arrow takes no name that is not UTF-8.
        with path.open("rb") as stream:
            file = pq.ParquetFile(stream, buffer_size=_BUFFER_BYTES, pre_buffer=False)
            columns = file.schema_arrow.names
            fields = choose_fields(columns, options)
            if not fields:
                detail = describe_missing(dict.fromkeys(columns), options)
                yield place.reject(DocumentReason.MISSING_TEXT, detail)
                return
            most = max(_PLAUSIBLE_ROWS, 8 * path.stat().st_size)
            for number, record in _read_records(file, fields, skip_rows, most):
                yield build_row_from_record(record, number, place, options)
    except DAMAGES as error:
        yield place.reject(DocumentReason.BROKEN_FILE, describe_arrow_error(error))


def _read_records(
    file: pq.ParquetFile, fields: list[str], skip_rows: int, most: int
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the number and the values of each row behind the first `skip_rows`."""
    start = 0
    for group in range(file.num_row_groups):
        count = file.metadata.row_group(group).num_rows
        if not 0 <= count <= most:
            message = f"row group {group + 1} claims {count} rows; the end of the file is damaged"
            raise pa.ArrowInvalid(message)
        if start + count > skip_rows:
            columns = [_read_column(file, group, field, count) for field in fields]
            for number, values in enumerate(zip(*columns, strict=True), start=start + 1):
                if number > skip_rows:
                    yield number, dict(zip(fields, values, strict=True))
        start += count


def _read_column(file: pq.ParquetFile, group: int, field: str, count: int) -> Iterator[Any]:
    """Yield `count` values of one column of a row group, whatever its pages hold.

    Of a batch with a damaged page nothing comes. So smaller batches lead up to the page.
    """
    done = 0
    problem = "the column has fewer values than the row group has rows"
    for size in _BATCH_SIZES:
        start = 0
        try:
            for batch in file.iter_batches(
                batch_size=size, row_groups=[group], columns=[field], use_threads=False
            ):
                if start + len(batch) > done:
                    values = read_values(batch.column(0))[done - start : count - start]
                    yield from values
                    done += len(values)
                start += len(batch)
            break
        except DAMAGES as error:
            problem = describe_arrow_error(error)
    unreadable = Unreadable(DocumentReason.BROKEN_FILE, f"damaged column {field!r}: {problem}")
    for _ in range(count - done):
        yield unreadable
