"""Name the compressions that are read, and open their decompressors."""

import bz2
import lzma
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import zstandard

PLAIN_CHUNK = 64 * 1024
"""Bytes that are read at a time."""
PACKED_CHUNK = 4 * 1024
"""The same of compressed data. A hostile zstd file turns 4 bytes into 128 KiB, so this much is at
most 128 MiB of output."""
_ZSTD_WINDOW = 2**31
"""Largest window that zstd writes (`--long=31`). Memory is taken as far as the content fills it."""
_ZSTD_SKIPPABLE = 0x184D2A5
"""Start of a frame without content, as of pzstd; its last digit varies and is left out."""


class Member(Protocol):
    """Decompress one gzip member, zstd frame or the like. The libraries share these names."""

    @property
    def eof(self) -> bool:
        """Whether the member is at its end."""
        ...

    @property
    def unused_data(self) -> bytes:
        """Bytes behind its end."""
        ...

    def decompress(self, data: bytes, /) -> bytes:
        """Return what these bytes give."""
        ...


@dataclass(frozen=True, slots=True)
class Codec:
    """Hold the name of a compression, the bytes that begin a member, and what decompresses one."""

    name: str
    magic: bytes
    start: Callable[[], Member]


def zstd_codec(dictionary: zstandard.ZstdCompressionDict | None = None) -> Codec:
    """Return zstd, with the dictionary that the content was compressed with, if there is one."""

    def start() -> Member:  # of its own decompressor, whose state two members would share
        own = zstandard.ZstdDecompressor(dict_data=dictionary, max_window_size=_ZSTD_WINDOW)
        return own.decompressobj()

    return Codec("zstd", b"\x28\xb5\x2f\xfd", start)


GZIP = Codec("gzip", b"\x1f\x8b\x08", lambda: zlib.decompressobj(wbits=31))
ZSTD = zstd_codec()
XZ = Codec("xz", b"\xfd7zXZ\0", lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ))
BZIP2 = Codec("bzip2", b"BZh", bz2.BZ2Decompressor)

BY_SUFFIX = {".gz": GZIP, ".zst": ZSTD, ".xz": XZ, ".bz2": BZIP2}
"""The codecs that a file may be packed with, by the end of its name."""


def find_codec(head: bytes) -> Codec | None:
    """Return the codec that the first bytes tell. Those of bzip2 may also begin a text."""
    if begins_gzip(head):
        return GZIP
    if begins_zstd(head):
        return ZSTD
    return XZ if head.startswith(XZ.magic) else None


def begins_gzip(head: bytes) -> bool:
    """Return whether a file that begins so is gzip. Its third byte may be damaged."""
    return head.startswith(GZIP.magic[:2])


def begins_zstd(head: bytes) -> bool:
    """Return whether a file that begins so is zstd."""
    is_skippable = int.from_bytes(head[:4], "little") >> 4 == _ZSTD_SKIPPABLE
    return head.startswith(ZSTD.magic) or is_skippable
