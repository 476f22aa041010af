"""Test that damage to a web archive costs at most one record, and that nothing is uncounted."""

import gzip
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from persona_pipeline.corpus.document import RejectedDocument
from persona_pipeline.corpus.rows import MAX_RAW_BYTES, Skipped
from persona_pipeline.reasons import DocumentReason as Reason
from tests.support.web_archives import HTML, Archive, make_page, make_record, read, summarize

HTTP = "Content-Type: application/http"


def make_response(number: int, length: int = 0) -> bytes:
    """Return a record of one page. `length` is added to the true Content-Length."""
    block = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n" + make_page(number).encode()
    return make_record(block, HTTP, length=len(block) + length)


def plain(record: bytes) -> bytes:
    return record


def pack_gzip(record: bytes) -> bytes:
    return gzip.compress(record, mtime=0)


def pack_zstd(record: bytes) -> bytes:
    return zstandard.ZstdCompressor(write_checksum=True).compress(record)


FORMS: dict[str, Callable[[bytes], bytes]] = {
    "a.warc": plain,
    "a.warc.gz": pack_gzip,
    "a.warc.zst": pack_zstd,
}


def make_archive(*, packed: bool) -> bytes:
    archive = Archive(packed=packed)
    for number in range(1, 5):
        archive.add_page(make_page(number).encode(), HTML)
    return archive.data


def test_pages_before_a_truncated_gzip_are_kept(tmp_path: Path) -> None:
    data = make_archive(packed=True)
    rows = read(tmp_path / "a.warc.gz", data[: len(data) * 5 // 8])
    assert summarize(rows) == [(1, "Page 1"), (2, "Page 2"), (3, Reason.BROKEN_FILE)]
    assert isinstance(rows[2], RejectedDocument)
    assert "ends too early" in rows[2].detail


@pytest.mark.parametrize("packed", [True, False])
def test_wherever_an_archive_is_cut_no_page_vanishes_silently(
    tmp_path: Path, *, packed: bool
) -> None:
    archive = Archive(packed=packed)
    ends = [0]
    for number in (1, 2, 3):
        archive.add_page(make_page(number).encode(), HTML)
        ends.append(len(archive.data))
    pages: list[tuple[int | None, str]] = [(number, f"Page {number}") for number in (1, 2, 3)]
    for cut in range(0, len(archive.data), 7):
        whole = sum(end <= cut for end in ends[1:])
        rows = summarize(read(tmp_path / "a.warc", archive.data[:cut]))
        if cut in ends or rows == pages[: whole + 1]:
            # Two line ends close a record; without them it is still whole.
            assert len(rows) == whole or cut > ends[whole + 1] - 32, cut
        else:
            assert rows[:whole] == pages[:whole], cut
            assert rows[-1][1] == Reason.BROKEN_FILE, cut


def break_lengths(data: bytes) -> bytes:
    return data.replace(b"Content-Length: ", b"Content-Lxxxxx: ", 3)


def garble_length(data: bytes) -> bytes:
    return data.replace(b"Content-Length: ", b"Content-Length: x", 1)


def break_second_header(data: bytes) -> bytes:
    middle = data.index(b"WARC/1.0", 10)
    return data[:middle] + b"XXXX/1.0" + data[middle + 8 :]


BROKEN = Reason.BROKEN_FILE


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (break_lengths, [(1, BROKEN), (2, BROKEN), (3, BROKEN), (4, "Page 4")]),
        (garble_length, [(1, BROKEN), (2, "Page 2"), (3, "Page 3"), (4, "Page 4")]),
        (break_second_header, [(1, "Page 1"), (2, BROKEN), (3, "Page 3"), (4, "Page 4")]),
        (lambda _: b"not an archive\n" * 99, [(1, BROKEN)]),
        (lambda data: data + b"\r\n" * 99, [(n, f"Page {n}") for n in (1, 2, 3, 4)]),
        (lambda _: b"", []),
    ],
)
def test_a_broken_header_costs_its_own_record(
    tmp_path: Path, damage: Callable[[bytes], bytes], expected: list[tuple[int, str]]
) -> None:
    assert summarize(read(tmp_path / "a.warc", damage(make_archive(packed=False)))) == expected


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("error", [-100, -1, 5, 700, 1_000_000, 10 * MAX_RAW_BYTES])
def test_a_wrong_length_costs_its_own_record(tmp_path: Path, name: str, error: int) -> None:
    records = [make_response(1), make_response(2, error), make_response(3), make_response(4)]
    rows = read(tmp_path / name, b"".join(map(FORMS[name], records)))
    assert summarize(rows) == [(1, "Page 1"), (2, BROKEN), (3, "Page 3"), (4, "Page 4")]


