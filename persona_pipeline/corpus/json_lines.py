"""Read JSON objects: one per line, indented over several lines, or in one array.

The content tells the layout. A file named .json may hold lines, and one named .jsonl an array.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path

from persona_pipeline.corpus.byte_streams import read_text_chunks, split_lines
from persona_pipeline.corpus.document import RejectedDocument
from persona_pipeline.corpus.options import CorpusOptions
from persona_pipeline.corpus.rows import MAX_RAW_BYTES, Place, Row, build_row_from_record
from persona_pipeline.corpus.text_values import describe_invalid_utf8
from persona_pipeline.reasons import DocumentReason

_JSON_NAMES = {list: "array", str: "string", bool: "boolean", type(None): "null"}
_DECODER = json.JSONDecoder()
_LINES_SEEN = 16
"""Lines from which the layout is told, so that a damaged one among them does not hide it."""


def read_json(path: Path, place: Place, options: CorpusOptions) -> Iterator[Row]:
    """Yield one row per object.

    `line` is the line in which the object begins. In an array it is the position, from 1.
    """
    chunks = read_text_chunks(path)
    head: list[bytes] = []
    try:
        _take_head(chunks, head)
    except OSError as error:
        chunks = _raise(error)
    read = _find_layout([line for line in b"".join(head).split(b"\n") if line.strip()])
    yield from read(chain(head, chunks), place, options)


def parse_json_row(data: bytes, line: int, place: Place, options: CorpusOptions) -> Row:
    """Return the row of one JSON text, which should be an object with a text."""
    value = _parse(data, line, place)
    if isinstance(value, RejectedDocument):
        return value
    return _build_row(value, line, place, options)


def _take_head(chunks: Iterator[bytes], head: list[bytes]) -> None:
    """Move chunks to `head` until it holds the lines that show the layout."""
    newlines = size = 0
    for chunk in chunks:
        head.append(chunk)
        newlines += chunk.count(b"\n")
        size += len(chunk)
        if newlines >= _LINES_SEEN or size > MAX_RAW_BYTES:
            return


def _raise(error: OSError) -> Iterator[bytes]:
    """Raise the error behind the chunks that came before it."""
    raise error
    yield b""


_Reader = Callable[[Iterable[bytes], Place, CorpusOptions], Iterator[Row]]


def _find_layout(lines: Sequence[bytes]) -> _Reader:
    """Return the reader for a file that begins with these lines, none of them blank."""
    first = lines[0] if lines else b""
    start = first.lstrip()[:1]
    if start not in {b"[", b"{"}:
        return _read_lines
    if _is_json(first):
        return _read_lines if start == b"{" or len(lines) > 1 else _read_array
    goes_on = first.rstrip().endswith((b",", b"["))
    if not goes_on and any(line.startswith(b"{") and _is_json(line) for line in lines[1:]):
        return _read_lines  # of which the first is damaged
    return _read_array if start == b"[" else _read_indented


def _read_lines(chunks: Iterable[bytes], place: Place, options: CorpusOptions) -> Iterator[Row]:
    """Yield one row per line. Blank lines are numbered, but yield no row."""
    line = 0
    try:
        for line, data in enumerate(split_lines(chunks), start=1):
            if data.strip():
                row = parse_json_row(data, line, place, options)
                if isinstance(row, RejectedDocument) and (objects := _split_objects(row, data)):
                    yield from (_build_row(each, line, place, options) for each in objects)
                else:
                    yield row
    except OSError as error:
        yield place.reject(DocumentReason.BROKEN_FILE, str(error), line + 1)


def _split_objects(row: RejectedDocument, data: bytes) -> list[object]:
    """Return the objects of a line in which a line break was lost, or nothing."""
    objects = list[object]()
    if row.reason != DocumentReason.BROKEN_JSON:
        return objects
    text = data.decode().strip()
    position = 0
    while text.startswith("{", position):
        try:
            value, position = _DECODER.raw_decode(text, position)
        except (ValueError, RecursionError):
            return []
        objects.append(value)
        position += not text.startswith("{", position)  # what the line break has become
    return objects if position > len(text) else []


def _read_indented(chunks: Iterable[bytes], place: Place, options: CorpusOptions) -> Iterator[Row]:
    """Yield one row per object. Each begins with a brace at the start of a line."""
    line = start = size = 0
    lines: list[bytes] = []
    try:
        for line, data in enumerate(split_lines(chunks), start=1):
            if data.startswith(b"{") and lines:
                yield from _parse_object(lines, start, place, options)
                lines, size = [], 0
            if (lines or data.strip()) and size <= MAX_RAW_BYTES:
                start = start if lines else line
                lines.append(data)
                size += len(data)
    except OSError as error:
        if _is_json(b"\n".join(lines)):
            yield from _parse_object(lines, start, place, options)
        yield place.reject(DocumentReason.BROKEN_FILE, str(error), line + 1)
    else:
        yield from _parse_object(lines, start, place, options)


def _parse_object(
    lines: Sequence[bytes], start: int, place: Place, options: CorpusOptions
) -> Iterator[Row]:
    """Yield the row of an object, or one per line if the first line holds an object alone."""
    value = _parse(b"\n".join(lines), start, place)
    if not isinstance(value, RejectedDocument):
        yield _build_row(value, start, place, options)
    elif len(lines) > 1 and _is_json(lines[0]):
        for line, data in enumerate(lines, start=start):
            if data.strip():
                yield parse_json_row(data, line, place, options)
    else:
        yield value


def _read_array(chunks: Iterable[bytes], place: Place, options: CorpusOptions) -> Iterator[Row]:
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


def _is_json(data: bytes) -> bool:
    try:
        json.loads(data)
    except (ValueError, RecursionError):
        return False
    return True


def _parse(data: bytes, line: int | None, place: Place) -> object:
    """Return the parsed value, or a rejection that says where the text stops being JSON."""
    if line is not None and len(data) > MAX_RAW_BYTES:
        return place.reject_too_large(line)
    try:
        return json.loads(data.decode())
    except UnicodeDecodeError as error:
        return place.reject(DocumentReason.INVALID_UTF8, describe_invalid_utf8(error), line)
    except json.JSONDecodeError as error:
        detail = f"{error.msg} at column {error.colno}"
        if line is None or error.lineno > 1:
            detail += f" of line {error.lineno + (line or 1) - 1}"
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
