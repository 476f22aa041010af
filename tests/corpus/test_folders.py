"""Test folders of files of every kind, good and broken."""

import gzip
import io
import os
from pathlib import Path

import duckdb
import pytest
import zstandard
from warcio.warcwriter import WARCWriter  # type: ignore[import-untyped]  # has no types

from persona_pipeline.corpus.document import Document, RejectedDocument
from persona_pipeline.corpus.options import CorpusOptions
from persona_pipeline.corpus.rows import MAX_RAW_BYTES
from persona_pipeline.corpus.sources import read_source
from persona_pipeline.errors import SourceError
from persona_pipeline.reasons import DocumentReason as Reason

OPTIONS = CorpusOptions(min_chars=5, max_chars=200)


def read(
    spec: object, options: CorpusOptions = OPTIONS
) -> tuple[list[Document], list[RejectedDocument]]:
    rows = list(read_source(str(spec), options))
    return (
        [row for row in rows if isinstance(row, Document)],
        [row for row in rows if isinstance(row, RejectedDocument)],
    )


def write_parquet(path: Path, select: str) -> None:
    with duckdb.connect() as connection:
        connection.execute(f"copy ({select}) to '{path}' (format parquet)")


def make_wet(text: str) -> bytes:
    buffer = io.BytesIO()
    writer = WARCWriter(buffer, gzip=True)
    record = writer.create_warc_record(
        "https://ex.org/", "conversion", payload=io.BytesIO(text.encode()), length=len(text)
    )
    writer.write_record(record)
    return buffer.getvalue()


def write_good_files(folder: Path) -> None:
    (folder / "good" / "deep").mkdir(parents=True)
    lines = b'{"text": "good line one"}\n{"text": "good line two"}\n'
    (folder / "good" / "a.jsonl").write_bytes(lines)
    (folder / "good" / "b.ndjson.gz").write_bytes(gzip.compress(lines))
    (folder / "good" / "c.jsonl.zst").write_bytes(zstandard.compress(lines))
    (folder / "good" / "d.json").write_bytes(b'[{"text": "good item"}]')
    write_parquet(folder / "good" / "e.parquet", "select 'good row' as text")
    (folder / "good" / "f.TXT").write_bytes(b"good \0text\n")
    (folder / "good" / "g.md").write_bytes(b"# Good\n\ntext")
    (folder / "good" / "h.html").write_bytes(b"<main><p>good page</p></main>")
    (folder / "good" / "i.warc.wet.gz").write_bytes(make_wet("good record"))
    (folder / "good" / "deep" / "j.txt").write_bytes(b"good and deep")


def write_bad_files(folder: Path) -> None:
    lines = b'{"text": "good line one"}\n{"text": "good line two"}\n'
    (folder / "bad").mkdir()
    (folder / "bad" / "a.jsonl").write_bytes(
        lines + b'{"text\n["good"]\n\n{"text": 1}\n{"id": 1}\n{"text": "\xff"}\n{"text": ""}\n'
        b'{"text": "a"}\n{"text": "' + b"a" * 300 + b'"}\n{"text": "good line eleven"}\n'
    )
    (folder / "bad" / "b.jsonl.gz").write_bytes(gzip.compress(lines)[:-6])
    (folder / "bad" / "c.jsonl.gz").write_bytes(lines)
    (folder / "bad" / "d.json").write_bytes(b'[{"text": "good item"}, {"text": ')
    (folder / "bad" / "e.parquet").write_bytes(b"PAR1 and no more")
    write_parquet(folder / "bad" / "f.parquet", "select 'good row' as body")
    (folder / "bad" / "g.txt").write_bytes("trop français".encode("latin-1"))
    (folder / "bad" / "h.md").write_bytes(b"\n \n")
    (folder / "bad" / "i.html").write_bytes(b"<script>good()</script>")
    (folder / "bad" / "j.warc.gz").write_bytes(make_wet("good record")[:60])
    (folder / "bad" / "k.docx").write_bytes(b"PK")
    (folder / "bad" / "l").write_bytes(b"a name without extension")
    (folder / "bad" / "m.warc").write_bytes(b"good text, but no archive\n")
    (folder / "bad" / "n.txt").symlink_to("nothing")


