"""Read WARC, WET, ARC and WACZ, which hold the pages that a crawler stored.

Documents are the HTML pages and plain texts of responses with status 200, of `resource` records and
of `conversion` records (WET). Other records hold no page: requests, images, errors and the like.
They are counted by kind, and count for the record number in `line`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path, PurePosixPath

from persona_pipeline.corpus.archive_bytes import SeekableFile, read_pieces
from persona_pipeline.corpus.archive_records import BrokenRecord, Record, split_records
from persona_pipeline.corpus.byte_streams import BrokenStreamError
from persona_pipeline.corpus.codecs import BY_SUFFIX
from persona_pipeline.corpus.http_responses import MediaType, parse_media_type, parse_response
from persona_pipeline.corpus.normalize import normalize_language
from persona_pipeline.corpus.options import CorpusOptions
from persona_pipeline.corpus.record_heads import Head
from persona_pipeline.corpus.rows import MAX_RAW_BYTES, Place, RawText, Row, build_row
from persona_pipeline.corpus.wacz import open_archives
from persona_pipeline.corpus.web_pages import decode_page, extract_page, looks_like_html
from persona_pipeline.reasons import DocumentReason, SkipReason

_HTML_TYPES = frozenset({"text/html", "application/xhtml+xml"})
_PLAIN_TYPE = "text/plain"
_TEXT_TYPES = _HTML_TYPES | {_PLAIN_TYPE}
_OTHER_MEDIA = ("image/", "audio/", "video/", "font/")
_HTTP_TYPE = "application/http"
_HTTP_START = b"HTTP/"
_STATUS_OK = 200

_CONVERSION = "conversion"
_PAGE_KINDS = frozenset({"response", "resource", _CONVERSION})
_OTHER_KINDS = {
    "warcinfo": SkipReason.WARCINFO,
    "request": SkipReason.REQUEST,
    "metadata": SkipReason.METADATA,
    "revisit": SkipReason.REVISIT,
    "continuation": SkipReason.CONTINUATION,
}


@dataclass(frozen=True, slots=True)
class _Page:
    """Hold the body of an HTML page or a plain text."""

    body: bytes
    charset: str | None
    is_html: bool


def read_web_archive(path: Path, place: Place, options: CorpusOptions) -> Iterator[Row]:
    """Yield one row per page or damage. `line` is the number of the record, from 1."""
    with path.open("rb") as file:
        yield from _read_archive(file, path.name, count(1), place, options)


def read_wacz(path: Path, place: Place, options: CorpusOptions) -> Iterator[Row]:
    """Yield the rows of all archives in a package. `line` counts through their records."""
    numbers = count(1)
    try:
        for name, file in open_archives(path):
            yield from _read_archive(file, name, numbers, place, options)
    except OSError as error:
        detail = f"the package cannot be read: {error.strerror or error}"
        yield place.reject(DocumentReason.BROKEN_FILE, detail, next(numbers))


def _read_archive(
    file: SeekableFile, name: str, numbers: Iterator[int], place: Place, options: CorpusOptions
) -> Iterator[Row]:
    try:
        for record in split_records(read_pieces(file, name), is_arc=_is_named_arc(name)):
            if row := _build_record_row(record, next(numbers), place, options):
                yield row
    except OSError as error:
        detail = f"{name} cannot be read on: {error.strerror or error}"
        yield place.reject(DocumentReason.BROKEN_FILE, detail, next(numbers))


def _is_named_arc(name: str) -> bool:
    path = PurePosixPath(name.lower())
    return (path.stem if path.suffix in BY_SUFFIX else path.name).endswith(".arc")


def _build_record_row(
    record: Record | BrokenRecord, number: int, place: Place, options: CorpusOptions
) -> Row | None:
    if isinstance(record, BrokenRecord):
        return place.reject(DocumentReason.BROKEN_FILE, record.detail, number)
    try:
        page = _read_page(record)
    except BrokenStreamError as error:
        return place.reject(DocumentReason.BROKEN_FILE, f"unreadable response: {error}", number)
    if isinstance(page, SkipReason):
        place.skip(page)
        return None
    if record.is_too_large or len(page.body) > MAX_RAW_BYTES:
        return place.reject_too_large(number)
    return _build_page_row(page, record.head, number, place, options)


def _read_page(record: Record) -> _Page | SkipReason:
    """Return the page of the record, or why it holds none.

    Raises:
        BrokenStreamError: the page cannot be decoded.
    """
    head, block = record.head, record.block
    if head.kind not in _PAGE_KINDS:
        return _OTHER_KINDS.get(head.kind, SkipReason.UNKNOWN_RECORD)
    if not head.content_type.lower().startswith(_HTTP_TYPE) and not block.startswith(_HTTP_START):
        return _find_page(_block_type(head), lambda: block)
    response = parse_response(block)
    if response is None:
        if looks_like_html(block):
            return _Page(block, None, is_html=True)
        message = "no HTTP status line"
        raise BrokenStreamError(message)
    if response.status != _STATUS_OK:
        return SkipReason.HTTP_STATUS
    # A beginning cannot be decoded, and a record that is too large is not read on anyway.
    return _find_page(
        response.media_type,
        response.read_body if not record.is_too_large else lambda: response.raw_body,
    )


def _block_type(head: Head) -> MediaType | None:
    """Return the type of a block that is no HTTP response. A conversion is text by nature."""
    media_type = parse_media_type([head.content_type])
    if head.kind != _CONVERSION or (media_type and media_type.name in _HTML_TYPES):
        return media_type
    if media_type and media_type.name.startswith(_OTHER_MEDIA):  # a thumbnail
        return media_type
    return MediaType(_PLAIN_TYPE, "utf-8")


def _find_page(media_type: MediaType | None, read_body: Callable[[], bytes]) -> _Page | SkipReason:
    """Return the page if the type is text, or is not known and the body looks like HTML."""
    if media_type is None:
        body = read_body()
        is_html = looks_like_html(body)
        return _Page(body, None, is_html=True) if is_html else SkipReason.CONTENT_TYPE
    if media_type.name not in _TEXT_TYPES:
        return SkipReason.CONTENT_TYPE
    return _Page(read_body(), media_type.charset, is_html=media_type.name in _HTML_TYPES)


def _build_page_row(
    page: _Page, head: Head, number: int, place: Place, options: CorpusOptions
) -> Row:
    text = decode_page(page.body, page.charset)
    language = normalize_language(head.language)
    if not page.is_html:
        return build_row(RawText(text, number, head.url, language), place, options)
    web_page = extract_page(text)
    if not web_page.text.strip():
        return place.reject(DocumentReason.NO_MAIN_TEXT, f"{head.url} has no main text", number)
    language = language or web_page.language
    raw = RawText(web_page.text, number, head.url, language, title=web_page.title)
    return build_row(raw, place, options)