@pytest.mark.parametrize("error", [1, 2, 4])
def test_a_length_that_counts_line_ends_behind_the_block_harms_nothing(
    tmp_path: Path, error: int
) -> None:
    rows = read(tmp_path / "a.warc", make_response(1, error) + make_response(2))
    assert summarize(rows) == [(1, "Page 1"), (2, "Page 2")]


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("garbage", [b"x", b"\x1f\x8b\x08 no gzip", b"<p>garbage</p>\n" * 9_999])
def test_garbage_between_records_costs_no_record(tmp_path: Path, name: str, garbage: bytes) -> None:
    first, second, third = (FORMS[name](make_response(number)) for number in (1, 2, 3))
    rows = read(tmp_path / name, first + garbage + second + third + garbage)
    assert summarize(rows) == [
        (1, "Page 1"), (2, BROKEN), (3, "Page 2"), (4, "Page 3"), (5, BROKEN),
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["a.warc.gz", "a.warc.zst"])
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_a_damaged_member_costs_its_own_record(tmp_path: Path, name: str, share: float) -> None:
    members = [FORMS[name](make_response(number)) for number in (1, 2, 3, 4)]
    place = int((len(members[1]) - 4) * share)  # the magic, the content, or the checksum
    members[1] = members[1][:place] + b"\xfe" * 4 + members[1][place + 4 :]
    rows = read(tmp_path / name, b"".join(members))
    assert summarize(rows) == [(1, "Page 1"), (2, BROKEN), (3, "Page 3"), (4, "Page 4")]


def test_damaged_members_beside_each_other_are_counted_one_by_one(tmp_path: Path) -> None:
    members = [pack_gzip(make_response(number)) for number in range(1, 6)]
    for number in (1, 2, 3):
        members[number] = members[number][:-8] + b"\xfe" * 8
    rows = read(tmp_path / "a.warc.gz", b"".join(members))
    assert summarize(rows) == [
        (1, "Page 1"), (2, BROKEN), (3, BROKEN), (4, BROKEN), (5, "Page 5"),
    ]  # fmt: skip


def test_in_one_large_member_what_precedes_the_damage_is_kept(tmp_path: Path) -> None:
    # All 40 are one piece of 4 KiB, of which decompression gives nothing when it fails.
    data = gzip.compress(b"".join(map(make_response, range(1, 41))))
    rows = summarize(read(tmp_path / "a.warc.gz", data[:-8] + b"\xfe" * 8))
    assert rows == [*((number, f"Page {number}") for number in range(1, 40)), (40, BROKEN)]


def test_a_record_that_spans_members_is_read(tmp_path: Path) -> None:
    data = b"".join(map(make_response, range(1, 9)))
    blocks = [data[start : start + 500] for start in range(0, len(data), 500)]
    rows = read(tmp_path / "a.warc.gz", b"".join(map(gzip.compress, blocks)))
    assert summarize(rows) == [(number, f"Page {number}") for number in range(1, 9)]
    damaged = [*map(gzip.compress, blocks)]
    damaged[2] = b"\0\0" + damaged[2][2:]
    rows = read(tmp_path / "a.warc.gz", b"".join(damaged))
    assert [title for _, title in summarize(rows)][-4:] == [f"Page {n}" for n in (5, 6, 7, 8)]
    assert [title for _, title in summarize(rows)].count(BROKEN) == 1


