"""Test WACZ packages: several archives in one file, whole and damaged."""

import gzip
import io
import zipfile
from collections import Counter
from pathlib import Path

import pytest

from persona_pipeline.corpus.document import Document, RejectedDocument
from persona_pipeline.reasons import DocumentReason as Reason
from persona_pipeline.reasons import SkipReason
from tests.support.web_archives import make_page, make_record, read, summarize

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n"


def make_archive(*numbers: int) -> bytes:
    records = [make_record(HEAD + make_page(number).encode()) for number in numbers]
    records.append(make_record(b"", kind="warcinfo"))
    return b"".join(gzip.compress(record, mtime=0) for record in records)


def make_package(archives: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as package:
        package.writestr("datapackage.json", "{}")
        package.writestr("pages/pages.jsonl", '{"format": "json-pages-1.0"}')
        package.writestr("indexes/index.cdx.gz", gzip.compress(b"org,ex)/ 2026 {}"))
        for name, data in archives.items():
            package.writestr(name, data)
    return buffer.getvalue()


TWO = {"archive/a.warc.gz": make_archive(1, 2), "archive/b.warc": gzip.decompress(make_archive(3))}


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_the_pages_of_all_archives_are_read_and_numbered_through(
    tmp_path: Path, method: int
) -> None:
    skipped = Counter[tuple[str, SkipReason]]()
    rows = read(tmp_path / "crawl.wacz", make_package(TWO, method), skipped)
    assert summarize(rows) == [(1, "Page 1"), (2, "Page 2"), (4, "Page 3")]
    assert isinstance(rows[0], Document)
    assert (rows[0].file, rows[0].url) == ("crawl.wacz", "https://ex.org/page")
    assert skipped == {("crawl.wacz", SkipReason.WARCINFO): 2}


def test_damage_inside_a_stored_archive_costs_one_record(tmp_path: Path) -> None:
    package = make_package(TWO)
    page = package.index(gzip.compress(make_record(HEAD + make_page(2).encode()), mtime=0))
    damaged = package[: page + 100] + b"\xff" * 9 + package[page + 109 :]
    rows = read(tmp_path / "crawl.wacz", damaged)
    assert summarize(rows) == [(1, "Page 1"), (2, Reason.BROKEN_FILE), (4, "Page 3")]


def test_damage_to_a_compressed_archive_leaves_the_others(tmp_path: Path) -> None:
    package = make_package(TWO, zipfile.ZIP_DEFLATED)
    start = package.index(b"archive/a.warc.gz") + 60
    rows = read(tmp_path / "crawl.wacz", package[:start] + b"\xff" * 9 + package[start + 9 :])
    assert summarize(rows)[-1][1] == "Page 3"
    assert Reason.BROKEN_FILE in [reason for _, reason in summarize(rows)]


def encrypt(package: bytes) -> bytes:
    """Mark the last member as encrypted, in its own header and in the directory."""
    marked = bytearray(package)
    for header, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        marked[marked.rindex(header) + offset] |= 1
    return bytes(marked)


@pytest.mark.parametrize(
    ("package", "detail"),
    [
        (make_package({}), "no web archive"),
        (make_package(TWO)[:-30], "damaged ZIP package"),
        (b"no package", "damaged ZIP package"),
        (b"", "damaged ZIP package"),
        (encrypt(make_package({"archive/a.warc": make_archive(1)})), "is encrypted"),
    ],
    ids=["empty", "cut", "no-zip", "no-bytes", "encrypted"],
)
def test_a_package_that_cannot_be_opened_is_one_rejection(
    tmp_path: Path, package: bytes, detail: str
) -> None:
    [row] = read(tmp_path / "crawl.wacz", package)
    assert isinstance(row, RejectedDocument)
    assert row.reason == Reason.BROKEN_FILE
    assert detail in row.detail
