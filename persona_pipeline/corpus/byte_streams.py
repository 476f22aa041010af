"""Read and decompress the bytes of a file. What precedes damage is never lost."""

import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

import zstandard

from persona_pipeline.corpus.rows import MAX_RAW_BYTES

_PLAIN_CHUNK = 64 * 1024
# A hostile zstd file turns 4 bytes into 128 KiB, so this much input is at most 128 MiB of output.
_PACKED_CHUNK = 4 * 1024

_GZIP_MAGIC = b"\x1f\x8b"
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_ZSTD_SKIPPABLE_MAGIC = 0x184D2A5  # pzstd starts with it; its last digit varies and is left out


class BrokenStreamError(OSError):
    """Report compressed data, or a record inside it, that is damaged or ends too early."""


class _Member(Protocol):
    """Decompress one gzip member or zstd frame. zlib and zstandard happen to share these names."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, /) -> bytes: ...


@dataclass(frozen=True, slots=True)
class _Codec:
    name: str
    start: Callable[[], _Member]


_GZIP = _Codec("gzip", lambda: zlib.decompressobj(wbits=31))
_ZSTD = _Codec("zstd", lambda: zstandard.ZstdDecompressor().decompressobj())


def read_chunks(path: Path) -> Iterator[bytes]:
    """Yield the decompressed content in chunks, none of them empty.

    The first bytes of the file tell gzip and zstd.

    Raises:
        BrokenStreamError: the compressed data breaks off. All readable chunks come first.
    """
    with path.open("rb") as file:
        codec = _find_codec(file.read(4), path.suffix.lower())
        file.seek(0)
        if codec is None:
            yield from iter(lambda: file.read(_PLAIN_CHUNK), b"")
        else:
            yield from _decompress(file, codec)


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


def _find_codec(head: bytes, suffix: str) -> _Codec | None:
    if head.startswith(_GZIP_MAGIC):
        return _GZIP
    if head == _ZSTD_MAGIC or int.from_bytes(head, "little") >> 4 == _ZSTD_SKIPPABLE_MAGIC:
        return _ZSTD
    if head and suffix in {".gz", ".zst"}:
        message = f"named {suffix}, but the content is not compressed that way"
        raise BrokenStreamError(message)
    return None


def _decompress(file: BinaryIO, codec: _Codec) -> Iterator[bytes]:
    member: _Member | None = None
    while data := file.read(_PACKED_CHUNK):
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


def _decompress_chunk(member: _Member, data: bytes, codec: _Codec) -> bytes:
    try:
        return member.decompress(data)
    except (zlib.error, zstandard.ZstdError) as error:
        message = f"damaged {codec.name} data: {error}"
        raise BrokenStreamError(message) from error
