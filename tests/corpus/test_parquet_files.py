"""Test that in Parquet files damage stays where it is."""

import json
import os
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from persona_pipeline.corpus.document import Document
from persona_pipeline.corpus.options import CorpusOptions
from persona_pipeline.reasons import DocumentReason as Reason
from tests.support.source_rows import get_rejected, get_texts, read, summarize


def as_text(values: list[bytes | None]) -> pa.Array:
    """Return a column of texts, which Arrow does not check."""
    return pa.array(values, pa.binary()).view(pa.string())


def write_rows(path: Path, texts: pa.Array, **options: object) -> Path:
    pq.write_table(pa.table({"text": texts}), path, **options)
    return path


@pytest.mark.parametrize("dictionary", [True, False])
def test_a_text_that_is_not_utf8_costs_its_own_row_and_no_other(
    tmp_path: Path, *, dictionary: bool
) -> None:
    texts: list[bytes | None] = [b"text %d" % number for number in range(4000)]
    texts[1900] = b"caf\xe9"
    file = tmp_path / "a.parquet"
    write_rows(file, as_text(texts), row_group_size=2000, use_dictionary=dictionary)
    rows = read(file)
    assert [row.line for row in rows] == list(range(1, 4001))
    (bad,) = get_rejected(rows)
    assert (bad.line, bad.reason) == (1901, Reason.INVALID_UTF8)
    assert bad.detail == "byte 0xe9 at position 4 is not UTF-8; convert it to UTF-8"


def test_an_address_that_is_not_utf8_is_absent_and_the_row_is_kept(tmp_path: Path) -> None:
    file = tmp_path / "a.parquet"
    urls = as_text([b"http://a/1", b"http://a/\xff", b"http://a/3"])
    pq.write_table(pa.table({"text": ["one", "two", "three"], "url": urls}), file)
    rows = [row for row in read(file) if isinstance(row, Document)]
    assert [row.url for row in rows] == ["http://a/1", f"{file.as_uri()}#L2", "http://a/3"]
    assert get_texts(rows) == ["one", "two", "three"]


def write_pages(path: Path, column: str) -> Path:
    """Write two row groups, and damage the pages of the column in the first of them."""
    numbers = random.Random(1)  # test data, not a secret
    texts = [f"text {numbers.getrandbits(200):x}" for _ in range(2000)]
    table = pa.table({"text": texts, "url": [f"http://a/{text[5:]}" for text in texts]})
    pq.write_table(table, path, row_group_size=1000, use_dictionary=False)
    names = ["text", "url"]
    chunk = pq.ParquetFile(path).metadata.row_group(0).column(names.index(column))
    middle = chunk.data_page_offset + chunk.total_compressed_size // 2
    data = bytearray(path.read_bytes())
    data[middle : middle + 300] = b"\xff" * 300
    path.write_bytes(data)
    return path


def test_a_damaged_page_costs_rows_of_its_row_group_each_with_its_reason(tmp_path: Path) -> None:
    rows = read(write_pages(tmp_path / "a.parquet", "text"))
    assert [row.line for row in rows] == list(range(1, 2001))
    rejected = get_rejected(rows)
    assert 0 < len(rejected) <= 1000
    assert all(isinstance(row, Document) for row in rows[1000:])
    assert {row.reason for row in rejected} <= {Reason.BROKEN_FILE, Reason.INVALID_UTF8}


def test_what_stands_before_a_damaged_page_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    texts = [f"text {number:05}" for number in range(3000)]
    pq.write_table(
        pa.table({"text": texts}), path, use_dictionary=False, compression="none",
        data_page_size=100, write_batch_size=300,
    )  # fmt: skip
    data = path.read_bytes()
    header = data.index(b"text 01500") - 4 - 20  # of the page that begins with it
    path.write_bytes(data[:header] + b"\xff" * 20 + data[header + 20 :])
    rows = read(path)
    assert get_texts(rows) == texts[:1500]
    assert [row.line for row in get_rejected(rows)] == list(range(1501, 3001))


