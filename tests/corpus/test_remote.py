"""Test that a file is read the same through DuckDB, as remote files are, and from this machine."""

import bz2
import gzip
import json
import lzma
import tempfile
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from persona_pipeline.corpus.addresses import redact
from persona_pipeline.corpus.document import Document
from persona_pipeline.corpus.remote import parse_remote, read_remote
from persona_pipeline.errors import SourceError
from persona_pipeline.reasons import DocumentReason as Reason
from tests.support.source_rows import SHORT, get_texts, read


def read_both_ways(file: Path, function: str = "read_json") -> list[list[object]]:
    """Return what the rows say, from this machine and through DuckDB."""
    ways = (read(file), read(f"{function}('{file.as_uri()}')"))
    return [[describe(row) for row in rows] for rows in ways]


def describe(row: object) -> object:
    if isinstance(row, Document):
        return (row.line, row.file, row.text, row.url, row.language, row.license, row.title)
    return row.line, row.file, row.reason, row.detail  # type: ignore[attr-defined]  # rejected


LATE = [
    *({"text": f"text {number}", "score": number} for number in range(30_000)),
    {"text": "the score is no whole number", "score": 1.5},
    {"text": "a late key", "licence": "CC0", "score": {"a": 1}},
    {"text": "another type", "score": "high"},
    {"text": 1.5},
]


def test_a_late_key_and_a_late_type_change_no_row(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text("\n".join(map(json.dumps, LATE)), encoding="utf-8")
    here, remote = read_both_ways(file)
    assert here == remote
    assert len(here) == 30_004
    assert here[-1] == (30_004, "a.jsonl", Reason.WRONG_TYPE, "'text' holds float, not a string")


BROKEN = b"""\xef\xbb\xbf{"text": "first"}\r

broken{
{"text": "caf\xe9"}
{"text": "same", "text": "key"}
[4]
{"text": "a \\ud83d lone half"}
{"text": NaN}
{"text": "a \x01 control"}
{"text": "long", "n": %s}
{"text": "eleventh"}""" % (b"1" * 5000)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", BROKEN),
        ("a.jsonl.gz", gzip.compress(BROKEN)),
        ("a.jsonl.bz2", bz2.compress(BROKEN)),
        ("a.jsonl.gz", gzip.compress(BROKEN)[:-9]),
        ("a.jsonl.gz", BROKEN),
        ("a.json", b'[{"text": "first"}, {"text" "second"}]'),
        ("a.json", b'[{"text": "first"}, {"text": "second"}]'),
        ("a.json", b'{\n  "text": "first"\n}\n'),
        ("a.jsonl", '\ufeff{"text": "first"}\n'.encode("utf-16-le")),
        ("a.jsonl", b""),
    ],
    ids=range(10),
)
def test_broken_and_odd_files_give_the_same_rows_both_ways(
    tmp_path: Path, name: str, content: bytes
) -> None:
    (tmp_path / name).write_bytes(content)
    here, remote = read_both_ways(tmp_path / name)
    assert here == remote


@given(st.lists(st.binary(max_size=60) | st.sampled_from(BROKEN.split(b"\n")), max_size=9))
def test_any_bytes_give_the_same_rows_both_ways(lines: list[bytes]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "a.jsonl")
        file.write_bytes(b"\n".join(lines))
        here, remote = read_both_ways(file)
    assert here == remote


def test_a_bad_byte_in_a_remote_parquet_file_costs_its_own_row(tmp_path: Path) -> None:
    texts = [b"text %d" % number for number in range(5000)]
    texts[3000] = b"\xff"
    urls = [b"x:%d" % number for number in range(5000)]
    urls[4000] = b"\xff"
    table = pa.table(
        {
            "text": pa.array(texts).view(pa.string()),
            "url": pa.array(urls).view(pa.string()),
        }
    )
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=2500)
    here, remote = read_both_ways(tmp_path / "a.parquet", "read_parquet")
    assert here == remote
    assert len(here) == 5000
    assert len([row for row in here if row[2] == Reason.INVALID_UTF8]) == 1  # type: ignore[index]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", b"text\na text\n"),
        ("a.txt.xz", lzma.compress(b"a text")),
        ("a.html", b"<main><p>a text</p></main>"),
        ("a.jsonl.zst", zstandard.compress(b'{"text": "a text"}')),
    ],
)
def test_the_name_in_an_address_tells_any_format(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    remote = parse_remote((tmp_path / name).as_uri())
    assert remote is not None
    assert get_texts(read_remote(remote, SHORT, Counter())) == ["a text"]


def test_a_remote_file_that_is_not_there_is_no_source(tmp_path: Path) -> None:
    for function in ("read_json", "read_parquet"):
        with pytest.raises(SourceError, match=f"cannot read {(tmp_path / 'a').as_uri()}: "):
            read(f"{function}('{(tmp_path / 'a').as_uri()}')")


@pytest.mark.parametrize(
    "address", ["http://h/my folder/x.parquet?sig=SECRET", "s3://u:SECRET@b/it's.jsonl"]
)
def test_an_address_that_could_show_its_secret_is_refused(address: str) -> None:
    with pytest.raises(SourceError, match="write %20, %27") as raised:
        parse_remote(address)
    assert "SECRET" not in str(raised.value)
    assert "SECRET" not in redact(address)
