"""Read and decompress the bytes of a file. What precedes damage is never lost."""

import codecs
import lzma
import zlib
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import BinaryIO

import zstandard

from persona_pipeline.corpus.codecs import (
    BY_SUFFIX,
    BZIP2,
    PACKED_CHUNK,
    PLAIN_CHUNK,
    Codec,
    Member,
    find_codec,
)
from persona_pipeline.corpus.rows import MAX_RAW_BYTES

_MARK_INVALID = "persona_pipeline.mark_invalid"
"""Name of the error handler of UTF-16 and UTF-32."""
_HEAD = 64
"""Bytes that show whether a content is text."""


class BrokenStreamError(OSError):
    """Report compressed data, or a record inside it, that is damaged or ends too early."""


_BOMS = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


def read_chunks(path: Path) -> Iterator[bytes]:
    """Yield the decompressed content in chunks, none of them empty.

    The first bytes of the file tell the compression, not its name.

    Raises:
        BrokenStreamError: the compressed data breaks off. All readable chunks come first.
    """
    with path.open("rb") as file:
        codec = _find_codec(file.read(_HEAD), path.suffix.lower())
        file.seek(0)
        if codec is None:
            yield from iter(lambda: file.read(PLAIN_CHUNK), b"")
        else:
            yield from _decompress(file, codec)


def read_text_chunks(path: Path) -> Iterator[bytes]:
    """Yield the decompressed content in UTF-8. Its byte order mark tells UTF-16 and UTF-32.

    What is invalid in these is invalid in the UTF-8 too, so that it costs no more than its line.

    Raises:
        BrokenStreamError: the compressed data breaks off. All readable chunks come first.
    """
    chunks = read_chunks(path)
    first = next(chunks, b"")
    for mark, encoding in _BOMS:
        if first.startswith(mark):
            decoded = codecs.iterdecode(
                chain([first[len(mark) :]], chunks), encoding, _MARK_INVALID
            )
            yield from (text.encode("utf-8", "surrogatepass") for text in decoded)
            return
    yield first.removeprefix(codecs.BOM_UTF8)
    yield from chunks


def join_chunks(chunks: Iterable[bytes], limit: int = MAX_RAW_BYTES) -> bytes | None:
    """Return the content, or None as soon as it is larger than `limit`."""
    parts: list[bytes] = []
    size = 0
    for chunk in chunks:
        parts.append(chunk)
        size += len(chunk)
        if size > limit:
            return None
    return b"".join(parts)


def split_lines(chunks: Iterable[bytes], limit: int = MAX_RAW_BYTES) -> Iterator[bytes]:
    """Yield lines without their newline. A line longer than `limit` is cut, but stays longer."""
    pending: list[bytes] = []
    size = 0
    for chunk in chunks:
        *ends, rest = chunk.split(b"\n")
        for end in ends:
            yield b"".join([*pending, end])
            pending, size = [], 0
        if size <= limit:
            pending.append(rest)
            size += len(rest)
    if size:
        yield b"".join(pending)


def _find_codec(head: bytes, suffix: str) -> Codec | None:
    if codec := find_codec(head):
        return codec
    if head.startswith(BZIP2.magic) and suffix == ".bz2":
        return BZIP2
    if head and suffix in BY_SUFFIX and not _is_text(head):
        message = f"named {suffix}, but the content is neither compressed that way nor text"
        raise BrokenStreamError(message)
    return None


def _is_text(head: bytes) -> bool:
    """Return whether the first bytes are text. A damaged gzip or zstd header is none."""
    if any(head.startswith(mark) for mark, _ in _BOMS):
        return True
    try:
        text = codecs.getincrementaldecoder("utf-8-sig")().decode(head)
    except UnicodeDecodeError:
        return False
    return all(char.isprintable() or char.isspace() for char in text)


def _mark_invalid(error: UnicodeError) -> tuple[str, int]:
    """Return a character that is invalid in UTF-8 too, and where the decoder goes on."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return "\udcff", error.end


codecs.register_error(_MARK_INVALID, _mark_invalid)


def _decompress(file: BinaryIO, codec: Codec) -> Iterator[bytes]:
    member: Member | None = None
    while data := file.read(PACKED_CHUNK):
        while data:
            if member is None:
                data = data.lstrip(b"\0")  # tape padding between members is allowed
                if not data:
                    break
                member = codec.start()
            if content := _decompress_chunk(member, data, codec):
                yield content
            data = member.unused_data if member.eof else b""
            if member.eof:
                member = None
    if member is not None:
        message = f"the {codec.name} data ends too early; the file was not copied completely"
        raise BrokenStreamError(message)


def _decompress_chunk(member: Member, data: bytes, codec: Codec) -> bytes:
    try:
        return member.decompress(data)
    except (zlib.error, zstandard.ZstdError, lzma.LZMAError, OSError) as error:
        message = f"damaged {codec.name} data: {error}"
        raise BrokenStreamError(message) from error
