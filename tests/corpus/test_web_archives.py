"""Test WARC and WET files as warcio writes them."""

import gzip
import io
from collections.abc import Callable
from pathlib import Path

import pytest
from warcio.statusandheaders import StatusAndHeaders  # type: ignore[import-untyped]  # no types
from warcio.warcwriter import WARCWriter  # type: ignore[import-untyped]  # no types

from persona_pipeline.corpus.document import Document, RejectedDocument
from persona_pipeline.corpus.options import CorpusOptions
from persona_pipeline.corpus.rows import MAX_RAW_BYTES
from persona_pipeline.corpus.sources import read_source
from persona_pipeline.corpus.web_pages import decode_page, extract_page
from persona_pipeline.reasons import DocumentReason as Reason

OPTIONS = CorpusOptions(min_chars=20)
SENTENCE = "L'été est là, et la forêt s'éveille doucement. "


class Archive:
    """Build a WARC file."""

    def __init__(self, *, packed: bool = False) -> None:
        self._buffer = io.BytesIO()
        self._writer = WARCWriter(self._buffer, gzip=packed)

    @property
    def data(self) -> bytes:
        return self._buffer.getvalue()

    def add_page(
        self,
        body: bytes,
        *headers: tuple[str, str],
        status: str = "200 OK",
        url: str = "https://ex.org/page",
    ) -> None:
        head = StatusAndHeaders(status, list(headers), protocol="HTTP/1.1")
        record = self._writer.create_warc_record(
            url, "response", payload=io.BytesIO(body), http_headers=head, length=len(body)
        )
        self._writer.write_record(record)

    def add_other(self, kind: str, body: bytes, content_type: str = "text/plain") -> None:
        record = self._writer.create_warc_record(
            "https://ex.org/other",
            kind,
            payload=io.BytesIO(body),
            warc_content_type=content_type,
            length=len(body),
        )
        self._writer.write_record(record)

    def add_conversion(self, text: str, languages: str) -> None:
        record = self._writer.create_warc_record(
            "https://ex.org/wet",
            "conversion",
            payload=io.BytesIO(text.encode()),
            warc_content_type="text/plain",
            warc_headers_dict={"WARC-Identified-Content-Language": languages},
            length=len(text.encode()),
        )
        self._writer.write_record(record)


HTML = ("Content-Type", "text/html")


def make_page(number: int = 1, attributes: str = "") -> str:
    return (
        f"<html{attributes}><head><title>Page {number}</title></head><body>"
        f"<nav><a href='/'>Accueil</a></nav><main><p>{SENTENCE * 5}</p></main></body></html>"
    )


def read(path: Path, data: bytes) -> list[Document | RejectedDocument]:
    path.write_bytes(data)
    return list(read_source(str(path), OPTIONS))


def summarize(rows: list[Document | RejectedDocument]) -> list[tuple[int | None, str]]:
    """Return each row as its record number and its title, or its reason."""
    return [(row.line, str(row.title) if isinstance(row, Document) else row.reason) for row in rows]


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


def test_only_successful_text_responses_are_documents(tmp_path: Path) -> None:
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
    rows = read(tmp_path / "a.warc", data)
    assert summarize(rows) == [(2, "Page 1"), (8, "None"), (9, "Page 1")]


def test_a_wet_record_is_a_document_in_its_first_language(tmp_path: Path) -> None:
    archive = Archive(packed=True)
    archive.add_conversion(SENTENCE, "fra,eng")
    for name in ("a.warc.wet.gz", "a.wet.gz"):
        (row,) = read(tmp_path / name, archive.data)
        assert row == Document(
            SENTENCE.strip(), name, "https://ex.org/wet", "fr", None, None, name, 1
        )


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
    archive.add_page(b"not gzip", HTML, ("Content-Encoding", "gzip"))
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


def make_archive(*, packed: bool) -> bytes:
    archive = Archive(packed=packed)
    for number in range(1, 5):
        archive.add_page(make_page(number).encode(), HTML)
    return archive.data


