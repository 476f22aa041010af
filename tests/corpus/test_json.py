"""Test JSON lines and JSON files."""

import gzip
import json
import random
import struct
import tempfile
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue

from persona_pipeline.corpus.byte_streams import split_lines
from persona_pipeline.corpus.document import Document, RejectedDocument
from persona_pipeline.corpus.json_lines import parse_json_row
from persona_pipeline.corpus.options import CorpusOptions
from persona_pipeline.corpus.rows import MAX_RAW_BYTES, Place
from persona_pipeline.corpus.sources import read_source
from persona_pipeline.reasons import DocumentReason as Reason

OPTIONS = CorpusOptions(min_chars=5, max_chars=100)


def read(path: Path, options: CorpusOptions = OPTIONS) -> list[Document | RejectedDocument]:
    return list(read_source(str(path), options))


def summarize(rows: list[Document | RejectedDocument]) -> list[tuple[int | None, str]]:
    """Return each row as its line and its text, or its reason."""
    return [(row.line, row.text if isinstance(row, Document) else row.reason) for row in rows]


def make_lines(count: int) -> bytes:
    """Return lines that hardly compress, so that half of the file is about half of the lines."""
    numbers = random.Random(1)  # test data, not a secret
    return b"".join(b'{"text": "text %x"}\n' % numbers.getrandbits(300) for _ in range(count))


def test_a_line_becomes_a_document_with_all_that_is_known_of_it(tmp_path: Path) -> None:
    file = tmp_path / "pages.jsonl"
    row = {
        "text": "A text.\r\n",
        "url": "https://ex.org/1",
        "language": "en",
        "license": "CC0",
        "title": "One\n",
        "topic": "Locks",
    }
    file.write_text("\n" + json.dumps(row) + "\n", encoding="utf-8")
    expected = Document(
        text="A text.",
        source="pages.jsonl",
        url="https://ex.org/1",
        language="en",
        license="CC0",
        title="One",
        file="pages.jsonl",
        line=2,
        topic="Locks",
    )
    assert read(file) == [expected]


def test_field_names_and_defaults_come_from_the_options(tmp_path: Path) -> None:
    file = tmp_path / "a.ndjson"
    file.write_text('{"body": "A text.", "text": 1, "u": "x:1"}\n', encoding="utf-8")
    options = CorpusOptions(
        text_field="body", url_field="u", min_chars=1, language="de", license="CC0"
    )
    (row,) = read(file, options)
    assert row == Document("A text.", "a.ndjson", "x:1", "de", "CC0", None, "a.ndjson", 1)


def test_a_row_without_a_url_is_addressed_by_file_and_line(tmp_path: Path) -> None:
    file = tmp_path / "a b.jsonl"
    file.write_text('{"text": "A text.", "url": null}\n{"text": "B text."}\n', encoding="utf-8")
    urls = [row.url for row in read(file) if isinstance(row, Document)]
    assert urls == [f"{file.as_uri()}#L1", f"{file.as_uri()}#L2"]
    assert " " not in urls[0]


