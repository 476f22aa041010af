"""Read Arrow IPC files and streams: .arrow as of Hugging Face's cache, .feather of version 2."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
from pyarrow import ipc

from persona_pipeline.corpus.arrow_columns import (
    DAMAGES,
    describe_arrow_error,
    read_values,
    validate,
)
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

_FILE_MAGIC = b"ARROW1"
_FEATHER_1_MAGIC = b"FEA1"


def read_arrow_file(path: Path, place: Place, options: CorpusOptions) -> Iterator[Row]:
    """Yield one row per row of the table. `line` is the row number, from 1.

    A damaged batch of a file is rejected once, since nothing tells how many rows it had. Damage in
    a stream ends it.
    """
    number = 0
    try:
        with path.open("rb") as file:
            magic = file.read(len(_FILE_MAGIC))
            file.seek(0)
            if magic.startswith(_FEATHER_1_MAGIC):
                detail = "Feather of version 1; write it again as version 2 or as Parquet"
                yield place.reject(DocumentReason.UNSUPPORTED_FILE, detail)
                return
            columns, batches = _open(file, is_file=magic == _FILE_MAGIC)
            fields = choose_fields(columns, options)
            if not fields:
                detail = describe_missing(dict.fromkeys(columns), options)
                yield place.reject(DocumentReason.MISSING_TEXT, detail)
                return
            for batch in batches:
                if isinstance(batch, Unreadable):
                    yield place.reject(batch.reason, batch.detail, number + 1)
                    continue
                for record in _read_records(batch, fields):
                    number += 1
                    yield build_row_from_record(record, number, place, options)
    except DAMAGES as error:
        line = number + 1 if number else None
        yield place.reject(DocumentReason.BROKEN_FILE, describe_arrow_error(error), line)


def _open(
    file: BinaryIO, *, is_file: bool
) -> tuple[list[str], Iterator[pa.RecordBatch | Unreadable]]:
    """Return the names of the columns, and the batches."""
    if not is_file:
        stream = ipc.open_stream(file)
        return stream.schema.names, iter(stream)
    reader = ipc.open_file(file)
    return reader.schema.names, _read_batches(reader)


def _read_batches(reader: ipc.RecordBatchFileReader) -> Iterator[pa.RecordBatch | Unreadable]:
    for index in range(reader.num_record_batches):
        try:
            yield reader.get_batch(index)
        except DAMAGES as error:
            detail = f"batch {index + 1} is damaged: {describe_arrow_error(error)}"
            yield Unreadable(DocumentReason.BROKEN_FILE, detail)


def _read_records(batch: pa.RecordBatch, fields: list[str]) -> Iterator[dict[str, Any]]:
    names = batch.schema.names
    columns = [_read_column(batch.column(names.index(field)), field) for field in fields]
    for values in zip(*columns, strict=True):
        yield dict(zip(fields, values, strict=True))


def _read_column(array: pa.Array, field: str) -> list[Any]:
    """Return the values. Arrow trusts the offsets of a file, so they are checked first."""
    try:
        validate(array)
    except pa.ArrowException as error:
        detail = f"damaged column {field!r}: {describe_arrow_error(error)}"
        return [Unreadable(DocumentReason.BROKEN_FILE, detail)] * len(array)
    return read_values(array)
