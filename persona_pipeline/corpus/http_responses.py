"""Read stored HTTP responses whose headers may contradict their body.

Crawlers undo encodings and keep the headers that name them, and servers send headers that are not
true. So a body is decoded where it decodes. Else it is taken as it is.
"""

import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import brotli
import zstandard

from persona_pipeline.corpus.byte_streams import BrokenStreamError
from persona_pipeline.corpus.rows import MAX_RAW_BYTES

_LIMIT = MAX_RAW_BYTES + 1
"""Bytes that are decoded at most: as many as show that a page is too large."""

_BLANK_LINE = re.compile(rb"\n\r?\n")
_STATUS_LINE = re.compile(rb"\s*HTTP/[0-9.]+[ \t]+([0-9]{3})\b")
_CHUNK_SIZE = re.compile(rb"[ \t]*([0-9A-Fa-f]{1,8})[ \t]*(?:;[^\n]*)?\r?\n")
_LINE_END = re.compile(rb"\r?\n")
_TRAILERS = re.compile(rb"(?:[!-9;-~]+:[^\n]*\n|\r?\n)*+\Z")
_CHARSET = re.compile(r";\s*charset\s*=\s*\"?([^\s\";,]+)", re.IGNORECASE)
_MEDIA_TYPE = re.compile(r"[a-z0-9!#$&^_.+-]+/[a-z0-9!#$&^_.+-]+")

# What the WHATWG's MIME sniffing calls binary data bytes.
_BINARY = re.compile(rb"[\x00-\x08\x0b\x0e-\x1a\x1c-\x1f]")
_BOMS = (b"\xff\xfe", b"\xfe\xff", b"\xef\xbb\xbf")
_SNIFFED = 1024
_GZIP_MAGIC = b"\x1f\x8b\x08"


@dataclass(frozen=True, slots=True)
class MediaType:
    """Hold a media type in small letters, such as text/html, and its charset."""

    name: str
    charset: str | None


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """Hold a response as it was sent."""

    status: int
    media_type: MediaType | None
    """None: no header names a type."""
    transfer_codings: tuple[str, ...]
    content_codings: tuple[str, ...]
    raw_body: bytes

    def read_body(self) -> bytes:
        """Return the body without its encodings, or at least so much that it is too large.

        Raises:
            BrokenStreamError: the body is neither what the headers say nor text.
        """
        body = self.raw_body
        if "chunked" in self.transfer_codings:
            body = _join_chunks(body)
        codings = [coding for coding in self.transfer_codings if coding != "chunked"]
        codings = [coding for coding in (*self.content_codings, *codings) if coding in _DECODERS]
        if not codings and body.startswith(_GZIP_MAGIC):
            codings = ["gzip"]
        for coding in reversed(codings):
            body = _decode(body, coding)
        return body


def parse_response(block: bytes) -> HttpResponse | None:
    """Return the response, or None if the block does not begin with an HTTP status line."""
    status = _STATUS_LINE.match(block)
    if status is None:
        return None
    blank = _BLANK_LINE.search(block)
    head, body = (block[: blank.start()], block[blank.end() :]) if blank else (block, b"")
    fields = _parse_fields(head)
    return HttpResponse(
        status=int(status[1]),
        media_type=parse_media_type(fields.get("content-type", ())),
        transfer_codings=tuple(_split(fields.get("transfer-encoding", ()))),
        content_codings=tuple(_split(fields.get("content-encoding", ()))),
        raw_body=body,
    )


def parse_media_type(values: Iterable[str]) -> MediaType | None:
    """Return the last type of the values, as browsers do, with the last charset that they name."""
    text = ", ".join(values)
    names = [part.partition(";")[0].strip().lower() for part in text.split(",")]
    names = [name for name in names if _MEDIA_TYPE.fullmatch(name)]
    charsets = _CHARSET.findall(text)
    return MediaType(names[-1], charsets[-1] if charsets else None) if names else None


def _parse_fields(head: bytes) -> Mapping[str, list[str]]:
    fields: dict[str, list[str]] = {}
    for line in head.decode("latin-1").split("\n")[1:]:
        name, colon, value = line.partition(":")
        if colon:
            fields.setdefault(name.strip().lower(), []).append(value.strip())
    return fields


def _split(values: Iterable[str]) -> Iterator[str]:
    for value in values:
        yield from (coding.strip().lower() for coding in value.split(","))


def _join_chunks(body: bytes) -> bytes:
    """Return the body without the sizes of its chunks, or as it is if it has none."""
    chunks: list[bytes] = []
    position = 0
    while size := _CHUNK_SIZE.match(body, position):
        end = size.end() + int(size[1], 16)
        if end == size.end():
            is_last = chunks or _TRAILERS.match(body, end)
            return b"".join(chunks) if is_last else body
        chunks.append(body[size.end() : end])
        line_end = _LINE_END.match(body, end)
        if line_end is None:
            # a last chunk that is cut off is taken as far as it goes
            return b"".join(chunks) if end >= len(body) else body
        position = line_end.end()
    return b"".join(chunks) if chunks and position >= len(body) else body


def _decode(body: bytes, coding: str) -> bytes:
    content, is_whole = _DECODERS[coding](body)
    if is_whole or not body:
        return content
    if _is_text(body):
        return body
    if content:  # the response was cut off, and so is the page
        return content
    message = f"Content-Encoding says {coding}, but the body is neither that nor text"
    raise BrokenStreamError(message)


def _is_text(body: bytes) -> bool:
    return body.startswith(_BOMS) or not _BINARY.search(body[:_SNIFFED])


def _inflate(body: bytes) -> tuple[bytes, bool]:
    """Decode gzip or zlib, whichever it is."""
    return _inflate_as(body, zlib.MAX_WBITS | 32)


def _inflate_any(body: bytes) -> tuple[bytes, bool]:
    """Decode deflate, which some servers send without the header of zlib."""
    content, is_whole = _inflate(body)
    return (content, is_whole) if content else _inflate_as(body, -zlib.MAX_WBITS)


def _inflate_as(body: bytes, wbits: int) -> tuple[bytes, bool]:
    member = zlib.decompressobj(wbits=wbits)
    try:
        content = member.decompress(body, _LIMIT)
    except zlib.error:
        return b"", False
    return content, member.eof or len(content) == _LIMIT


def _decode_brotli(body: bytes) -> tuple[bytes, bool]:
    decoder = brotli.Decompressor()
    try:
        content = decoder.process(body, output_buffer_limit=_LIMIT)
    except brotli.error:
        return b"", False
    return content, decoder.is_finished() or len(content) >= _LIMIT


def _decode_zstd(body: bytes) -> tuple[bytes, bool]:
    reader = zstandard.ZstdDecompressor().stream_reader(body, read_across_frames=True)
    try:
        return reader.read(_LIMIT), True
    except zstandard.ZstdError:
        return b"", False


_DECODERS: Mapping[str, Callable[[bytes], tuple[bytes, bool]]] = {
    "gzip": _inflate,
    "x-gzip": _inflate,
    "deflate": _inflate_any,
    "br": _decode_brotli,
    "zstd": _decode_zstd,
}
"""By coding: the content, and whether it came to its end. Other codings change nothing."""
