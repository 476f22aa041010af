"""Test WARC and WET files as warcio writes them."""

import bz2
import gzip
import lzma
import struct
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from persona_pipeline.corpus.document import Document, RejectedDocument
from persona_pipeline.corpus.rows import MAX_RAW_BYTES, Skipped
from persona_pipeline.reasons import DocumentReason as Reason
from persona_pipeline.reasons import SkipReason
from tests.support.web_archives import (
    HTML,
    SENTENCE,
    Archive,
    make_page,
    make_record,
    read,
    summarize,
)


@pytest.mark.parametrize(("name", "packed"), [("a.warc", False), ("a.warc.gz", True)])
def test_a_latin_1_page_becomes_its_main_text(tmp_path: Path, name: str, *, packed: bool) -> None:
    archive = Archive(packed=packed)
    archive.add_page(
        make_page(1, " lang='fr-CA'").encode("latin-1"),
        ("Content-Type", 'text/html; charset="ISO-8859-1"'),
    )
    (row,) = read(tmp_path / name, archive.data)
    expected = Document(
        text=(SENTENCE * 5).strip(),
        source=name,
        url="https://ex.org/page",
        language="fr",
        title="Page 1",
        file=name,
        line=1,
    )
    assert row == expected


def test_pages_are_documents_and_other_records_are_counted_by_kind(tmp_path: Path) -> None:
    archive = Archive()
    page = make_page().encode()
    archive.add_other("warcinfo", b"software: test", "application/warc-fields")
    archive.add_page(page, HTML)
    archive.add_page(page, HTML, status="404 Not Found")
    archive.add_page(page, ("Content-Type", "image/png"))
    archive.add_page(page)
    archive.add_other("metadata", page)
    archive.add_other("resource", page, "text/dns")
    archive.add_page(SENTENCE.encode(), ("Content-Type", "Text/Plain; charset=utf-8"))
    archive.add_page(page, ("Content-Type", "application/xhtml+xml"))
    # warcio cannot write a response that is not HTTP.
    data = archive.data.replace(b"WARC-Type: resource", b"WARC-Type: response")
    data += make_record(b"", kind="Revisit") + make_record(b"?", kind="my-own")
    data += make_record(b"", kind="request") + make_record(b"", kind="continuation")
    skipped: Skipped = Counter()
    rows = read(tmp_path / "a.warc", data, skipped)
    assert summarize(rows) == [(2, "Page 1"), (5, "Page 1"), (8, "None"), (9, "Page 1")]
    assert skipped == {
        ("a.warc", SkipReason.WARCINFO): 1,
        ("a.warc", SkipReason.HTTP_STATUS): 1,
        ("a.warc", SkipReason.CONTENT_TYPE): 2,
        ("a.warc", SkipReason.METADATA): 1,
        ("a.warc", SkipReason.REVISIT): 1,
        ("a.warc", SkipReason.UNKNOWN_RECORD): 1,
        ("a.warc", SkipReason.REQUEST): 1,
        ("a.warc", SkipReason.CONTINUATION): 1,
    }


def test_a_wet_record_is_a_document_in_its_first_language(tmp_path: Path) -> None:
    archive = Archive(packed=True)
    archive.add_conversion(SENTENCE, "fra,eng")
    for name in ("a.warc.wet.gz", "a.wet.gz"):
        (row,) = read(tmp_path / name, archive.data)
        assert row == Document(
            SENTENCE.strip(), name, "https://ex.org/wet", "fr", None, None, name, 1
        )


PAGE = make_page().encode()
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n"
HTTP = "Content-Type: application/http; msgtype=response"


