"""Open the web archives inside a WACZ package: a ZIP file with them in its folder `archive`."""

import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, BinaryIO

from persona_pipeline.corpus.archive_bytes import SeekableFile
from persona_pipeline.corpus.byte_streams import BrokenStreamError

_FOLDER = "archive/"
_ENDINGS = (".warc", ".warc.gz", ".warc.zst", ".arc", ".arc.gz")
_LOCAL_HEADER = struct.Struct("<26x2H")
"""Header before a file: 26 bytes that the directory repeats, and the lengths of two texts."""
_IS_ENCRYPTED = 1

_ERRORS = (zipfile.BadZipFile, NotImplementedError, ValueError, EOFError, struct.error, zlib.error)
"""What `zipfile` raises for damage: it checks little of what the directory says."""


def open_archives(path: Path) -> Iterator[tuple[str, SeekableFile]]:
    """Yield the name and the content of each web archive, in the order of the package.

    Raises:
        BrokenStreamError: the package is damaged, or holds no web archive.
    """
    try:
        with zipfile.ZipFile(path) as package, path.open("rb") as file:
            members = [member for member in package.infolist() if _is_archive(member)]
            for member in members:
                yield member.filename, _open(package, member, file)
    except _ERRORS as error:
        message = f"damaged ZIP package: {error}"
        raise BrokenStreamError(message) from error
    if not members:
        message = f"the package has no web archive ({', '.join(_ENDINGS)}) in its folder {_FOLDER}"
        raise BrokenStreamError(message)


def _is_archive(member: zipfile.ZipInfo) -> bool:
    name = member.filename.lower()
    return name.startswith(_FOLDER) and name.endswith(_ENDINGS)


def _open(package: zipfile.ZipFile, member: zipfile.ZipInfo, file: BinaryIO) -> SeekableFile:
    if member.flag_bits & _IS_ENCRYPTED:
        message = f"{member.filename} is encrypted"
        raise BrokenStreamError(message)
    if member.compress_type != zipfile.ZIP_STORED:
        return _Unpacked(package.open(member))
    file.seek(member.header_offset)
    texts = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
    start = member.header_offset + _LOCAL_HEADER.size + sum(texts)
    return _Slice(file, start, member.file_size)


class _Slice:
    """Offer a stored member as a file, without ZIP's checksum over the whole.

    `zipfile` raises in place of the last bytes if that is wrong. The archive inside has checksums
    of its own, and damage there ends only one record.
    """

    def __init__(self, file: BinaryIO, start: int, size: int) -> None:
        self._file, self._start, self._size = file, start, size
        self._position = 0

    def read(self, size: int, /) -> bytes:
        self._file.seek(self._start + self._position)
        data = self._file.read(max(min(size, self._size - self._position), 0))
        self._position += len(data)
        return data

    def seek(self, offset: int, /) -> int:
        self._position = offset
        return offset


class _Unpacked:
    """Offer a compressed member as a file whose damage is a broken stream."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def read(self, size: int, /) -> bytes:
        try:
            return self._file.read(size)
        except _ERRORS as error:
            message = f"damaged ZIP member: {error}"
            raise BrokenStreamError(message) from error

    def seek(self, offset: int, /) -> int:
        return self._file.seek(offset)
