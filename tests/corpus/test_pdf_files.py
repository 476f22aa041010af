"""Test PDF files, with the extra and without it."""

import os
from pathlib import Path

import pytest

from persona_pipeline.corpus import pdf_files, sources
from persona_pipeline.corpus.document import Document
from persona_pipeline.errors import SourceError
from persona_pipeline.reasons import DocumentReason as Reason
from tests.support.pdf import make_pdf
from tests.support.source_rows import get_rejected, get_texts, read, read_bytes

needs_pdfium = pytest.mark.skipif(not pdf_files.has_pdfium(), reason="needs the extra pdf")


@needs_pdfium
def test_a_pdf_is_one_document_with_the_text_of_all_pages(tmp_path: Path) -> None:
    content = make_pdf("The first page\nof two", "and the second", title="A paper")
    (row,) = read_bytes(tmp_path, "paper.pdf", content)
    assert row == Document(
        "The first page\nof two\n\nand the second",
        "paper.pdf",
        (tmp_path / "paper.pdf").as_uri(),
        title="A paper",
        file="paper.pdf",
    )


@needs_pdfium
def test_a_pdf_without_title_has_that_of_its_name_in_any_encoding(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"caf\xe9.pdf")).write_bytes(make_pdf("some text"))
    (row,) = read(tmp_path)
    assert isinstance(row, Document)
    assert (row.text, row.title) == ("some text", "caf\ufffd")


@needs_pdfium
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"%PDF-1.7", Reason.BROKEN_FILE),
        (b"", Reason.BROKEN_FILE),
        (make_pdf(""), Reason.NO_MAIN_TEXT),
    ],
)
def test_a_pdf_without_text_is_rejected(tmp_path: Path, content: bytes, reason: Reason) -> None:
    (row,) = get_rejected(read_bytes(tmp_path, "a.pdf", content))
    assert row.reason == reason


def test_without_the_extra_a_pdf_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (pdf_files, sources):
        monkeypatch.setattr(module, "has_pdfium", lambda: False)
    (tmp_path / "a.pdf").write_bytes(make_pdf("some text"))
    (tmp_path / "b.txt").write_bytes(b"some text")
    rows = read(tmp_path)
    assert get_texts(rows) == ["some text"]
    (row,) = get_rejected(rows)
    assert (row.file, row.reason) == ("a.pdf", Reason.UNSUPPORTED_FILE)
    assert "pip install 'persona-pipeline[pdf]'" in row.detail
    with pytest.raises(SourceError, match=r"persona-pipeline\[pdf\]"):
        read(tmp_path / "a.pdf")