@pytest.mark.parametrize(
    "record",
    [
        make_record(PAGE, "Content-Type: text/html", kind="resource"),
        make_record(PAGE, kind="resource"),
        make_record(PAGE, "Content-Type: Text/HTML; charset=utf-8"),
        make_record(HEAD + PAGE, "Content-Type: Application/HTTP; msgtype=response"),
        make_record(HEAD + PAGE),
        make_record(HEAD + PAGE, HTTP, kind="Response"),
        make_record(HEAD.replace(b"\r", b"") + PAGE, HTTP),
        make_record(b"HTTP/1.1 200 OK\r\n\r\n" + PAGE, HTTP),
        make_record(HEAD.replace(b"text/html", b"nonsense") + PAGE, HTTP),
        make_record(HEAD.replace(b"/html", b"/html, text/html; charset=utf-8") + PAGE, HTTP),
        make_record(HEAD[:-2] + b"Content-Type: text/html\r\n\r\n" + PAGE, HTTP),
        make_record(HEAD.replace(b"HTTP/1.1", b"HTTP/2") + PAGE, HTTP),
        make_record(b"<!-- saved --> \n<!DOCTYPE html>" + PAGE, HTTP),
        make_record(HEAD.replace(b"\r", b"") + PAGE, HTTP).replace(b"\r", b""),
    ],
    ids=str.split(
        "resource resource-without-type response-without-http application-in-capitals no-type "
        "kind-in-capitals bare-lf no-content-type bad-content-type two-types two-headers http-2 "
        "no-http-head bare-lf-everywhere"
    ),
)
def test_a_page_with_unusual_headers_is_read(tmp_path: Path, record: bytes) -> None:
    # The cases of dolma#248 and warcio#157: each of these pages was in no count.
    rows = read(tmp_path / "a.warc", record)
    assert summarize(rows) == [(1, "Page 1")]


def test_a_body_without_a_type_is_no_page_unless_it_looks_like_one(tmp_path: Path) -> None:
    skipped: Skipped = Counter()
    data = make_record(b"HTTP/1.1 200 OK\r\n\r\n\x89PNG\r\n\x1a\n", HTTP)
    assert read(tmp_path / "a.warc", data, skipped) == []
    assert skipped == {("a.warc", SkipReason.CONTENT_TYPE): 1}


def test_an_arc_archive_is_read_like_a_warc(tmp_path: Path) -> None:
    page = HEAD + PAGE
    version = b"1 0 InternetArchive\nURL IP-address Archive-date Content-type Archive-length\n"
    lines = [
        (b"filedesc://a.arc 0.0.0.0 20050101000000 text/plain", version),
        (b"dns:ex.org 1.2.3.4 20050101000000 text/dns", b"ex.org 60 IN A 1.2.3.4"),
        (b"http://ex.org/a b 1.2.3.4 20050101000000 text/html", page),
        (b"http://ex.org/2 1.2.3.4 20050101000000 text/html 200 sum - 999 a.arc", page),
        (b"http://ex.org/3 1.2.3.4 20050101000000 no-type", PAGE),
    ]
    records = [b"%s %d\n%s\n" % (line, len(block), block) for line, block in lines]
    packed = b"".join(map(gzip.compress, records))
    for name, data in (
        ("a.arc", b"".join(records)),
        ("a.arc.gz", packed),
        ("a.arc.bz2", bz2.compress(b"".join(records))),
    ):
        skipped: Skipped = Counter()
        rows = read(tmp_path / name, data, skipped)
        assert summarize(rows) == [(3, "Page 1"), (4, "Page 1"), (5, "Page 1")]
        assert isinstance(rows[0], Document)
        assert rows[0].url == "http://ex.org/a b"
        assert skipped == {(name, SkipReason.WARCINFO): 1, (name, SkipReason.CONTENT_TYPE): 1}


@pytest.mark.parametrize("name", ["my.archive.warc", "crawl.arc.warc.gz", "renamed.arc"])
def test_an_archive_whose_name_only_looks_like_arc_is_read_as_warc(
    tmp_path: Path, name: str
) -> None:
    rows = read(tmp_path / name, make_record(HEAD + PAGE, HTTP))
    assert summarize(rows) == [(1, "Page 1")]