def test_a_damaged_page_of_addresses_costs_no_text(tmp_path: Path) -> None:
    rows = read(write_pages(tmp_path / "a.parquet", "url"))
    assert len(get_texts(rows)) == 2000


def test_a_file_whose_name_is_in_no_encoding_is_read(tmp_path: Path) -> None:
    file = tmp_path / os.fsdecode(b"caf\xe9.parquet")
    with file.open("wb") as stream:
        pq.write_table(pa.table({"text": ["some text"]}), stream)
    (row,) = read(tmp_path)
    assert isinstance(row, Document)
    assert (row.text, row.file) == ("some text", "caf\ufffd.parquet")


def test_columns_that_differ_in_case_only_are_two_columns(tmp_path: Path) -> None:
    file = tmp_path / "a.parquet"
    pq.write_table(pa.table({"Text": ["wrong"], "text": ["right"]}), file)
    assert get_texts(read(file)) == ["right"]
    assert get_texts(read(file, CorpusOptions(text_field="Text", min_chars=1))) == ["wrong"]
    assert get_texts(read(f"read_parquet('{file.as_uri()}')")) == ["right"]


MESSAGES = [{"role": "user", "content": "Hello."}, {"role": "assistant", "content": "Hi!"}]


@pytest.mark.parametrize(
    ("column", "text"),
    [
        (pa.array([b"in bytes"], pa.binary()), "in bytes"),
        (pa.array(["one of few"]).dictionary_encode(), "one of few"),
        (pa.array([["first", "second"]]), "first\n\nsecond"),
        (pa.array([{"head": "A head", "size": 2, "body": "a body"}]), "A head\n\na body"),
        (pa.array([MESSAGES]), "user: Hello.\n\nassistant: Hi!"),
        (pa.array(["some text"], pa.large_string()), "some text"),
        (pa.array(["some text"], pa.string_view()), "some text"),
        (pa.array([json.dumps("json")], pa.json_(pa.string())), '"json"'),
    ],
)
def test_a_text_column_may_be_bytes_a_list_a_struct_or_a_chat(
    tmp_path: Path, column: pa.Array, text: str
) -> None:
    assert get_texts(read(write_rows(tmp_path / "a.parquet", column))) == [text]


def test_a_bad_byte_in_a_list_costs_its_own_row(tmp_path: Path) -> None:
    values = pa.array([[b"fine"], [b"fine", b"\xff"], [b"also fine"]])
    lists = values.view(pa.list_(pa.string()))
    rows = read(write_rows(tmp_path / "a.parquet", lists))
    assert summarize(rows) == [(1, "fine"), (2, Reason.INVALID_UTF8), (3, "also fine")]


def test_a_date_that_python_does_not_have_costs_no_text(tmp_path: Path) -> None:
    file = tmp_path / "a.parquet"
    times = pa.array([1], pa.timestamp("ns"))  # too fine for Python
    struct = pa.StructArray.from_arrays([pa.array(["a body"]), times], ["body", "time"])
    pq.write_table(pa.table({"text": struct, "topic": times}), file)
    assert get_texts(read(file)) == ["a body"]


def test_a_footer_that_claims_too_many_rows_is_a_broken_file(tmp_path: Path) -> None:
    file = write_rows(tmp_path / "a.parquet", pa.array(["some text"] * 3))
    data = file.read_bytes()
    footer = data.rindex(b"\x16\x06", 0, data.rindex(b"ARROW:schema"))  # 3 rows, in zigzag
    claim = b"\x16\x86\x80\x80\x80\x80\x80\x80\x10"
    patched = data[:footer] + claim + data[footer + 2 :]
    size = int.from_bytes(data[-8:-4], "little") + len(claim) - 2
    file.write_bytes(patched[:-8] + size.to_bytes(4, "little") + b"PAR1")
    (row,) = get_rejected(read(file))
    assert row.reason == Reason.BROKEN_FILE
