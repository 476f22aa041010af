"""Read CSV and TSV, record by record, so that one wrong quote does not swallow the rest.

Every record has as many fields as the header. Where a quoted field does not end, or the fields are
too many or too few, the line is rejected and reading goes on at the next line.
"""

import csv
import re
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from persona_pipeline.corpus.byte_streams import read_text_chunks, split_lines
from persona_pipeline.corpus.options import CorpusOptions
from persona_pipeline.corpus.rows import (
    MAX_RAW_BYTES,
    Place,
    Row,
    build_row_from_record,
    choose_fields,
    describe_missing,
)
from persona_pipeline.corpus.text_values import Unreadable, invalid_utf8
from persona_pipeline.reasons import DocumentReason

_DELIMITERS: Final = (",", ";", "\t", "|")
"""Delimiters of .csv. Spreadsheets write semicolons where the comma is the decimal point."""
_UNFINISHED = "unexpected end of data"
"""Message of the standard library for a quoted field that does not end."""

_NAMES_DELIMITER = re.compile(r"sep=[,;|\t]", re.IGNORECASE)
"""Line before the header by which Excel knows the delimiter."""

csv.field_size_limit(MAX_RAW_BYTES)  # of the process; the default of 131,072 is less than max_chars


@dataclass(frozen=True, slots=True)
class _Record:
    """Hold the fields of one record, or what is wrong with the line where it would begin."""

    line: int
    fields: Sequence[str]
    problem: str | None = None


def read_csv(path: Path, place: Place, options: CorpusOptions) -> Iterator[Row]:
    """Yield one row per record. `line` is where the record begins; the header is line 1.

    The header tells the delimiter: comma, semicolon, tab or bar.
    """
    return _read_table(path, _DELIMITERS, place, options)


def read_tsv(path: Path, place: Place, options: CorpusOptions) -> Iterator[Row]:
    """Yield one row per record of a file with tabs. Quotes that do not pair are plain letters."""
    return _read_table(path, ("\t",), place, options)


def _read_table(
    path: Path, delimiters: Sequence[str], place: Place, options: CorpusOptions
) -> Iterator[Row]:
    lines = _Lines(split_lines(read_text_chunks(path)))
    try:
        header, delimiter = _read_header(lines, delimiters, options)
        fields = choose_fields(header, options)
        if not fields:
            if header:
                detail = describe_missing(dict.fromkeys(header), options)
                yield place.reject(DocumentReason.MISSING_TEXT, detail)
            return
        places = {field: header.index(field) for field in fields}
        for record in _read_records(lines, delimiter, len(header)):
            if record.problem:
                yield place.reject(DocumentReason.BROKEN_FILE, record.problem, record.line)
            else:
                values = {field: _decode(record.fields[i]) for field, i in places.items()}
                yield build_row_from_record(values, record.line, place, options)
    except OSError as error:
        yield place.reject(DocumentReason.BROKEN_FILE, str(error), lines.number + 1)


class _Lines:
    """Number lines, and take back those that turned out to belong to no record."""

    def __init__(self, lines: Iterable[bytes]) -> None:
        self._lines = iter(lines)
        self._returned: deque[tuple[int, str]] = deque()
        self.number = 0

    def take(self) -> tuple[int, str] | None:
        """Return the next line and its number, or None at the end.

        A byte that is not UTF-8 becomes a lone surrogate.
        """
        if self._returned:
            return self._returned.popleft()
        data = next(self._lines, None)
        if data is None:
            return None
        self.number += 1
        return self.number, data.decode(errors="surrogateescape").removesuffix("\r")

    def give_back(self, lines: Sequence[tuple[int, str]]) -> None:
        self._returned.extendleft(reversed(lines))


def _read_header(
    lines: _Lines, delimiters: Sequence[str], options: CorpusOptions
) -> tuple[list[str], str]:
    """Return the names of the columns, and the delimiter that splits them best."""
    line = lines.take()
    while line is not None and (not line[1].strip() or _NAMES_DELIMITER.fullmatch(line[1])):
        line = lines.take()
    if line is None:
        return [], delimiters[0]
    headers = [(_parse_header(line[1], delimiter), delimiter) for delimiter in delimiters]
    return max(
        headers, key=lambda each: (not set(options.text_columns).isdisjoint(each[0]), len(each[0]))
    )


def _parse_header(line: str, delimiter: str) -> list[str]:
    try:
        return [name.strip() for name in _parse(line, delimiter)]
    except csv.Error:
        return line.split(delimiter)


def _read_records(lines: _Lines, delimiter: str, width: int) -> Iterator[_Record]:
    while (line := lines.take()) is not None:
        if line[1].strip(" "):
            yield _read_record(line, lines, delimiter, width)


def _read_record(first: tuple[int, str], lines: _Lines, delimiter: str, width: int) -> _Record:
    """Return the record that begins in a line. If it is broken, only that line is taken."""
    taken = [first]
    try:
        fields = _parse_lines(taken, lines, delimiter)
    except csv.Error as error:
        problem = f"no record of a table: {error}"
    else:
        if len(fields) == width or (len(fields) > width and not any(fields[width:])):
            return _Record(first[0], fields)
        problem = f"{len(fields)} fields, where the header has {width}"
    lines.give_back(taken[1:])
    plain = first[1].split(delimiter)
    if delimiter == "\t" and len(plain) == width:  # a file whose quotes are letters
        return _Record(first[0], plain)
    return _Record(first[0], (), problem)


def _parse_lines(taken: list[tuple[int, str]], lines: _Lines, delimiter: str) -> list[str]:
    """Return the fields, and take more lines while a quoted field goes on.

    Raises:
        csv.Error: the lines are no record.
    """
    while True:
        try:
            return _parse("\n".join(line for _, line in taken), delimiter)
        except csv.Error as error:
            if str(error) != _UNFINISHED:
                raise
        _take_to_end_of_quotes(taken, lines)


def _take_to_end_of_quotes(taken: list[tuple[int, str]], lines: _Lines) -> None:
    """Take lines up to one with an odd number of quotes: no other can end a quoted field."""
    size = sum(len(line) for _, line in taken)
    while (line := lines.take()) is not None:
        taken.append(line)
        size += len(line[1])
        if size > MAX_RAW_BYTES:
            break
        if line[1].count('"') % 2:
            return
    message = "a quoted field does not end"
    raise csv.Error(message)


def _parse(text: str, delimiter: str) -> list[str]:
    # One string, whose line breaks can only be inside of quotes.
    return next(csv.reader([text], delimiter=delimiter, strict=True), [])


def _decode(field: str) -> str | Unreadable:
    """Return the field, or what stands for bytes that are not UTF-8."""
    try:
        field.encode()
    except UnicodeEncodeError:
        try:
            field.encode(errors="surrogateescape").decode()
        except UnicodeDecodeError as error:
            return invalid_utf8(error)
    return field
