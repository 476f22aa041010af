"""Read WARC and WET, which hold the pages that a crawler stored.

Documents are `response` records with status 200 whose content is HTML or plain text, and
`conversion` records (WET). Requests, metadata, other statuses and other content are not texts. They
are skipped, and only count for the record number in `line`.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from fastwarc.warc import ArchiveIterator, WarcRecord, WarcRecordType

from persona_pipeline.corpus.byte_streams import BrokenStreamError, ChunkStream, read_chunks
from persona_pipeline.corpus.normalize import normalize_language
from persona_pipeline.corpus.options import CorpusOptions
from persona_pipeline.corpus.rows import MAX_RAW_BYTES, Place, RawText, Row, build_row
from persona_pipeline.corpus.web_pages import decode_page, extract_page
from persona_pipeline.reasons import DocumentReason

_HTML_TYPES = frozenset({"text/html", "application/xhtml+xml"})
_TEXT_TYPES = _HTML_TYPES | {"text/plain"}
_STATUS_OK = 200
_LENGTH = re.compile(r"[ \t]*([0-9]{1,18})[ \t]*")


@dataclass(frozen=True, slots=True)
class _Page:
    """Hold a body that a server sent with status 200 as HTML or plain text."""

    body: bytes
    charset: str | None
    is_html: bool


def read_web_archive(path: Path, place: Place, options: CorpusOptions) -> Iterator[Row]:
    """Yield one row per page. `line` is the number of the record in the archive, from 1."""
    records: Iterator[WarcRecord] | None = None
    for number in count(1):
        try:
            # Decompress here: FastWARC takes the end of a truncated gzip for the end of the file.
            records = records or iter(
                ArchiveIterator(
                    ChunkStream(read_chunks(path)), parse_http=False, stream_detect=False
                )
            )
            record = next(records, None)
            content = _read_content(record) if record else b""
        except OSError as error:
            yield place.reject(DocumentReason.BROKEN_FILE, f"the archive breaks: {error}", number)
            return
        if record is None:
            return
        if row := _build_record_row(record, content, number, place, options):
            yield row


def _read_content(record: WarcRecord) -> bytes:
    """Return the whole block.

    At the end of a file, FastWARC returns a shorter block, or one without length.
    """
    declared = _LENGTH.fullmatch(record.headers.get("Content-Length") or "")
    if declared is None:
        message = "a record header without Content-Length; the file was not copied completely"
        raise BrokenStreamError(message)
    content = record.reader.read(MAX_RAW_BYTES + 1)
    if len(content) < min(int(declared[1]), MAX_RAW_BYTES + 1):
        message = f"a record of {declared[1]} bytes ends after {len(content)}"
        raise BrokenStreamError(message)
    return content


def _build_record_row(
    record: WarcRecord, content: bytes, number: int, place: Place, options: CorpusOptions
) -> Row | None:
    if record.record_type == WarcRecordType.conversion:
        return _build_converted_row(record, content, number, place, options)
    if record.record_type != WarcRecordType.response or not record.is_http:
        return None
    try:
        page = _read_page(content)
    except OSError as error:
        return place.reject(DocumentReason.BROKEN_FILE, f"unreadable response: {error}", number)
    if page is None:
        return None
    if max(len(content), len(page.body)) > MAX_RAW_BYTES:
        return place.reject_too_large(number)
    return _build_page_row(page, _find_url(record), number, place, options)


def _read_page(content: bytes) -> _Page | None:
    """Return the page in an HTTP response, or None if it is an error, an image or the like.

    It is parsed apart from the archive: a body that cannot be decoded would end FastWARC's
    iteration.
    """
    response = WarcRecord()
    response.is_http = True
    response.set_bytes_content(content[:MAX_RAW_BYTES])
    response.parse_http(auto_decode="all")
    status = response.http_headers.status_code
    if status is None:
        message = "no HTTP status line"
        raise BrokenStreamError(message)
    content_type = (response.http_content_type or "").lower()
    if status != _STATUS_OK or content_type not in _TEXT_TYPES:
        return None
    body = response.reader.read(MAX_RAW_BYTES + 1)
    return _Page(body, response.http_charset, is_html=content_type in _HTML_TYPES)


def _build_page_row(
    page: _Page, url: str | None, number: int, place: Place, options: CorpusOptions
) -> Row:
    text = decode_page(page.body, page.charset)
    if not page.is_html:
        return build_row(RawText(text, number, url), place, options)
    web_page = extract_page(text)
    if not web_page.text.strip():
        return place.reject(DocumentReason.NO_MAIN_TEXT, f"{url} has no main text", number)
    raw = RawText(web_page.text, number, url, web_page.language, title=web_page.title)
    return build_row(raw, place, options)


def _build_converted_row(
    record: WarcRecord, content: bytes, number: int, place: Place, options: CorpusOptions
) -> Row:
    if len(content) > MAX_RAW_BYTES:
        return place.reject_too_large(number)
    language = normalize_language(record.headers.get("WARC-Identified-Content-Language"))
    raw = RawText(decode_page(content, "utf-8"), number, _find_url(record), language)
    return build_row(raw, place, options)


def _find_url(record: WarcRecord) -> str | None:
    """Return the address, without the angle brackets of older crawlers."""
    return (record.headers.get("WARC-Target-URI") or "").strip("<> ") or None
