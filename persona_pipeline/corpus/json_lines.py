"""Read JSON lines, and JSON files that hold one array of objects."""

import json
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from persona_pipeline.corpus.byte_streams import read_chunks, split_lines
from persona_pipeline.corpus.document import RejectedDocument
from persona_pipeline.corpus.options import CorpusOptions
from persona_pipeline.corpus.rows import MAX_RAW_BYTES, Place, Row, build_row_from_record
from persona_pipeline.reasons import DocumentReason

_BOM = b"\xef\xbb\xbf"
_JSON_NAMES = {list: "array", str: "string", bool: "boolean", type(None): "null"}


def read_json_lines(path: Path, place: Place, options: CorpusOptions) -> Iterator[Row]:
    """Yield one row per line. Blank lines are numbered, but yield no row."""
    return _read_lines(read_chunks(path), place, options)


def read_json(path: Path, place: Place, options: CorpusOptions) -> Iterator[Row]:
    """Yield the rows of a JSON file.

    An array of objects or one indented object is read as a whole. JSON lines are streamed.
    """
    chunks = read_chunks(path)
    try:
        first = next(chunks, b"")
    except OSError as error:
        yield place.reject(DocumentReason.BROKEN_FILE, str(error))
        return
    read = _read_value if _is_one_value(first) else _read_lines
    yield from read(chain([first], chunks), place, options)


def parse_json_row(data: bytes | str, line: int, place: Place, options: CorpusOptions) -> Row:
    """Return the row of one JSON text, which should be an object with a text."""
    value = _parse(data, line, place)
    if isinstance(value, RejectedDocument):
        return value
    return _build_row(value, line, place, options)


def describe_invalid_utf8(error: UnicodeDecodeError) -> str:
    """Say which byte is wrong, where it is, and what to do."""
    byte = error.object[error.start]
    return f"byte 0x{byte:02x} at position {error.start + 1} is not UTF-8; convert it to UTF-8"


def _read_lines(chunks: Iterator[bytes], place: Place, options: CorpusOptions) -> Iterator[Row]:
    line = 0
    try:
        for line, data in enumerate(split_lines(chunks), start=1):
            if data.strip():
                yield parse_json_row(data, line, place, options)
    except OSError as error:
        yield place.reject(DocumentReason.BROKEN_FILE, str(error), line + 1)


def _is_one_value(first: bytes) -> bool:
    """Return whether the file is an array, or starts with an indented object."""
    line, newline, _ = first.removeprefix(_BOM).lstrip().partition(b"\n")
    return line.startswith(b"[") or (newline != b"" and line.strip() == b"{")


def _read_value(chunks: Iterator[bytes], place: Place, options: CorpusOptions) -> Iterator[Row]:
    """Yield one row per item. Items are numbered from 1, because a line may hold several."""
    try:
        data = b"".join(chunks)
    except OSError as error:
        yield place.reject(DocumentReason.BROKEN_FILE, str(error))
        return
    value = _parse(data, None, place)
    if isinstance(value, RejectedDocument):
        yield value
        return
    for number, item in enumerate(value if isinstance(value, list) else [value], start=1):
        yield _build_row(item, number, place, options)


def _parse(data: bytes | str, line: int | None, place: Place) -> object:
    """Return the parsed value, or a rejection that says where the text stops being JSON."""
    if line is not None and len(data) > MAX_RAW_BYTES:
        return place.reject_too_large(line)
    try:
        text = data if isinstance(data, str) else data.decode("utf-8-sig")
        return json.loads(text)
    except UnicodeDecodeError as error:
        return place.reject(DocumentReason.INVALID_UTF8, describe_invalid_utf8(error), line)
    except json.JSONDecodeError as error:
        detail = f"{error.msg} at column {error.colno}"
        if line is None:
            detail += f" of line {error.lineno}"
        return place.reject(DocumentReason.BROKEN_JSON, detail, line)
    except (
        ValueError,
        RecursionError,
    ) as error:  # such as a number of 4,301 digits, or 1,000 brackets
        return place.reject(DocumentReason.BROKEN_JSON, str(error), line)


def _build_row(value: object, line: int, place: Place, options: CorpusOptions) -> Row:
    if not isinstance(value, dict):
        detail = f"a JSON {_JSON_NAMES.get(type(value), 'number')}, not an object"
        return place.reject(DocumentReason.NOT_AN_OBJECT, detail, line)
    options.fields_met.last = value
    return build_row_from_record(value, line, place, options)
