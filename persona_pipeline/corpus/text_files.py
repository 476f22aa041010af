"""Read plain text, Markdown and HTML: files that are one document each, or one per line."""

import re
from collections.abc import Iterator
from pathlib import Path

from persona_pipeline.corpus.byte_streams import (
    join_chunks,
    read_chunks,
    read_text_chunks,
    split_lines,
)
from persona_pipeline.corpus.codecs import BY_SUFFIX
from persona_pipeline.corpus.options import CorpusOptions
from persona_pipeline.corpus.rows import MAX_RAW_BYTES, Place, RawText, Row, build_row
from persona_pipeline.corpus.text_values import describe_invalid_utf8
from persona_pipeline.corpus.web_pages import decode_page, extract_page
from persona_pipeline.reasons import DocumentReason

_HEADING = re.compile(r"#{1,6}\s+(\S.*)")
_FENCES = ("```", "~~~")


def read_text(path: Path, place: Place, options: CorpusOptions) -> Iterator[Row]:
    """Yield one document, titled with the file's name, or one per line if the options say so."""
    if options.sample_by == "line":
        return _read_lines(path, place, options)
    return _read_plain(path, place, options, markdown=False)


def read_markdown(path: Path, place: Place, options: CorpusOptions) -> Iterator[Row]:
    """Yield one document, titled with its first heading or else with the file's name."""
    return _read_plain(path, place, options, markdown=True)


def read_html(path: Path, place: Place, options: CorpusOptions) -> Iterator[Row]:
    """Yield the main text of one saved page."""
    content = join_chunks(read_chunks(path))
    if content is None:
        yield place.reject_too_large()
        return
    page = extract_page(decode_page(content))
    if not page.text.strip():
        yield place.reject(DocumentReason.NO_MAIN_TEXT, "the page has no main text")
        return
    title = page.title or _stem(path)
    yield build_row(RawText(page.text, title=title, language=page.language), place, options)


def _read_plain(
    path: Path, place: Place, options: CorpusOptions, *, markdown: bool
) -> Iterator[Row]:
    content = join_chunks(read_text_chunks(path))
    if content is None:
        yield place.reject_too_large()
        return
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        yield place.reject(DocumentReason.INVALID_UTF8, describe_invalid_utf8(error))
        return
    title = (_find_heading(text) if markdown else None) or _stem(path)
    yield build_row(RawText(text, title=title), place, options)


def _read_lines(path: Path, place: Place, options: CorpusOptions) -> Iterator[Row]:
    """Yield one row per line that is not blank."""
    line = 0
    try:
        for line, data in enumerate(split_lines(read_text_chunks(path)), start=1):
            if data.strip():
                yield _build_line(data, line, place, options)
    except OSError as error:
        yield place.reject(DocumentReason.BROKEN_FILE, str(error), line + 1)


def _build_line(data: bytes, line: int, place: Place, options: CorpusOptions) -> Row:
    if len(data) > MAX_RAW_BYTES:
        return place.reject_too_large(line)
    try:
        return build_row(RawText(data.decode(), line), place, options)
    except UnicodeDecodeError as error:
        return place.reject(DocumentReason.INVALID_UTF8, describe_invalid_utf8(error), line)


def _stem(path: Path) -> str:
    """Return the name without its ending, and without that of its compression."""
    return Path(path.stem).stem if path.suffix.lower() in BY_SUFFIX else path.stem


def _find_heading(text: str) -> str | None:
    fenced = False
    for line in text.splitlines():
        if line.startswith(_FENCES):
            fenced = not fenced
        elif not fenced and (match := _HEADING.match(line)):
            return match[1].rstrip("# ")
    return None