def test_other_fields_that_are_not_strings_count_as_absent(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    row = {
        "text": "A text.",
        "url": 7,
        "language": ["en"],
        "license": {"a": 1},
        "title": True,
        "topic": 1,
    }
    file.write_text(json.dumps(row), encoding="utf-8")
    (document,) = read(file)
    expected = Document("A text.", "a.jsonl", f"{file.as_uri()}#L1", file="a.jsonl", line=1)
    assert document == expected


@pytest.mark.parametrize(
    ("line", "reason", "detail"),
    [
        (b'{"text": "cut', Reason.BROKEN_JSON, "Unterminated string starting at at column 10"),
        (b"[" * 100_000, Reason.BROKEN_JSON, "maximum recursion depth exceeded"),
        (b"1" * 5000, Reason.BROKEN_JSON, "Exceeds the limit"),
        (b"[1]", Reason.NOT_AN_OBJECT, "a JSON array, not an object"),
        (b"null", Reason.NOT_AN_OBJECT, "a JSON null, not an object"),
        (b"1.5", Reason.NOT_AN_OBJECT, "a JSON number, not an object"),
        (b'{"text": 3}', Reason.WRONG_TYPE, "'text' holds int, not a string"),
        (b'{"text": null}', Reason.MISSING_TEXT, "'text' is null"),
        (b'{"txt": "a", "id": 1}', Reason.MISSING_TEXT, "set text_field to one of: 'txt', 'id'"),
        (b"{}", Reason.MISSING_TEXT, "the object is empty"),
        (b'{"text": "caf\xe9"}', Reason.INVALID_UTF8, "byte 0xe9 at position 14 is not UTF-8"),
        (b'{"text": " \\u0000\\n"}', Reason.EMPTY, "no characters besides spaces"),
        (b'{"text": "1234 "}', Reason.TOO_SHORT, "4 characters, min_chars is 5"),
        (b'{"text": "%s"}' % (b"x" * 101), Reason.TOO_LONG, "101 characters, max_chars is 100"),
    ],
)
def test_a_bad_line_is_rejected_and_its_neighbours_are_kept(
    tmp_path: Path, line: bytes, reason: Reason, detail: str
) -> None:
    file = tmp_path / "a.jsonl"
    file.write_bytes(b'{"text": "first"}\n' + line + b'\n{"text": "third"}')
    first, bad, third = read(file)
    assert summarize([first, third]) == [(1, "first"), (3, "third")]
    assert isinstance(bad, RejectedDocument)
    assert (bad.reason, bad.file, bad.line) == (reason, "a.jsonl", 2)
    assert detail in bad.detail


def test_a_byte_order_mark_and_windows_line_ends_are_no_problem(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_bytes(b'\xef\xbb\xbf{"text": "first"}\r\n\r\n{"text": "third"}\r\n')
    assert summarize(read(file)) == [(1, "first"), (3, "third")]


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.json.gz", "plainly_named.jsonl"])
def test_gzip_of_several_members_and_padding_is_read(tmp_path: Path, name: str) -> None:
    data = gzip.compress(b'{"text": "first"}\n') + gzip.compress(b'{"text": "second"}\n')
    (tmp_path / name).write_bytes(data + b"\0" * 9000)
    assert summarize(read(tmp_path / name)) == [(1, "first"), (2, "second")]


def test_zstandard_of_several_frames_is_read(tmp_path: Path) -> None:
    frames = [zstandard.compress(b'{"text": "first"}\n'), zstandard.compress(b'{"text": "second"}')]
    skippable = struct.pack("<II", 0x184D2A50, 4) + b"size"  # what pzstd puts before each frame
    file = tmp_path / "a.jsonl.zst"
    file.write_bytes(b"".join(skippable + frame for frame in frames))
    assert summarize(read(file)) == [(1, "first"), (2, "second")]


@pytest.mark.parametrize(
    ("ending", "compress"), [("gz", gzip.compress), ("zst", zstandard.compress)]
)
def test_rows_before_a_truncation_are_kept_and_its_line_is_named(
    tmp_path: Path, ending: str, compress: type[bytes]
) -> None:
    data = compress(make_lines(5000))
    file = tmp_path / f"a.jsonl.{ending}"
    file.write_bytes(data[: len(data) // 2])
    *documents, broken = read(file)
    assert len(documents) > 1000
    assert all(isinstance(row, Document) for row in documents)
    assert isinstance(broken, RejectedDocument)
    assert (broken.reason, broken.line) == (Reason.BROKEN_FILE, len(documents) + 1)
    assert "ends too early" in broken.detail


@pytest.mark.parametrize(
    ("ending", "compress"), [("gz", gzip.compress), ("zst", zstandard.compress)]
)
def test_damage_in_compressed_data_ends_the_file_with_a_reason(
    tmp_path: Path, ending: str, compress: type[bytes]
) -> None:
    data = bytearray(compress(make_lines(5000)))
    data[len(data) // 2 : len(data) // 2 + 100] = b"\xff" * 100
    file = tmp_path / f"a.jsonl.{ending}"
    file.write_bytes(data)
    broken = read(file)[-1]
    assert isinstance(broken, RejectedDocument)
    assert broken.reason == Reason.BROKEN_FILE
    assert "damaged" in broken.detail


def test_a_json_file_may_be_an_array_lines_or_one_object(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_bytes(b'\xef\xbb\xbf\n[{"text": "first"}, 2, {"text": ""},\n{"text": "fourth"}]')
    assert summarize(read(file)) == [
        (1, "first"),
        (2, Reason.NOT_AN_OBJECT),
        (3, Reason.EMPTY),
        (4, "fourth"),
    ]
    file.write_bytes(b'{"text": "first"}\n{"text": "second"}\n')
    assert summarize(read(file)) == [(1, "first"), (2, "second")]
    file.write_bytes(b'{\n  "text": "first"\n}\n')
    assert summarize(read(file)) == [(1, "first")]


def test_a_broken_array_is_rejected_as_a_whole_with_the_place(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_bytes(b'[{"text": "first"},\n{"text" "second"}]')
    (row,) = read(file)
    assert isinstance(row, RejectedDocument)
    assert (row.reason, row.line) == (Reason.BROKEN_JSON, None)
    assert row.detail == "Expecting ':' delimiter at column 9 of line 2"


def test_a_truncated_compressed_array_is_a_broken_file(tmp_path: Path) -> None:
    array = b"[" + b",".join(make_lines(2000).splitlines()) + b"]"
    file = tmp_path / "a.json.gz"
    file.write_bytes(gzip.compress(array)[:20_000])
    assert summarize(read(file)) == [(None, Reason.BROKEN_FILE)]


def test_a_line_too_large_to_parse_is_rejected_unread() -> None:
    row = parse_json_row(b"x" * (MAX_RAW_BYTES + 1), 7, Place("s", "f", "u:"), OPTIONS)
    assert isinstance(row, RejectedDocument)
    assert (row.reason, row.line) == (Reason.TOO_LONG, 7)


def test_a_line_without_end_is_cut_while_it_is_read() -> None:
    chunks = [b"ab\ncd", *[b"x" * 100] * 1000, b"\nef"]
    first, long, last = split_lines(chunks, limit=150)
    assert (first, last) == (b"ab", b"ef")
    assert 150 < len(long) <= 302


@given(st.lists(st.binary(max_size=9), max_size=9))
def test_lines_do_not_depend_on_how_the_bytes_arrive(chunks: list[bytes]) -> None:
    lines = b"".join(chunks).split(b"\n")
    assert list(split_lines(chunks)) == (lines if lines[-1] else lines[:-1])


json_values: st.SearchStrategy[JsonValue] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["text", "url", "title", "id"]), inner, max_size=4)
    ),
    max_leaves=8,
)
lines_of_any_kind = st.lists(
    json_values.map(lambda value: json.dumps(value).encode())
    | st.binary(max_size=40).map(lambda data: data.replace(b"\n", b" "))
)


@given(lines_of_any_kind)
def test_every_line_that_is_not_blank_is_kept_or_rejected(lines: list[bytes]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "a.jsonl")
        # The first line shows the layout, and is no magic number of a compressed file.
        file.write_bytes(b"\n".join([b"{}", *lines]))
        rows = read(file)
    expected = [1, *(number for number, line in enumerate(lines, start=2) if line.strip())]
    assert [row.line for row in rows] == expected