def test_pages_before_a_truncated_gzip_are_kept(tmp_path: Path) -> None:
    data = make_archive(packed=True)
    rows = read(tmp_path / "a.warc.gz", data[: len(data) * 5 // 8])
    assert summarize(rows) == [(1, "Page 1"), (2, "Page 2"), (3, Reason.BROKEN_FILE)]
    assert isinstance(rows[2], RejectedDocument)
    assert "ends too early" in rows[2].detail


@pytest.mark.parametrize("packed", [True, False])
def test_wherever_an_archive_is_cut_no_page_vanishes_silently(
    tmp_path: Path, *, packed: bool
) -> None:
    archive = Archive(packed=packed)
    ends = [0]
    for number in (1, 2, 3):
        archive.add_page(make_page(number).encode(), HTML)
        ends.append(len(archive.data))
    pages: list[tuple[int | None, str]] = [(number, f"Page {number}") for number in (1, 2, 3)]
    for cut in range(0, len(archive.data), 7):
        whole = sum(end <= cut for end in ends[1:])
        rows = summarize(read(tmp_path / "a.warc", archive.data[:cut]))
        if cut in ends or rows == pages[: whole + 1]:
            # Two line ends close a record; without them it is still whole.
            assert len(rows) == whole or cut > ends[whole + 1] - 32, cut
        else:
            assert rows[:whole] == pages[:whole], cut
            assert rows[-1][1] == Reason.BROKEN_FILE, cut


def cut_length(data: bytes) -> bytes:
    return data.replace(b"Content-Length: ", b"Content-Lxxxxx: ", 3)


def garble_length(data: bytes) -> bytes:
    return data.replace(b"Content-Length: ", b"Content-Length: \x1d", 1)


def break_second_header(data: bytes) -> bytes:
    middle = data.index(b"WARC/1.0", 10)
    return data[:middle] + b"XXXX/1.0" + data[middle + 8 :]


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (cut_length, [(1, Reason.BROKEN_FILE)]),
        (garble_length, [(1, Reason.BROKEN_FILE)]),
        (break_second_header, [(1, "Page 1"), (2, Reason.BROKEN_FILE)]),
        (lambda _: b"not an archive\n" * 99, [(1, Reason.BROKEN_FILE)]),
        (lambda _: b"", []),
    ],
)
def test_damage_ends_an_archive_with_a_reason(
    tmp_path: Path, damage: Callable[[bytes], bytes], expected: list[tuple[int, str]]
) -> None:
    assert summarize(read(tmp_path / "a.warc", damage(make_archive(packed=False)))) == expected


@pytest.mark.parametrize(
    ("body", "charset"),
    [
        ("été".encode("latin-1"), "iso-8859-1"),
        ("été".encode("latin-1"), "utf-8"),
        ("été".encode(), "no-such-charset"),
        ("été".encode("utf-8-sig"), "iso-8859-1"),
        ("été".encode("utf-16"), None),
        (b"<meta charset=windows-1252><p>\xe9t\xe9", None),
        (("forêt d'été, à côté " * 20).encode("latin-1"), None),
    ],
)
def test_a_page_is_decoded_by_the_most_reliable_sign(body: bytes, charset: str | None) -> None:
    assert "été" in decode_page(body, charset)


@pytest.mark.parametrize("nested", ["<div>", "<div></b>", "<x-y>"])
def test_a_page_nested_to_exhaust_us_yields_its_text_at_once(nested: str) -> None:
    # The search for the main text would take many minutes.
    assert extract_page(nested * 60_000 + "the text").text == "the text"


def test_a_long_page_of_unclosed_paragraphs_still_loses_its_menu() -> None:
    page = extract_page(
        "<nav><a href=/>Menu</a></nav><main>"
        + "<p>Line<br>by <b>line</b>, <img src=x>with text." * 2000
        + "</main>"
    )
    assert "Menu" not in page.text
    assert page.text.count("with text") == 2000
