"""Decompress a web archive, and go on behind damage.

Crawlers compress each record by itself, as one gzip member or zstd frame. So damage inside a member
costs one record, and reading goes on at the next member.
"""

import lzma
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Protocol, TypeAlias

import zstandard

from persona_pipeline.corpus.byte_streams import BrokenStreamError
from persona_pipeline.corpus.codecs import (
    BY_SUFFIX,
    BZIP2,
    PACKED_CHUNK,
    PLAIN_CHUNK,
    ZSTD,
    Codec,
    Member,
    find_codec,
    zstd_codec,
)
from persona_pipeline.corpus.record_heads import begins_record
from persona_pipeline.corpus.rows import MAX_RAW_BYTES

_LONGEST_BLIND = 256 * 1024
"""Compressed bytes before an error among which the next member is searched. Decompression that
has lost its way may run past the end of its member, but it meets an impossible block soon."""

_TRIED = 64 * 1024
"""Compressed bytes that must decompress before a place counts as the start of a member."""
_TRIED_CHUNK = 128

_MAX_DAMAGES = 10_000
"""Damages in a file after which the rest is left. Each may cost `_LONGEST_BLIND` of search."""

_DICTIONARY_MAGIC = b"\x5d\x2a\x4d\x18"
"""Start of the frame with the dictionary of a .warc.zst (IIPC, Zstandard Compression for WARC)."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Hold decompressed bytes that continue those before them."""

    data: bytes
    is_verified: bool
    """Whether nothing up to the end of these bytes is left to check. Plain bytes have no check."""


@dataclass(frozen=True, slots=True)
class Damage:
    """Mark a place where bytes are missing. What follows begins at the start of a member."""

    detail: str


Piece: TypeAlias = Chunk | Damage


class SeekableFile(Protocol):
    """Offer the two methods of a binary file that reading needs."""

    def read(self, size: int, /) -> bytes:
        """Return up to `size` bytes; none at the end."""
        ...

    def seek(self, offset: int, /) -> int:
        """Go to the offset from the start."""
        ...


class _DamagedMemberError(BrokenStreamError):
    """Report a member that does not decompress, and where the search for the next one begins."""

    def __init__(self, detail: str, search_from: int) -> None:
        super().__init__(detail)
        self.search_from = search_from


_ERRORS = (zlib.error, zstandard.ZstdError, lzma.LZMAError, OSError)
"""What the libraries raise for damaged data; bz2 raises an OSError."""


def read_pieces(file: SeekableFile, name: str) -> Iterator[Piece]:
    """Yield the decompressed content of an archive.

    Its first bytes tell gzip, zstd, xz, bzip2 and plain. Its name tells where these are damaged.
    """
    codec = _find_codec(file, name)
    file.seek(0)
    if codec is None:
        for data in iter(lambda: file.read(PLAIN_CHUNK), b""):
            yield Chunk(data, is_verified=True)
    else:
        yield from _read_packed(file, codec)


def _find_codec(file: SeekableFile, name: str) -> Codec | None:
    head = file.read(8)
    if head.startswith(_DICTIONARY_MAGIC):
        return _codec_with_dictionary(file, head)
    if codec := find_codec(head) or (BZIP2 if head.startswith(BZIP2.magic) else None):
        return codec
    if begins_record(head + file.read(PLAIN_CHUNK)):
        return None
    return BY_SUFFIX.get(PurePosixPath(name.lower()).suffix)


def _codec_with_dictionary(file: SeekableFile, head: bytes) -> Codec:
    """Return zstd with the dictionary of the first frame, which may be compressed itself."""
    (size,) = struct.unpack("<I", head[4:].ljust(4, b"\0"))
    content = file.read(min(size, MAX_RAW_BYTES))
    try:
        if content.startswith(ZSTD.magic):
            content = zstandard.ZstdDecompressor().stream_reader(content).read(MAX_RAW_BYTES)
        words = zstandard.ZstdCompressionDict(content)
        codec = zstd_codec(words)
        codec.start()  # this checks the dictionary
    except zstandard.ZstdError as error:
        message = f"the zstd dictionary of the archive is damaged: {error}"
        raise BrokenStreamError(message) from error
    return codec


