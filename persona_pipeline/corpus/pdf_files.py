"""Read the text of PDF files with PDFium, which comes with the extra `pdf`."""

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from persona_pipeline.corpus.options import CorpusOptions
from persona_pipeline.corpus.rows import MAX_RAW_BYTES, Place, RawText, Row, build_row
from persona_pipeline.reasons import DocumentReason

if TYPE_CHECKING:
    from pypdfium2 import PdfDocument

INSTALL_PDFIUM = "PDF files need PDFium; install it with: pip install 'persona-pipeline[pdf]'"

_HYPHEN = "\ufffe"
"""What PDFium writes for the hyphen of a word that goes on in the next line."""


def has_pdfium() -> bool:
    """Return whether the extra is installed."""
    return find_spec("pypdfium2") is not None


def read_pdf(path: Path, place: Place, options: CorpusOptions) -> Iterator[Row]:
    """Yield one document: the text of all pages, titled as the file says or with its name."""
    if not has_pdfium():
        yield place.reject(DocumentReason.UNSUPPORTED_FILE, INSTALL_PDFIUM)
        return
    from pypdfium2 import PdfDocument, PdfiumError  # noqa: PLC0415 - an extra

    try:
        # An open file, since PDFium takes no name that is not UTF-8.
        with path.open("rb") as file, PdfDocument(file) as document:
            title = document.get_metadata_dict().get("Title") or path.stem
            text = _join_pages(document)
    except PdfiumError as error:
        yield place.reject(DocumentReason.BROKEN_FILE, str(error))
        return
    if len(text) > MAX_RAW_BYTES:
        yield place.reject_too_large()
    elif not text.strip():
        detail = "the PDF has no text; its pages may be images"
        yield place.reject(DocumentReason.NO_MAIN_TEXT, detail)
    else:
        yield build_row(RawText(text, title=title), place, options)


def _join_pages(document: "PdfDocument") -> str:
    """Return the text of the pages, as far as it is not too large."""
    texts: list[str] = []
    size = 0
    for page in document:
        text = page.get_textpage().get_text_range()
        texts.append(text.replace(f"{_HYPHEN}\r\n", "").replace(_HYPHEN, ""))
        size += len(text)
        page.close()
        if size > MAX_RAW_BYTES:
            break
    return "\n\n".join(texts)
