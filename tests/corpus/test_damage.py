"""Test the law of damaged files: nothing raises, and what was not touched is kept."""

import io
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given
from hypothesis import strategies as st

from persona_pipeline.reasons import DocumentReason as Reason
from tests.support.damage import Damage, Kind, damages
from tests.support.source_rows import Rows, get_rejected, get_texts, read_bytes

ENDS = ["end", 'a, "b"', "two\nlines", "é"]
TEXTS = [f"text {i} {'and more ' * (i % 4)}{ENDS[i % 4]}" for i in range(24)]
JSON_LINES = [json.dumps({"text": text, "url": f"x:{i}"}).encode() for i, text in enumerate(TEXTS)]


def quote(text: str) -> str:
    return '"' + text.replace('"', '""') + '"' if set(text) & set('",\n') else text


CSV_HEAD = "text,url"
CSV_LINES = [f"{quote(text)},x:{number}".encode() for number, text in enumerate(TEXTS)]
PLAIN_LINES = [f"text {number},x:{number}".encode() for number in range(24)]


def read(name: str, content: bytes) -> Rows:
    with tempfile.TemporaryDirectory() as folder:
        return read_bytes(Path(folder), name, content)


def untouched(lines: Sequence[bytes], damage: Damage, start: int, end: int) -> list[int]:
    """Return the numbers of the lines that a damage does not touch, nor a line break at them."""
    first, last = damage.span(start, end)
    numbers = []
    place = 0
    for number, line in enumerate(lines):
        after = place + len(line) + 1
        if after <= first or place - 1 >= last:
            numbers.append(number)
        place = after
    return numbers


def blank_free_lines(content: bytes) -> list[int]:
    return [n for n, line in enumerate(content.split(b"\n"), start=1) if line.strip()]


@given(damages())
def test_in_json_lines_a_damage_costs_no_line_that_it_does_not_touch(damage: Damage) -> None:
    content = b"\n".join(JSON_LINES)
    rows = read("a.jsonl", damage.apply(content))
    kept = set(get_texts(rows))
    assert {TEXTS[i] for i in untouched(JSON_LINES, damage, 0, len(content))} <= kept


@given(st.lists(damages(), max_size=6))
def test_each_json_line_is_kept_or_rejected_whatever_the_damage(each: list[Damage]) -> None:
    content = b"\n".join(JSON_LINES)
    start = len(JSON_LINES[0]) + 1  # the first line shows that there is one object per line
    for damage in each:
        content = damage.apply(content, start)
    rows = read("a.jsonl", content)
    assert sorted({row.line or 0 for row in rows}) == blank_free_lines(content)


@given(damages())
def test_in_csv_a_damage_costs_no_record_that_it_does_not_touch(damage: Damage) -> None:
    lines = [CSV_HEAD.encode(), *CSV_LINES]
    content = b"\n".join(lines)
    start = len(CSV_HEAD) + 1  # without its header a table has no column of the text
    rows = read("a.csv", damage.apply(content, start))
    kept = set(get_texts(rows))
    spared = untouched(lines, damage, start, len(content))
    assert {TEXTS[number - 1] for number in spared if number} <= kept


@given(st.lists(damages(), max_size=6))
def test_each_line_of_csv_without_quotes_is_kept_or_rejected(each: list[Damage]) -> None:
    content = b"\n".join([CSV_HEAD.encode(), *PLAIN_LINES])
    for damage in each:
        content = damage.apply(content, len(CSV_HEAD) + 1)
    content = content.replace(b'"', b"'")
    rows = read("a.csv", content)
    assert [row.line for row in rows] == blank_free_lines(content)[1:]


GROUP = 8


def make_parquet(compression: str) -> bytes:
    stream = io.BytesIO()
    table = pa.table({"text": TEXTS, "url": [f"x:{number}" for number in range(24)]})
    pq.write_table(table, stream, row_group_size=GROUP, compression=compression)
    return stream.getvalue()


@given(damages(Kind.FLIP), st.sampled_from(["none", "snappy", "zstd"]))
def test_in_parquet_a_damage_costs_rows_of_its_row_group(damage: Damage, compression: str) -> None:
    content = make_parquet(compression)
    metadata = pq.read_metadata(io.BytesIO(content))
    ends = [metadata.row_group(n).column(1).total_compressed_size for n in range(3)]
    starts = [metadata.row_group(n).column(0).dictionary_page_offset for n in range(3)]
    end = metadata.row_group(2).column(1).dictionary_page_offset + ends[2]
    rows = read("a.parquet", damage.apply(content, starts[0], end))
    assert [row.line for row in rows] == list(range(1, 25))
    place, _ = damage.span(starts[0], end)
    group = sum(place >= start for start in starts) - 1
    spared = TEXTS[: group * GROUP] + TEXTS[(group + 1) * GROUP :]
    assert set(spared) <= set(get_texts(rows))


@given(st.lists(damages(), min_size=1, max_size=3), st.sampled_from(["none", "snappy"]))
def test_a_parquet_file_damaged_anywhere_is_read_or_rejected(
    each: list[Damage], compression: str
) -> None:
    content = make_parquet(compression)
    for damage in each:
        content = damage.apply(content)
    rows = read("a.parquet", content)
    assert rows
    if len(rows) < 24:  # the end of the file tells how many rows there are
        assert get_rejected(rows)[-1].reason in {Reason.BROKEN_FILE, Reason.MISSING_TEXT}