KEPT = [
    ("bad/a.jsonl", 1, "good line one"),
    ("bad/a.jsonl", 2, "good line two"),
    ("bad/a.jsonl", 12, "good line eleven"),
    ("bad/b.jsonl.gz", 1, "good line one"),
    ("bad/b.jsonl.gz", 2, "good line two"),
    ("bad/c.jsonl.gz", 1, "good line one"),  # only its name is wrong
    ("bad/c.jsonl.gz", 2, "good line two"),
    ("good/a.jsonl", 1, "good line one"),
    ("good/a.jsonl", 2, "good line two"),
    ("good/b.ndjson.gz", 1, "good line one"),
    ("good/b.ndjson.gz", 2, "good line two"),
    ("good/c.jsonl.zst", 1, "good line one"),
    ("good/c.jsonl.zst", 2, "good line two"),
    ("good/d.json", 1, "good item"),
    ("good/deep/j.txt", None, "good and deep"),
    ("good/e.parquet", 1, "good row"),
    ("good/f.TXT", None, "good text"),
    ("good/g.md", None, "# Good\n\ntext"),
    ("good/h.html", None, "good page"),
    ("good/i.warc.wet.gz", 1, "good record"),
]
"""File, line and text of what is kept of these files."""
REJECTED = [
    ("bad/a.jsonl", 3, Reason.BROKEN_JSON),
    ("bad/a.jsonl", 4, Reason.NOT_AN_OBJECT),
    ("bad/a.jsonl", 6, Reason.WRONG_TYPE),
    ("bad/a.jsonl", 7, Reason.MISSING_TEXT),
    ("bad/a.jsonl", 8, Reason.INVALID_UTF8),
    ("bad/a.jsonl", 9, Reason.EMPTY),
    ("bad/a.jsonl", 10, Reason.TOO_SHORT),
    ("bad/a.jsonl", 11, Reason.TOO_LONG),
    ("bad/b.jsonl.gz", 3, Reason.BROKEN_FILE),
    ("bad/d.json", None, Reason.BROKEN_JSON),
    ("bad/e.parquet", None, Reason.BROKEN_FILE),
    ("bad/f.parquet", None, Reason.MISSING_TEXT),
    ("bad/g.txt", None, Reason.INVALID_UTF8),
    ("bad/h.md", None, Reason.EMPTY),
    ("bad/i.html", None, Reason.NO_MAIN_TEXT),
    ("bad/j.warc.gz", 1, Reason.BROKEN_FILE),
    ("bad/k.docx", None, Reason.UNSUPPORTED_FILE),
    ("bad/l", None, Reason.UNSUPPORTED_FILE),
    ("bad/m.warc", 1, Reason.BROKEN_FILE),
    ("bad/n.txt", None, Reason.UNSUPPORTED_FILE),
]
"""File, line and reason of what is not."""


def test_among_broken_files_every_good_text_is_kept(tmp_path: Path) -> None:
    write_good_files(tmp_path)
    write_bad_files(tmp_path)
    kept, rejected = read(tmp_path)
    assert [(row.file, row.line, row.text) for row in kept] == KEPT
    assert [(row.file, row.line, row.reason) for row in rejected] == REJECTED
    assert {row.source for row in kept} | {row.source for row in rejected} == {tmp_path.name}
    assert all(row.detail for row in rejected)
    assert len({row.document_id for row in rejected}) == len(rejected)


def test_a_text_file_is_one_document_titled_with_its_name(tmp_path: Path) -> None:
    file = tmp_path / "My notes.txt"
    file.write_bytes(b"\xef\xbb\xbf# not a heading\r\nsome text")
    ((row,), rejected) = read(file)
    expected = Document(
        text="# not a heading\nsome text",
        source="My notes.txt",
        url=file.as_uri(),
        title="My notes",
        file="My notes.txt",
    )
    assert (row, rejected) == (expected, [])


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("intro\n\n## The *title* ##\n\n# Later", "The *title*"),
        ("```\n# a comment\n```\n# The title", "The title"),
        ("#hashtag, no heading", "page"),
    ],
)
def test_a_markdown_file_is_titled_with_its_first_heading(
    tmp_path: Path, text: str, title: str
) -> None:
    (tmp_path / "page.markdown").write_text(text, encoding="utf-8")
    ((row,), _) = read(tmp_path)
    assert row.title == title


