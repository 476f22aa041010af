"""Test compressed files. The first bytes tell the compression."""

import bz2
import gzip
import lzma
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from persona_pipeline.reasons import DocumentReason as Reason
from tests.support.source_rows import get_rejected, get_texts, read_bytes, summarize

LINES = b'{"text": "first"}\n{"text": "second"}\n'


@pytest.mark.parametrize(
    ("ending", "compress"),
    [
        ("gz", gzip.compress),
        ("zst", zstandard.compress),
        ("xz", lzma.compress),
        ("bz2", bz2.compress),
    ],
)
def test_every_text_format_is_read_in_every_compression(
    tmp_path: Path, ending: str, compress: Callable[[bytes], bytes]
) -> None:
    for name, content in (
        ("a.jsonl", b'{"text": "a text"}'),
        ("a.csv", b"text\na text\n"),
        ("a.txt", b"a text"),
        ("a.md", b"a text"),
        ("a.html", b"<main><p>a text</p></main>"),
    ):
        rows = read_bytes(tmp_path, f"{name}.{ending}", compress(content))
        assert get_texts(rows) == ["a text"]
    half = compress(LINES)[:-5]
    assert summarize(read_bytes(tmp_path, f"cut.jsonl.{ending}", half))[-1][1] == Reason.BROKEN_FILE


@pytest.mark.parametrize("compress", [lzma.compress, bz2.compress])
def test_several_members_and_damage_are_no_problem(
    tmp_path: Path, compress: Callable[[bytes], bytes]
) -> None:
    first, second = (compress(line + b"\n") for line in LINES.splitlines())
    ending = "xz" if compress is lzma.compress else "bz2"
    rows = read_bytes(tmp_path, f"a.jsonl.{ending}", first + second)
    assert summarize(rows) == [(1, "first"), (2, "second")]
    damaged = second[:20] + b"\xff" * 10 + second[30:]
    rows = read_bytes(tmp_path, f"a.jsonl.{ending}", first + damaged)
    assert summarize(rows) == [(1, "first"), (2, Reason.BROKEN_FILE)]
    assert "damaged" in get_rejected(rows)[0].detail


def test_a_zstd_window_of_any_length_is_read(tmp_path: Path) -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=31)
    compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    content = compressor.compress(LINES) + compressor.flush()
    rows = read_bytes(tmp_path, "a.jsonl.zst", content)
    assert summarize(rows) == [(1, "first"), (2, "second")]


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.json.zst", "a.jsonl.xz", "a.jsonl.bz2"])
def test_plain_text_under_the_name_of_a_compression_is_read(tmp_path: Path, name: str) -> None:
    for content in (LINES, b"\xef\xbb\xbf" + LINES, f"\ufeff{LINES.decode()}".encode("utf-16-le")):
        rows = read_bytes(tmp_path, name, content)
        assert summarize(rows) == [(1, "first"), (2, "second")]


@pytest.mark.parametrize("compress", [gzip.compress, zstandard.compress, lzma.compress])
def test_a_damaged_start_of_compressed_data_is_no_text(
    tmp_path: Path, compress: Callable[[bytes], bytes]
) -> None:
    (row,) = get_rejected(read_bytes(tmp_path, "a.jsonl.gz", b"x" + compress(LINES)[1:]))
    assert row.reason == Reason.BROKEN_FILE
    assert row.detail == "named .gz, but the content is neither compressed that way nor text"
