"""Test the layouts of JSON files. The content tells them, not the name."""

from pathlib import Path

import pytest

from persona_pipeline.reasons import DocumentReason as Reason
from tests.support.source_rows import get_rejected, read_bytes, summarize

NAMES = pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.ndjson"])

INDENTED = b"""{
  "text": "first",
  "meta": {
    "tags": ["a", "b"]
  }
}
{
  "text": "second"
}
"""


@NAMES
def test_one_object_may_go_over_lines_in_any_layout(tmp_path: Path, name: str) -> None:
    content = b'{"meta":\n  {"lang": "en"},\n "text": "a text"}\n'
    assert summarize(read_bytes(tmp_path, name, content)) == [(1, "a text")]


@NAMES
def test_indented_objects_follow_each_other(tmp_path: Path, name: str) -> None:
    assert summarize(read_bytes(tmp_path, name, INDENTED)) == [(1, "first"), (7, "second")]


@NAMES
def test_an_array_is_read_item_by_item_whatever_the_name(tmp_path: Path, name: str) -> None:
    content = b'[\n  {"text": "first"},\n  {"text": "second"}\n]\n'
    assert summarize(read_bytes(tmp_path, name, content)) == [(1, "first"), (2, "second")]
    content = b'[{"text": "first"}, 2]'
    assert summarize(read_bytes(tmp_path, name, content)) == [
        (1, "first"),
        (2, Reason.NOT_AN_OBJECT),
    ]


def test_a_damaged_object_among_indented_ones_costs_itself(tmp_path: Path) -> None:
    content = INDENTED.replace(b'"text": "first",', b'"text": "first"') + INDENTED
    rows = read_bytes(tmp_path, "a.jsonl", content)
    assert summarize(rows) == [
        (1, Reason.BROKEN_JSON),
        (7, "second"),
        (10, "first"),
        (16, "second"),
    ]
    assert get_rejected(rows)[0].detail == "Expecting ',' delimiter at column 3 of line 3"


def test_lines_whose_first_is_damaged_are_still_lines(tmp_path: Path) -> None:
    rest = b'\n{"text": "second"}\n[1]\n{"text": "fourth"}\n'
    expected = [(2, "second"), (3, Reason.NOT_AN_OBJECT), (4, "fourth")]
    for first in (b'["text": "first"}', b'{"text": "first"', b'{"text" "first"}', b"{", b"x"):
        rows = read_bytes(tmp_path, "a.jsonl", first + rest)
        assert summarize(rows) == [(1, Reason.BROKEN_JSON), *expected]


def test_a_lost_line_break_between_two_objects_costs_neither(tmp_path: Path) -> None:
    content = b'{"text": "first"}\n{"text": "second"}x{"text": "third"}\n{"text": "fourth"}\n'
    rows = read_bytes(tmp_path, "a.jsonl", content)
    assert summarize(rows) == [
        (1, "first"),
        (2, "second"),
        (2, "third"),
        (3, "fourth"),
    ]


def test_an_indented_object_that_is_cut_off_is_rejected(tmp_path: Path) -> None:
    rows = read_bytes(tmp_path, "a.json", INDENTED[:-12])
    assert summarize(rows) == [(1, "first"), (7, Reason.BROKEN_JSON)]


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv", "a.txt"])
def test_the_byte_order_mark_tells_utf16_and_utf32(
    tmp_path: Path, name: str, encoding: str
) -> None:
    text = {"a.csv": "text\ncafé 日本\n", "a.txt": "café 日本"}.get(name, '{"text": "café 日本"}\n')
    rows = read_bytes(tmp_path, name, f"\ufeff{text}".encode(encoding))
    assert [row[1] for row in summarize(rows)] == ["café 日本"]


@pytest.mark.parametrize(
    ("encoding", "damage"), [("utf-16-le", b"\x00\xd8"), ("utf-32-le", b"\xff\xff\xff\xff")]
)
def test_damage_in_utf16_costs_its_line(tmp_path: Path, encoding: str, damage: bytes) -> None:
    lines = [f'{{"text": "{word}"}}\n'.encode(encoding) for word in ("first", "second", "third")]
    wide = len("x".encode(encoding))
    lines[1] = lines[1][: 11 * wide] + damage + lines[1][12 * wide :]
    rows = read_bytes(tmp_path, "a.jsonl", "\ufeff".encode(encoding) + b"".join(lines))
    assert summarize(rows) == [(1, "first"), (2, Reason.INVALID_UTF8), (3, "third")]
