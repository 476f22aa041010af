"""Turn what a reader read into a document, or into a rejection with its reason."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from persona_pipeline.corpus.document import Document, RejectedDocument
from persona_pipeline.corpus.normalize import normalize_label, normalize_text, normalize_url
from persona_pipeline.corpus.options import CorpusOptions, list_paths, paths_of
from persona_pipeline.corpus.text_values import (
    CHAT_FIELDS,
    Unreadable,
    decode_utf8,
    extract_text,
    extract_texts,
)
from persona_pipeline.corpus.web_pages import WebPage, decode_page, extract_page, is_document
from persona_pipeline.reasons import DocumentReason, SkipReason

# A larger line, page or text file is rejected unread: a text of 100,000 characters has 0.4 MB,
# and a decompression bomb would take all memory.
MAX_RAW_BYTES = 64 * 1024 * 1024

HTML_FIELDS = ("html", "raw_html")
"""Fields of pages in a record without a text."""

_FALLBACK_FIELDS = (*CHAT_FIELDS, *HTML_FIELDS)

_FIELDS_SHOWN = 12

Row: TypeAlias = Document | RejectedDocument

Skipped: TypeAlias = Counter[tuple[str, SkipReason]]
"""How many records hold no page, by file and reason."""


@dataclass(frozen=True, slots=True)
class Place:
    """Name the file that rows are read from. `uri` is the address of a row without its own."""

    source: str
    file: str
    uri: str
    skipped: Skipped = field(default_factory=Counter, compare=False)
    """Counts what is read but can become no row."""

    def skip(self, reason: SkipReason) -> None:
        """Count a record that holds no page. It becomes no row."""
        self.skipped[self.file, reason] += 1

    def reject(
        self, reason: DocumentReason, detail: str, line: int | None = None
    ) -> RejectedDocument:
        """Return the rejection of a row of this file. `line` None means the whole file."""
        return RejectedDocument(reason, detail, self.source, self.file, line)

    def reject_too_large(self, line: int | None = None) -> RejectedDocument:
        """Return the rejection of a row that is too large to be read."""
        detail = f"larger than {MAX_RAW_BYTES // 1024**2} MB; split it into smaller texts"
        return self.reject(DocumentReason.TOO_LONG, detail, line)

    def address(self, line: int | None) -> str:
        """Return the URL of a row without its own."""
        return self.uri if line is None else f"{self.uri}#L{line}"


@dataclass(frozen=True, slots=True)
class RawText:
    """Hold a text as it was read, before normalization and length limits."""

    text: str
    line: int | None = None
    url: str | None = None
    language: str | None = None
    license: str | None = None
    title: str | None = None
    topic: str | None = None


FileReader: TypeAlias = Callable[[Path, Place, CorpusOptions], Iterator[Row]]


def build_row(raw: RawText, place: Place, options: CorpusOptions) -> Row:
    """Return the document, or a rejection if the normalized text is empty or of a wrong length."""
    text = normalize_text(raw.text)
    if problem := _check_length(len(text), options):
        return place.reject(*problem, raw.line)
    return Document(
        text=text,
        source=place.source,
        url=normalize_url(raw.url) or place.address(raw.line),
        language=normalize_label(raw.language) or options.language,
        license=normalize_label(raw.license) or options.license,
        title=normalize_label(raw.title),
        file=place.file,
        line=raw.line,
        topic=normalize_label(raw.topic),
    )


def build_row_from_record(
    record: Mapping[str, object], line: int, place: Place, options: CorpusOptions
) -> Row:
    """Return the row of a record of a table or JSON file.

    Values of the other fields that are no text count as absent. A text is an HTML page if the name
    of its field ends in "html", or if it begins as a whole document. Of a page, the main text is
    taken, and its title and language where the record has none.
    """
    field, value = _find_text(record, options)
    if value is None:
        return place.reject(DocumentReason.MISSING_TEXT, describe_missing(record, options), line)
    page = _read_text(field, value)
    if isinstance(page, Unreadable):
        return place.reject(page.reason, page.detail, line)
    raw = RawText(
        text=page.text,
        line=line,
        url=_read_label(options.read(record, options.url_field)),
        language=_read_label(options.read(record, options.language_field)) or page.language,
        license=_read_label(options.read(record, options.license_field)),
        title=_read_label(options.read(record, options.title_field)) or page.title,
        topic=_read_label(options.read(record, options.topic_field)),
    )
    return build_row(raw, place, options)


def choose_fields(columns: Sequence[str], options: CorpusOptions) -> list[str]:
    """Return the columns of a table to read. There are none without a column of the text."""
    options.fields_met.last = dict.fromkeys(columns)
    chosen = [column for column in options.text_columns if column in columns]
    chosen = chosen or [column for column in _FALLBACK_FIELDS if column in columns]
    others = [column for column in options.other_columns if column in columns]
    return list(dict.fromkeys([*chosen, *others])) if chosen else []


def _find_text(record: Mapping[str, object], options: CorpusOptions) -> tuple[str, object]:
    """Return the text and its field: the one of the options, or else that of a chat or page."""
    name = options.text_field
    text = options.read(record, name)
    if text is not None or any(path in record for path in paths_of(name)):
        return name, text
    others = [(other, record[other]) for other in _FALLBACK_FIELDS if record.get(other) is not None]
    for other, value in others:
        kinds = list | str | bytes | dict if other in HTML_FIELDS else list
        if value and isinstance(value, kinds):
            return other, value
    for other, value in others:  # nothing that can be read: the reason is that of the first
        if isinstance(value, list | Unreadable) or other in HTML_FIELDS:
            return other, value
    return name, None


def _read_text(field: str, value: object) -> WebPage | Unreadable:
    """Return the text of a value, with title and language if it is an HTML page."""
    is_html = field.lower().endswith("html")
    decode = decode_page if is_html else decode_utf8
    texts = [value] if isinstance(value, str) else extract_texts(value, field, decode)
    if isinstance(texts, Unreadable):
        return texts
    pages = [extract_page(text) if is_html or is_document(text) else None for text in texts]
    text = "\n\n".join(page.text if page else text for page, text in zip(pages, texts, strict=True))
    first = next(filter(None, pages), None)
    if first and not text.strip():
        detail = f"the page in {field!r} has no main text"
        return Unreadable(DocumentReason.NO_MAIN_TEXT, detail)
    return WebPage(text, first.title if first else None, first.language if first else None)


def _read_label(value: object) -> str | None:
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):  # of a file whose writer did not say that it holds text
        value = extract_text(value, "")
    return value if isinstance(value, str) else None


def describe_missing(fields: Mapping[str, object], options: CorpusOptions) -> str:
    """Say whether the text is null or absent, and which fields there are to choose from."""
    known = list(list_paths(fields))
    there = [path for path in paths_of(options.text_field) if path in known or path in fields]
    if there:
        return f"{there[0]!r} is null"
    if not known:
        return "the object is empty"
    if nulls := [field for field in _FALLBACK_FIELDS if field in fields and fields[field] is None]:
        return f"{nulls[0]!r} is null"
    return f"no field {options.text_field!r}; set text_field to one of: {list_fields(known)}"


def list_fields(paths: Iterable[str]) -> str:
    """List the first of these fields for a message."""
    names = [repr(name) for name in paths]
    return ", ".join(names[:_FIELDS_SHOWN]) + (", ..." if len(names) > _FIELDS_SHOWN else "")


def _check_length(length: int, options: CorpusOptions) -> tuple[DocumentReason, str] | None:
    if length == 0:
        return DocumentReason.EMPTY, "no characters besides spaces"
    if length < options.min_chars:
        detail = f"{length} characters, min_chars is {options.min_chars}"
        return DocumentReason.TOO_SHORT, detail
    if length > options.max_chars:
        detail = f"{length} characters, max_chars is {options.max_chars}"
        return DocumentReason.TOO_LONG, detail
    return None