def test_an_html_file_says_its_title_and_language(tmp_path: Path) -> None:
    page = "<html lang=pt-BR><title>Título</title><main><p>Olá, mundo.</p></main>"
    (tmp_path / "a.htm").write_bytes(page.encode("utf-8-sig"))
    (tmp_path / "b.html").write_bytes(b"<p>no title here</p>")
    ((first, second), _) = read(tmp_path)
    assert (first.text, first.title, first.language) == ("Olá, mundo.", "Título", "pt")
    assert (second.title, second.language) == ("b", None)


@pytest.mark.parametrize("name", ["a.txt", "a.html"])
def test_a_file_too_large_to_be_one_text_is_not_read(tmp_path: Path, name: str) -> None:
    with (tmp_path / name).open("wb") as file:
        file.truncate(MAX_RAW_BYTES + 1)  # sparse: takes no space
    ((), (row,)) = read(tmp_path)
    assert row.reason == Reason.TOO_LONG


def test_hidden_files_and_linked_folders_are_not_walked(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    for name in (".git/a.txt", ".hidden.txt", "seen.txt"):
        (tmp_path / name).write_bytes(b"some text")
    (tmp_path / "loop").symlink_to(tmp_path)
    kept, rejected = read(tmp_path)
    assert ([row.file for row in kept], rejected) == (["seen.txt"], [])


def test_files_are_read_in_the_order_of_their_paths(tmp_path: Path) -> None:
    names = ["b.txt", "a/2.txt", "a/1.txt", "a.txt", "c/d/e.txt"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"some text")
    kept, _ = read(tmp_path)
    assert [row.file for row in kept] == ["a/1.txt", "a/2.txt", "a.txt", "b.txt", "c/d/e.txt"]


def test_a_glob_reads_what_it_matches_and_no_more(tmp_path: Path) -> None:
    for name in ("x/a.txt", "x/b.md", "y/c.txt", ".z/d.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"some text")
    write_parquet(tmp_path / "p.parquet", "select 'some text' as text")
    for pattern, files in (
        ("*/*.txt", ["x/a.txt", "y/c.txt"]),
        ("**/*.md", ["x/b.md"]),
        ("*.parquet", ["p.parquet"]),
    ):
        kept, rejected = read(tmp_path / pattern)
        assert ([row.file for row in kept], rejected) == (files, [])
        assert {row.source for row in kept} == {tmp_path.name}


def test_a_file_name_in_no_encoding_can_still_be_stored(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.txt")
    (tmp_path / name).write_bytes(b"some text")
    ((row,), _) = read(tmp_path)
    assert (row.file, row.title) == ("caf\ufffd.txt", "caf\ufffd")
    assert row.url.endswith("/caf%E9.txt")


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs an unreadable file")
@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.json", "a.html", "a.warc"])
def test_a_file_that_cannot_be_read_is_a_broken_file(tmp_path: Path, name: str) -> None:
    (tmp_path / name).symlink_to("/proc/self/mem")  # even root gets an input/output error
    (tmp_path / "b.txt").write_bytes(b"some text")
    ((kept,), (row,)) = read(tmp_path)
    assert (row.file, row.reason, kept.file) == (name, Reason.BROKEN_FILE, "b.txt")
    assert "Input/output error" in row.detail


def test_a_linked_folder_keeps_its_own_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "version-3").mkdir()
    (tmp_path / "version-3" / "a.txt").write_bytes(b"some text")
    (tmp_path / "latest").symlink_to("version-3")
    monkeypatch.chdir(tmp_path / "version-3")
    for spec, source in ((tmp_path / "latest", "latest"), (".", "version-3")):
        ((row,), _) = read(spec)
        assert (row.source, row.file) == (source, "a.txt")


def test_an_empty_folder_is_no_source(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="has no files"):
        read(tmp_path)