def _read_packed(file: SeekableFile, codec: Codec) -> Iterator[Piece]:
    start = 0
    for _ in range(_MAX_DAMAGES):
        try:
            yield from _read_members(file, codec, start)
        except _DamagedMemberError as error:
            yield Damage(str(error))
            place = _find_member(file, codec, error.search_from)
        else:
            return
        if place is None:
            return
        start = place
    yield Damage(f"more than {_MAX_DAMAGES:,} damaged places; the rest of the file is not read")


def _read_members(file: SeekableFile, codec: Codec, start: int) -> Iterator[Chunk]:
    """Yield what the members hold from `start` on.

    Raises:
        _DamagedMemberError: a member is damaged or cut off. All that it still gives comes first.
    """
    file.seek(start)
    member: Member | None = None
    position = start
    while data := file.read(PACKED_CHUNK):
        position += len(data)
        while data:
            if member is None:
                data = data.lstrip(b"\0")  # tape padding between members is allowed
                if not data:
                    break
                member, start = codec.start(), position - len(data)
            try:
                content = member.decompress(data)
            except _ERRORS as error:
                yield from _salvage(file, codec, start, position - len(data))
                message = f"damaged {codec.name} data: {error}"
                search_from = max(start + 1, position - _LONGEST_BLIND)
                raise _DamagedMemberError(message, search_from) from error
            if content or member.eof:
                yield Chunk(content, is_verified=member.eof)
            data = member.unused_data if member.eof else b""
            if member.eof:
                member = None
    if member is not None:
        message = f"the {codec.name} data ends too early; the file was not copied completely"
        raise _DamagedMemberError(message, max(start + 1, position - _LONGEST_BLIND))


def _salvage(file: SeekableFile, codec: Codec, start: int, end: int) -> Iterator[Chunk]:
    """Yield what the member at `start` gives behind `end` before its damage.

    A call that fails returns nothing of its 4 KiB, which may have held whole records. So the bytes
    are given again, one by one.
    """
    file.seek(start)
    member = codec.start()
    for size in range(end - start, 0, -PACKED_CHUNK):
        member.decompress(file.read(min(size, PACKED_CHUNK)))
    for byte in file.read(PACKED_CHUNK):
        try:
            content = member.decompress(bytes([byte]))
        except _ERRORS:
            return
        if content:
            yield Chunk(content, is_verified=False)


def _find_member(file: SeekableFile, codec: Codec, start: int) -> int | None:
    """Return where the next member begins, or None if there is no more."""
    file.seek(start)
    tail = b""
    while data := file.read(PLAIN_CHUNK):
        window = tail + data
        begin, start = start - len(tail), start + len(data)
        place = window.find(codec.magic)
        while place >= 0:
            if _is_member(file, codec, begin + place):
                return begin + place
            place = window.find(codec.magic, place + 1)
        tail = window[1 - len(codec.magic) :]
        file.seek(start)
    return None


def _is_member(file: SeekableFile, codec: Codec, start: int) -> bool:
    """Tell whether a member begins here: with a record, or long enough to be none by chance.

    Chance bytes fail at once, or within a few hundred. A member that begins with a record may be
    damaged behind, and is then counted by the record.
    """
    file.seek(start)
    member = codec.start()
    content = b""
    try:
        for _ in range(_TRIED // _TRIED_CHUNK):
            content += member.decompress(file.read(_TRIED_CHUNK))[:_TRIED_CHUNK]
            if member.eof or begins_record(content[:_TRIED_CHUNK]):
                break
    except _ERRORS:
        return False
    return True
