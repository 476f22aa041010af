"""Read files that are one document each: plain text, Markdown, HTML."""

import re
from collections.abc import Iterator
from pathlib import Path

from persona_pipeline.corpus.json_lines import describe_invalid_utf8
from persona_pipeline.corpus.options import CorpusOptions
from persona_pipeline.corpus.rows import MAX_RAW_BYTES, Place, RawText, Row, build_row
from persona_pipeline.corpus.web_pages import decode_page, extract_page
from persona_pipeline.reasons import DocumentReason

_HEADING = re.compile(r"#{1,6}\s+(\S.*)")
_FENCES = ("```", "~~~")


def read_text(path: Path, place: Place, options: CorpusOptions) -> Iterator[Row]:
    """Yield one document, titled with the file's name."""
    return _read_plain(path, place, options, markdown=False)


def read_markdown(path: Path, place: Place, options: CorpusOptions) -> Iterator[Row]:
    """Yield one document, titled with its first heading or else with the file's name."""
    return _read_plain(path, place, options, markdown=True)


def read_html(path: Path, place: Place, options: CorpusOptions) -> Iterator[Row]:
    """Yield the main text of one saved page."""
    if path.stat().st_size > MAX_RAW_BYTES:
        yield place.reject_too_large()
        return
    page = extract_page(decode_page(path.read_bytes()))
    if not page.text.strip():
        yield place.reject(DocumentReason.NO_MAIN_TEXT, "the page has no main text")
        return
    title = page.title or path.stem
    yield build_row(RawText(page.text, title=title, language=page.language), place, options)


def _read_plain(
    path: Path, place: Place, options: CorpusOptions, *, markdown: bool
) -> Iterator[Row]:
    if path.stat().st_size > MAX_RAW_BYTES:
        yield place.reject_too_large()
        return
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        yield place.reject(DocumentReason.INVALID_UTF8, describe_invalid_utf8(error))
        return
    title = (_find_heading(text) if markdown else None) or path.stem
    yield build_row(RawText(text, title=title), place, options)


def _find_heading(text: str) -> str | None:
    fenced = False
    for line in text.splitlines():
        if line.startswith(_FENCES):
            fenced = not fenced
        elif not fenced and (match := _HEADING.match(line)):
            return match[1].rstrip("# ")
    return None
