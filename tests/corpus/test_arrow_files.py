"""Test Arrow files and streams, whole and damaged."""

import re
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import feather, ipc

from persona_pipeline.reasons import DocumentReason as Reason
from tests.support.source_rows import get_rejected, get_texts, read, read_bytes, summarize

TABLE = pa.table({"text": ["one", "two", "three"], "url": ["x:1", None, "x:3"]})


def write_arrow(path: Path, table: pa.Table, *, is_stream: bool, rows: int = 2) -> Path:
    new = ipc.new_stream if is_stream else ipc.new_file
    with path.open("wb") as file, new(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=rows)
    return path


@pytest.mark.parametrize("is_stream", [True, False])
def test_the_rows_of_arrow_files_and_streams_are_documents(
    tmp_path: Path, *, is_stream: bool
) -> None:
    file = write_arrow(tmp_path / "a.arrow", TABLE, is_stream=is_stream)
    rows = read(file)
    assert summarize(rows) == [(1, "one"), (2, "two"), (3, "three")]
    assert [getattr(row, "url", None) for row in rows] == ["x:1", f"{file.as_uri()}#L2", "x:3"]


def test_a_folder_of_arrow_and_feather_files_is_read_in_order(tmp_path: Path) -> None:
    for number in (1, 0):
        name = f"data-0000{number}-of-00002.arrow"
        table = pa.table({"text": [f"text {number}"]})
        write_arrow(tmp_path / name, table, is_stream=True)
    feather.write_feather(TABLE, tmp_path / "z.feather", compression="zstd")
    texts = ["text 0", "text 1", "one", "two", "three"]
    assert get_texts(read(tmp_path)) == texts


@pytest.mark.parametrize("is_stream", [True, False])
def test_a_bad_byte_in_a_text_or_a_chat_costs_its_own_row(
    tmp_path: Path, *, is_stream: bool
) -> None:
    texts = pa.array([b"one", b"\xff", b"three"]).view(pa.string())
    rows = read(write_arrow(tmp_path / "a.arrow", pa.table({"text": texts}), is_stream=is_stream))
    assert summarize(rows) == [(1, "one"), (2, Reason.INVALID_UTF8), (3, "three")]
    turn = {"role": b"user", "content": b"one"}
    chats = pa.array([[turn], [{**turn, "content": b"\xff"}]])
    kind = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
    table = pa.table({"messages": chats.view(kind)})
    rows = read(write_arrow(tmp_path / "a.arrow", table, is_stream=is_stream))
    assert summarize(rows) == [(1, "user: one"), (2, Reason.INVALID_UTF8)]


def test_offsets_outside_of_the_data_are_never_followed(tmp_path: Path) -> None:
    file = write_arrow(tmp_path / "a.arrow", TABLE, is_stream=True, rows=3)
    data = file.read_bytes()
    offsets = b"".join(number.to_bytes(4, "little") for number in (0, 3, 6, 11))
    wild = b"".join(number.to_bytes(4, "little") for number in (0, 3, 2**30, 11))
    assert data.count(offsets) == 1
    file.write_bytes(data.replace(offsets, wild))
    rows = read(file)
    assert [row.line for row in rows] == [1, 2, 3]
    assert {row.reason for row in get_rejected(rows)} == {Reason.BROKEN_FILE}
    assert len(get_rejected(rows)) == 3


def test_a_damaged_batch_of_a_file_costs_that_batch(tmp_path: Path) -> None:
    table = pa.table({"text": [f"text {number:04}" for number in range(300)]})
    file = write_arrow(tmp_path / "a.arrow", table, is_stream=False, rows=100)
    data = bytearray(file.read_bytes())
    starts = [m.start() for m in re.finditer(b"\xff{4}", data)]
    header = starts[2]  # of the schema, the first batch, the second batch
    data[header + 8 : header + 40] = b"\xff" * 32
    file.write_bytes(data)
    rows = read(file)
    assert get_texts(rows)[:100] == [f"text {number:04}" for number in range(100)]
    assert get_texts(rows)[100:] == [f"text {number:04}" for number in range(200, 300)]
    (bad,) = get_rejected(rows)
    assert (bad.reason, bad.line) == (Reason.BROKEN_FILE, 101)
    assert "batch 2 is damaged" in bad.detail


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", Reason.BROKEN_FILE),
        (b"ARROW1 and no more", Reason.BROKEN_FILE),
        (b"\xff\xff\xff\xff no stream", Reason.BROKEN_FILE),
        (b"FEA1 of an old library", Reason.UNSUPPORTED_FILE),
    ],
)
def test_what_is_not_arrow_is_rejected_once(tmp_path: Path, content: bytes, reason: Reason) -> None:
    (row,) = get_rejected(read_bytes(tmp_path, "a.arrow", content))
    assert (row.reason, row.line) == (reason, None)


def test_a_stream_that_is_cut_off_keeps_the_batches_before(tmp_path: Path) -> None:
    file = write_arrow(tmp_path / "a.arrow", TABLE, is_stream=True, rows=1)
    file.write_bytes(file.read_bytes()[:-100])
    rows = summarize(read(file))
    assert rows[:2] == [(1, "one"), (2, "two")]
    assert rows[2:] == [(3, Reason.BROKEN_FILE)]


def test_an_arrow_file_without_the_text_column_is_rejected_once(tmp_path: Path) -> None:
    file = write_arrow(tmp_path / "a.arrow", pa.table({"body": ["one", "two"]}), is_stream=True)
    (row,) = get_rejected(read(file))
    assert (row.reason, row.line) == (Reason.MISSING_TEXT, None)


@pytest.mark.parametrize(
    ("damage", "is_stream", "detail"),
    [
        (b"\xff", True, "the name of a column is not UTF-8"),
        (b"\xff", False, "the name of a column is not UTF-8"),
        (
            (1 << 45).to_bytes(8, "little"),
            True,
            "a length in it asks for more memory than there is",
        ),
        ((1 << 45).to_bytes(8, "little"), False, "batch 2 is damaged"),
    ],
)
def test_damage_at_any_place_raises_nothing(
    tmp_path: Path, damage: bytes, detail: str, *, is_stream: bool
) -> None:
    file = write_arrow(tmp_path / "a.arrow", TABLE, is_stream=is_stream)
    data = file.read_bytes()
    details = set[str]()
    for place in range(0, len(data), len(damage)):
        file.write_bytes(data[:place] + damage + data[place + len(damage) :])
        details |= {row.detail.partition(":")[0] for row in get_rejected(read(file))}
    assert detail in details
