"""Read a source, and look at its rows."""

from collections.abc import Iterable
from pathlib import Path

from persona_pipeline.corpus.document import Document, RejectedDocument
from persona_pipeline.corpus.options import CorpusOptions
from persona_pipeline.corpus.sources import read_source

Rows = list[Document | RejectedDocument]
SHORT = CorpusOptions(min_chars=1)


def read(spec: object, options: CorpusOptions = SHORT) -> Rows:
    return list(read_source(str(spec), options))


def get_texts(rows: Iterable[Document | RejectedDocument]) -> list[str]:
    return [row.text for row in rows if isinstance(row, Document)]


def get_rejected(rows: Iterable[Document | RejectedDocument]) -> list[RejectedDocument]:
    return [row for row in rows if isinstance(row, RejectedDocument)]


def summarize(rows: Iterable[Document | RejectedDocument]) -> list[tuple[int | None, str]]:
    """Return each row as its line and its text, or its reason."""
    return [(row.line, row.text if isinstance(row, Document) else row.reason) for row in rows]


def read_bytes(folder: Path, name: str, content: bytes, options: CorpusOptions = SHORT) -> Rows:
    """Return the rows of a file with this content."""
    (folder / name).write_bytes(content)
    return read(folder / name, options)
