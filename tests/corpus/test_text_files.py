"""Test text files with a document per line, and pointers of Git LFS."""

from dataclasses import replace
from pathlib import Path

import pytest

from persona_pipeline.corpus.rows import MAX_RAW_BYTES
from persona_pipeline.reasons import DocumentReason as Reason
from tests.support.source_rows import SHORT, get_rejected, read_bytes, summarize

LINES = replace(SHORT, sample_by="line")


def test_a_text_file_holds_a_document_per_line_if_asked_for(tmp_path: Path) -> None:
    content = "first\r\n\n  \ncafé\n".encode() + b"caf\xe9\nlast"
    rows = read_bytes(tmp_path, "a.txt", content, LINES)
    assert summarize(rows) == [(1, "first"), (4, "café"), (5, Reason.INVALID_UTF8), (6, "last")]
    assert summarize(read_bytes(tmp_path, "a.md", b"one\ntwo", LINES)) == [(None, "one\ntwo")]


def test_a_line_too_large_to_be_one_text_is_rejected(tmp_path: Path) -> None:
    with (tmp_path / "a.txt").open("wb") as file:
        file.write(b"first\n")
        file.truncate(MAX_RAW_BYTES + 100)
    with (tmp_path / "a.txt").open("ab") as file:
        file.write(b"\nlast")
    rows = read_bytes(tmp_path, "b.txt", (tmp_path / "a.txt").read_bytes(), LINES)
    assert summarize(rows) == [(1, "first"), (2, Reason.TOO_LONG), (3, "last")]


POINTER = b"""version https://git-lfs.github.com/spec/v1
oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393
size 12345
"""


@pytest.mark.parametrize(
    "name", ["a.jsonl", "a.parquet", "a.csv", "a.txt", "a.jsonl.gz", "a.arrow", "a.warc.gz"]
)
def test_a_pointer_of_git_lfs_is_rejected_once_with_what_to_do(tmp_path: Path, name: str) -> None:
    (row,) = get_rejected(read_bytes(tmp_path, name, POINTER))
    assert (row.reason, row.line) == (Reason.BROKEN_FILE, None)
    assert row.detail == "a pointer of Git LFS, not the file itself; run 'git lfs pull'"
