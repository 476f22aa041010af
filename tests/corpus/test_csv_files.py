"""Test CSV and TSV, good and broken."""

import gzip
from pathlib import Path

import pytest

from persona_pipeline.corpus.document import Document
from persona_pipeline.corpus.options import CorpusOptions
from persona_pipeline.reasons import DocumentReason as Reason
from tests.support.source_rows import get_rejected, get_texts, read_bytes, summarize


def test_a_record_becomes_a_document_with_all_that_is_known_of_it(tmp_path: Path) -> None:
    content = b'id,text,url,title\r\n1,"A text, in quotes\nand ""lines""",x:1,One\r\n2,B text,,\r\n'
    first, second = read_bytes(tmp_path, "a.csv", content)
    assert first == Document(
        'A text, in quotes\nand "lines"', "a.csv", "x:1", title="One", file="a.csv", line=2
    )
    uri = (tmp_path / "a.csv").as_uri()
    assert second == Document("B text", "a.csv", f"{uri}#L4", file="a.csv", line=4)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", b"id;text\n1;a text\n"),
        ("a.csv", b"id\ttext\n1\ta text\n"),
        ("a.csv", b"id|text\n1|a text\n"),
        ("a.csv", b"\xef\xbb\xbf text , id\na text,1\n"),
        ("a.csv", b"\n\ntext\n\na text\n"),
        ("a.csv", b"sep=;\r\nid;text\r\n1;a text\r\n"),
        ("a.tsv", b"id\ttext\n1\ta text\n"),
        ("a.tsv.gz", gzip.compress(b"id\ttext\n1\ta text")),
        ("a.csv.gz", b"text\na text"),
    ],
)
def test_the_header_tells_the_delimiter(tmp_path: Path, name: str, content: bytes) -> None:
    assert get_texts(read_bytes(tmp_path, name, content)) == ["a text"]


def test_a_table_without_the_text_column_is_rejected_once(tmp_path: Path) -> None:
    (row,) = get_rejected(read_bytes(tmp_path, "a.csv", b"id,body\n1,one\n2,two\n"))
    assert (row.reason, row.line) == (Reason.MISSING_TEXT, None)
    assert row.detail == "no field 'text'; set text_field to one of: 'id', 'body'"


@pytest.mark.parametrize(
    ("line", "reason", "detail"),
    [
        (b"too,many,fields", Reason.BROKEN_FILE, "3 fields, where the header has 2"),
        (b"too few", Reason.BROKEN_FILE, "1 fields, where the header has 2"),
        (b'"a quote" and more,u', Reason.BROKEN_FILE, "',' expected after '\"'"),
        (b'"never closed,u', Reason.BROKEN_FILE, "',' expected after '\"'"),
        (b"a \r return,u", Reason.BROKEN_FILE, "new-line character"),
        (b"caf\xe9,u", Reason.INVALID_UTF8, "byte 0xe9 at position 4"),
        (b",u", Reason.EMPTY, "no characters besides spaces"),
    ],
)
def test_a_bad_record_is_rejected_and_its_neighbours_are_kept(
    tmp_path: Path, line: bytes, reason: Reason, detail: str
) -> None:
    content = b'text,url\n"first, one",x:1\n' + line + b'\n"third\nand more",x:3\nlast,x:4'
    rows = read_bytes(tmp_path, "a.csv", content)
    assert summarize(rows) == [(2, "first, one"), (3, reason), (4, "third\nand more"), (6, "last")]
    assert detail in get_rejected(rows)[0].detail


def test_an_address_that_is_not_utf8_is_absent_and_the_row_is_kept(tmp_path: Path) -> None:
    (row,) = read_bytes(tmp_path, "a.csv", b"text,url\na text,http://a/\xff\n")
    assert isinstance(row, Document)
    assert row.url.startswith("file:///")


def test_quotes_in_a_tab_separated_file_may_be_letters(tmp_path: Path) -> None:
    content = b'text\tid\n"An opening quote\t1\nA 5" disk\t2\nthe last\t3\n'
    rows = read_bytes(tmp_path, "a.tsv", content)
    assert get_texts(rows) == ['"An opening quote', 'A 5" disk', "the last"]


def test_a_text_longer_than_the_default_of_the_library_is_read(tmp_path: Path) -> None:
    content = b'text\n"' + b"long\n" * 100_000 + b'"\n'
    options = CorpusOptions(max_chars=1_000_000)
    (row,) = read_bytes(tmp_path, "a.csv", content, options)
    assert isinstance(row, Document)
    assert len(row.text) == 499_999


def test_empty_fields_behind_the_last_column_are_no_fields(tmp_path: Path) -> None:
    assert get_texts(read_bytes(tmp_path, "a.csv", b"text,url\na text,x:1,,\n")) == ["a text"]


def test_a_quote_that_never_ends_costs_its_line_and_not_the_rest(tmp_path: Path) -> None:
    rows = read_bytes(tmp_path, "a.csv", b'text,url\n"one,1\ntwo,2\nthree,3\n')
    assert summarize(rows) == [(2, Reason.BROKEN_FILE), (3, "two"), (4, "three")]
    assert get_rejected(rows)[0].detail == "no record of a table: a quoted field does not end"