def test_an_arc_record_of_wrong_length_costs_itself(tmp_path: Path) -> None:
    page = make_page(1).encode()
    for error in (-100, -1, 5, 10**6):
        lengths = [len(page), len(page) + error, len(page)]
        heads = [b"http://e.org/ 1.2.3.4 20050101000000 text/html %d\n" % n for n in lengths]
        rows = read(tmp_path / "a.arc", b"".join(head + page + b"\n" for head in heads))
        assert summarize(rows) == [(1, "Page 1"), (2, BROKEN), (3, "Page 1")]


def test_lengths_that_are_all_too_large_take_linear_time(tmp_path: Path) -> None:
    # Each of them claims all the rest of the file: 8 GB, if the rest were copied for each.
    rows = read(tmp_path / "a.warc", b"".join(make_response(n, 60 << 20) for n in range(4_000)))
    assert len(rows) == 4_000
    assert {reason for _, reason in summarize(rows)} == {BROKEN}


@dataclass(frozen=True)
class Damage:
    """What happens to `size` bytes at a share of the file: flipped, cut out, or doubled."""

    kind: str
    at: float
    size: int

    def place(self, length: int) -> tuple[int, int]:
        start = int(self.at * length)
        return start, min(start + (1 if self.kind == "flip" else self.size), length)

    def replace(self, data: bytes) -> bytes:
        flipped = bytes([data[0] ^ (self.size % 255 + 1)])
        return {"flip": flipped, "cut": b"", "double": data * 2}[self.kind]

    def touches(self, place: tuple[int, int], start: int, end: int) -> bool:
        first, last = place
        # What is doubled stays whole, but for the record that the copy is put into.
        return start < last < end if self.kind == "double" else first < end and start < last


def damage_records(records: list[bytes], damages: list[Damage]) -> tuple[bytes, list[int]]:
    """Return the damaged archive, and the numbers of the records that are as they were."""
    data = b"".join(records)
    ends = [*accumulate(map(len, records))]
    untouched = [*range(len(records))]
    length = limit = len(data)
    for damage in sorted(damages, key=lambda damage: -damage.at):
        start, end = damage.place(length)
        end = min(end, limit)
        if start < end:
            data = data[:start] + damage.replace(data[start:end]) + data[end:]
            place, limit = (start, end), start
            untouched = [
                number
                for number in untouched
                if not damage.touches(place, ends[number] - len(records[number]), ends[number])
            ]
    return data, untouched


DAMAGES = st.builds(
    Damage,
    st.sampled_from(["flip", "cut", "double"]),
    st.floats(0, 1, exclude_max=True),
    st.integers(1, 3000),
)


def make_mixed_record(number: int, kind: int) -> bytes:
    """Return a page, or one of two records that hold none."""
    return [
        make_response(number),
        make_record(b"GET / HTTP/1.1\r\n\r\n", HTTP, kind="request"),
        make_response(number).replace(b"200 OK", b"404 No"),
    ][kind]


@given(
    name=st.sampled_from([*FORMS]),
    kinds=st.lists(st.integers(0, 2), min_size=1, max_size=6),
    damages=st.lists(DAMAGES, max_size=3),
)
def test_each_record_that_no_damage_touches_is_read_and_all_others_are_counted(
    name: str, kinds: list[int], damages: list[Damage]
) -> None:
    records = [FORMS[name](make_mixed_record(*item)) for item in enumerate(kinds)]
    data, untouched = damage_records(records, damages)
    skipped: Skipped = Counter()
    with TemporaryDirectory() as folder:
        rows = summarize(read(Path(folder) / name, data, skipped))
    pages = {f"Page {number}" for number in untouched if kinds[number] == 0}
    assert pages <= {title for _, title in rows}
    assert skipped.total() >= sum(kinds[number] > 0 for number in untouched)
    # Each record that was met has a number of its own, and is a row or counted as skipped.
    numbers = [number or 0 for number, _ in rows]
    met = len(rows) + skipped.total()
    assert sorted({*numbers}) == numbers
    assert max(numbers, default=0) <= met
    # Damages that touch each other may be one rejection. What is cut out is not there to be met.
    if all(damage.kind != "cut" for damage in damages):
        assert met >= len(records) - max(len(damages) - 1, 0)
