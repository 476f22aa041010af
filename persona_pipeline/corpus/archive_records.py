"""Split a web archive into records, and lose at most one to each damage.

A record whose length does not lead to the next record is rejected. The search for the next one then
begins at its own block, since a length that is too large covers good records.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from persona_pipeline.corpus.archive_bytes import Chunk, Damage, Piece
from persona_pipeline.corpus.record_heads import ArcFormat, Head, RecordFormat, WarcFormat
from persona_pipeline.corpus.rows import MAX_RAW_BYTES

_LINE_ENDS = b"\r\n"
_LINE = 64
"""Bytes that are looked at for line ends at a time."""
_STEP = 64 * 1024
"""Bytes that are searched at a time. It is also what is kept of a block that is too large."""


@dataclass(frozen=True, slots=True)
class Record:
    """Hold one whole record."""

    head: Head
    block: bytes
    """The block, or only its beginning if it is longer than MAX_RAW_BYTES."""

    @property
    def is_too_large(self) -> bool:
        """Whether `block` is not the whole block."""
        return self.head.length > MAX_RAW_BYTES


@dataclass(frozen=True, slots=True)
class BrokenRecord:
    """Stand for a record that cannot be read, or for bytes between records."""

    detail: str


class _Window:
    """Hold the bytes from the current record on, up to the end of the file or the next damage."""

    def __init__(self, pieces: Iterator[Piece]) -> None:
        self.data = bytearray()
        self.damage: Damage | None = None
        """What ends the bytes of `data`, once `fill` has come to it."""
        self._pieces = pieces
        self._verified = 0

    def fill(self, size: int) -> bool:
        """Read until `data` has `size` bytes. Return False if it ends before."""
        while len(self.data) < size and self.damage is None:
            piece = next(self._pieces, None)
            if isinstance(piece, Chunk):
                self.data += piece.data
                self._verified = len(self.data) if piece.is_verified else self._verified
            elif piece is None:
                return False
            else:
                self.damage = piece
        return len(self.data) >= size

    def drop(self, size: int) -> None:
        """Go on by `size` bytes. This copies nothing."""
        del self.data[:size]
        self._verified = max(self._verified - size, 0)

    def skip_line_ends(self) -> None:
        """Go on to the next byte that ends no line."""
        while self.fill(1):
            start = self.data[:_LINE]
            blank = len(start) - len(start.lstrip(_LINE_ENDS))
            self.drop(blank)
            if blank < len(start):
                return

    def pass_damage(self) -> Damage | None:
        """Go on behind the damage, and return it; None: the file is at its end."""
        damage, self.damage = self.damage, None
        self.drop(len(self.data))
        return damage

    def is_verified(self, size: int) -> bool:
        """Return whether the checksums of the first `size` bytes are known to fit."""
        return size <= self._verified

    def describe_end(self) -> str:
        """Say why there are no more bytes."""
        return self.damage.detail if self.damage else "the file was not copied completely"


def split_records(
    pieces: Iterator[Piece], *, is_arc: bool = False
) -> Iterator[Record | BrokenRecord]:
    """Yield the records of an archive in order.

    Args:
        pieces: the content of the archive.
        is_arc: whether the file's name says ARC. What the content says counts more.
    """
    window = _Window(pieces)
    window.fill(_LINE)
    is_arc = window.data.startswith(b"filedesc:") or (
        is_arc and not window.data.startswith(b"WARC/")
    )
    form: RecordFormat = ArcFormat() if is_arc else WarcFormat()
    is_lost = False  # behind a rejection, until the next head
    while True:
        window.skip_line_ends()
        if not window.data:
            damage = window.pass_damage()
            if damage is None:
                return
            if is_lost:
                continue
            is_lost = True
            yield BrokenRecord(damage.detail)
        elif is_lost:
            is_lost = not _seek_head(window, form)
        else:
            record = _take_record(window, form)
            is_lost = isinstance(record, BrokenRecord)
            yield record


def _take_record(window: _Window, form: RecordFormat) -> Record | BrokenRecord:
    head = _read_head(window, form)
    if isinstance(head, str):
        window.drop(1)
        return BrokenRecord(head)
    if head.length > MAX_RAW_BYTES:
        return _take_large_record(window, form, head)
    end = head.size + head.length
    window.fill(end + form.lookahead)
    if problem := _find_problem(window, form, head):
        window.drop(head.size)
        return BrokenRecord(problem)
    with memoryview(window.data) as view:
        block = bytes(view[head.size : end])
    window.drop(end)
    return Record(head, block)


def _read_head(window: _Window, form: RecordFormat) -> Head | str:
    window.fill(form.longest_start)
    while (head := form.read_head(window.data)) is None:
        if not window.fill(len(window.data) + 1):
            return f"a record header ends too early; {window.describe_end()}"
    return head


def _find_problem(window: _Window, form: RecordFormat, head: Head) -> str | None:
    """Say what is wrong with the record at the start of the window, if anything is."""
    end = head.size + head.length
    missing = end - len(window.data)
    if missing > 0:
        return f"a record of {head.length} bytes lacks {missing}; {window.describe_end()}"
    behind = bytes(window.data[end : end + form.lookahead])
    rest = behind.lstrip(_LINE_ENDS)
    if rest and form.may_begin(rest):
        return None
    if window.damage and len(behind) < form.lookahead and not window.is_verified(end):
        return window.damage.detail
    if not rest or behind.startswith(form.separators):
        return None
    return f"the record does not end after the {head.length} bytes of its Content-Length"


def _take_large_record(window: _Window, form: RecordFormat, head: Head) -> Record | BrokenRecord:
    """Go behind a block that is too large to be held, unless another record begins inside it."""
    window.drop(head.size)
    window.fill(_STEP)
    start = bytes(window.data[:_STEP])
    left = head.length
    while left:
        is_more = window.fill(_STEP + form.longest_start)
        position = form.find_head(window.data)
        if 0 <= position < left:
            window.drop(position)
            detail = f"another record begins within the {head.length} bytes of its Content-Length"
            return BrokenRecord(detail)
        if not is_more and len(window.data) < left:
            missing = left - len(window.data)
            window.drop(len(window.data))
            detail = f"a record of {head.length} bytes lacks {missing}; {window.describe_end()}"
            return BrokenRecord(detail)
        step = min(left, len(window.data) - form.longest_start if is_more else left)
        window.drop(step)
        left -= step
    return Record(head, start)


def _seek_head(window: _Window, form: RecordFormat) -> bool:
    """Go on to the next head. Return False if there is none before the end or the next damage."""
    while True:
        is_more = window.fill(_STEP + form.longest_start)
        position = form.find_head(window.data)
        if position >= 0:
            window.drop(position)
            return True
        if not is_more:
            window.drop(len(window.data))
            return False
        window.drop(len(window.data) - form.longest_start)