@pytest.mark.parametrize(
    ("name", "compress"), [("a.warc.xz", lzma.compress), ("a.warc.bz2", bz2.compress)]
)
def test_an_archive_in_xz_or_bzip2_is_read_around_its_damage(
    tmp_path: Path, name: str, compress: Callable[[bytes], bytes]
) -> None:
    members = [
        compress(make_record(HEAD + make_page(number).encode(), HTTP)) for number in range(3)
    ]
    every = [(number, f"Page {number - 1}") for number in (1, 2, 3)]
    assert summarize(read(tmp_path / name, b"".join(members))) == every
    assert summarize(read(tmp_path / name, b"".join(members)[:-9]))[:2] == every[:2]
    middle = bytearray(members[1])
    middle[len(middle) // 2] ^= 0xFF
    rows = summarize(read(tmp_path / name, members[0] + bytes(middle) + members[2]))
    assert rows[0] == every[0]
    assert Reason.BROKEN_FILE in {row[1] for row in rows}
    assert rows[-1][1] == "Page 2"


@pytest.mark.parametrize("dictionary", ["none", "plain", "packed"])
def test_a_zstd_archive_is_read_with_its_dictionary(tmp_path: Path, dictionary: str) -> None:
    samples = [make_page(number).encode() for number in range(200)]
    words = zstandard.train_dictionary(2000, [*samples]) if dictionary != "none" else None
    compressor = zstandard.ZstdCompressor(dict_data=words, write_checksum=True)
    data = b"".join(compressor.compress(make_record(HEAD + page, HTTP)) for page in samples[1:4])
    if words:
        content = words.as_bytes()
        content = zstandard.compress(content) if dictionary == "packed" else content
        data = struct.pack("<II", 0x184D2A5D, len(content)) + content + data
    rows = read(tmp_path / "a.warc.zst", data)
    assert summarize(rows) == [(1, "Page 1"), (2, "Page 2"), (3, "Page 3")]


@pytest.mark.parametrize(
    "content", [b"\x37\xa4\x30\xec" + b"x" * 99, b"\x28\xb5\x2f\xfd" + b"\xff" * 20]
)
def test_a_zstd_archive_whose_dictionary_is_damaged_is_one_rejection(
    tmp_path: Path, content: bytes
) -> None:
    head = struct.pack("<II", 0x184D2A5D, len(content))
    data = head + content + zstandard.compress(make_record(HEAD + PAGE, HTTP))
    [row] = read(tmp_path / "a.warc.zst", data)
    assert isinstance(row, RejectedDocument)
    assert "the zstd dictionary of the archive is damaged" in row.detail


def test_no_detail_is_longer_than_500_characters(tmp_path: Path) -> None:
    record = make_record(HEAD, HTTP).replace(b"ex.org/", b"ex.org/" + b"a" * 100_000)
    [row] = read(tmp_path / "a.warc", record)
    assert isinstance(row, RejectedDocument)
    assert row.reason == Reason.NO_MAIN_TEXT
    assert (len(row.detail), row.detail[:18], row.detail[-1]) == (500, "https://ex.org/aaa", "…")


def test_content_and_transfer_encodings_are_undone(tmp_path: Path) -> None:
    packed = gzip.compress(make_page().encode())
    body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(packed), packed)
    archive = Archive()
    archive.add_page(body, HTML, ("Content-Encoding", "gzip"), ("Transfer-Encoding", "chunked"))
    assert summarize(read(tmp_path / "a.warc", archive.data)) == [(1, "Page 1")]


def test_bad_records_are_rejected_one_by_one(tmp_path: Path) -> None:
    archive = Archive()
    archive.add_page(make_page(1).encode(), HTML)
    archive.add_page(b"<html><body><script>run()</script></body></html>", HTML)
    archive.add_page(b"<main><p>Too short.</p></main>", HTML)
    archive.add_page(b"\0 not gzip", HTML, ("Content-Encoding", "gzip"))
    archive.add_page(make_page(5).encode(), HTML, url="<https://ex.org/5>")
    archive.add_page(b"", HTML)
    data = archive.data.replace(b"HTTP/1.1 200 OK", b"not even a head", 1)
    rows = read(tmp_path / "a.warc", data)
    assert summarize(rows) == [
        (1, Reason.BROKEN_FILE),
        (2, Reason.NO_MAIN_TEXT),
        (3, Reason.TOO_SHORT),
        (4, Reason.BROKEN_FILE),
        (5, "Page 5"),
        (6, Reason.NO_MAIN_TEXT),
    ]
    assert isinstance(rows[4], Document)
    assert rows[4].url == "https://ex.org/5"


def test_a_page_larger_than_any_text_is_not_read_to_its_end(tmp_path: Path) -> None:
    zeros = bytes(MAX_RAW_BYTES + 1)
    bomb = gzip.compress(zeros, compresslevel=1)
    archive = Archive()
    archive.add_page(bomb, HTML, ("Content-Encoding", "gzip"))
    head = b"WARC/1.0\r\nWARC-Type: conversion\r\nContent-Length: %d\r\n\r\n" % len(zeros)
    last = Archive()
    last.add_page(make_page(3).encode(), HTML)
    data = archive.data + head + zeros + b"\r\n\r\n" + last.data
    assert summarize(read(tmp_path / "a.warc", data)) == [
        (1, Reason.TOO_LONG),
        (2, Reason.TOO_LONG),
        (3, "Page 3"),
    ]
