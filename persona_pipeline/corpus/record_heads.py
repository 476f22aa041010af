"""Read the heads of WARC and ARC records: of what kind a record is, and how long."""

import re
from dataclasses import dataclass
from typing import Protocol

_MAX_HEAD = 256 * 1024
"""Bytes in which a head must end. Addresses, the longest values, have 64 KB at most in practice."""

_WARC_START = re.compile(rb"WARC/[0-9]\.[0-9]{1,2}[ \t]*\r?\n[A-Za-z][A-Za-z0-9-]*[ \t]*:")
_BLANK_LINE = re.compile(rb"\n\r?\n")
_LENGTH = re.compile(r"[0-9]{1,18}")

# URL, IP address, date, then the media type (and in version 2 five more), and the length.
_ARC_LINE = re.compile(
    rb"^([A-Za-z][A-Za-z0-9+.-]*:[^\r\n]{1,8192}?) ([0-9A-Fa-f.:]{3,45}) [0-9]{8,17}"
    rb" ([^\r\n]{0,2048} )?([0-9]{1,18})\r?\n",
    re.MULTILINE,
)
_ARC_SCHEME = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]*(:|\Z)")


@dataclass(frozen=True, slots=True)
class Head:
    """Hold what a record says about itself."""

    size: int
    """Bytes of the head, up to the block."""
    length: int
    """Bytes of the block."""
    kind: str
    """The WARC type, in small letters."""
    content_type: str = ""
    url: str | None = None
    language: str | None = None


class RecordFormat(Protocol):
    """Find and read the heads of one format."""

    longest_start: int
    """Bytes by which a head is known."""
    lookahead: int
    """Bytes behind a block in which the next head must begin."""
    separators: tuple[bytes, ...]
    """What follows a block, whatever comes after it."""

    def find_head(self, data: bytearray) -> int:
        """Return where a head begins, or -1."""
        ...

    def read_head(self, data: bytearray) -> Head | str | None:
        """Return the head at the start, or what is wrong with it; None: more bytes are needed."""
        ...

    def may_begin(self, data: bytes) -> bool:
        """Return whether a head may begin here, by as few bytes as there are."""
        ...


class WarcFormat:
    """Find and read the heads of WARC records, of any version."""

    longest_start = 128
    lookahead = 64
    separators: tuple[bytes, ...] = (b"\r\n\r\n", b"\n\n")

    def find_head(self, data: bytearray) -> int:
        """Return where a head begins, or -1."""
        match = _WARC_START.search(data)
        return match.start() if match else -1

    def read_head(self, data: bytearray) -> Head | str | None:
        """Return the head at the start, or what is wrong with it; None: more bytes are needed."""
        if not _WARC_START.match(data):
            is_cut = len(data) < self.longest_start and self.may_begin(bytes(data))
            return None if is_cut else "no WARC record where one should begin"
        blank = _BLANK_LINE.search(data, 0, _MAX_HEAD)
        if blank is None:
            return None if len(data) < _MAX_HEAD else "a record header without end"
        fields = _parse_fields(data[: blank.start()])
        length = fields.get("content-length", "")
        if not _LENGTH.fullmatch(length):
            return "a record header without Content-Length, or with one that is no number"
        return Head(
            size=blank.end(),
            length=int(length),
            kind=fields.get("warc-type", "").lower(),
            content_type=fields.get("content-type", ""),
            # Older crawlers put angle brackets around it.
            url=fields.get("warc-target-uri", "").strip("<> ") or None,
            language=fields.get("warc-identified-content-language"),
        )

    def may_begin(self, data: bytes) -> bool:
        """Return whether a head may begin here, by as few bytes as there are."""
        return data.startswith(b"WARC/"[: len(data)])


class ArcFormat:
    """Find and read the heads of ARC records, versions 1 and 2: one line each."""

    longest_start = 12 * 1024
    lookahead = longest_start
    separators: tuple[bytes, ...] = ()

    def find_head(self, data: bytearray) -> int:
        """Return where a head begins, or -1."""
        match = _ARC_LINE.search(data)
        return match.start() if match else -1

    def read_head(self, data: bytearray) -> Head | str | None:
        """Return the head at the start, or what is wrong with it; None: more bytes are needed."""
        line = _ARC_LINE.match(data)
        if line is None:
            is_cut = len(data) < self.longest_start and b"\n" not in data
            return None if is_cut else "no ARC record where one should begin"
        url = line[1].decode("utf-8", "replace")
        media_type = (line[3] or b"").split(b" ")[0].decode("latin-1")
        is_description = url.startswith("filedesc:")
        return Head(
            size=line.end(),
            length=int(line[4]),
            kind="warcinfo" if is_description else "response",
            content_type="" if media_type in {"-", "no-type"} else media_type,
            url=url,
        )

    def may_begin(self, data: bytes) -> bool:
        """Return whether a head may begin here, by as few bytes as there are."""
        return (_ARC_LINE if b"\n" in data else _ARC_SCHEME).match(data) is not None


def begins_record(data: bytes) -> bool:
    """Return whether a record of one of the formats begins in the data."""
    return bool(_WARC_START.search(data) or _ARC_LINE.search(data))


def _parse_fields(head: bytes | bytearray) -> dict[str, str]:
    """Return the fields by name in small letters. The first of a name holds."""
    fields: dict[str, str] = {}
    for line in head.decode("utf-8", "replace").split("\n")[1:]:
        name, colon, value = line.partition(":")
        if colon:
            fields.setdefault(name.strip().lower(), value.strip())
    return fields
