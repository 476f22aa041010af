"""Build web archives with warcio, and read them."""

import io
from pathlib import Path

from warcio.statusandheaders import StatusAndHeaders  # type: ignore[import-untyped]  # no types
from warcio.warcwriter import WARCWriter  # type: ignore[import-untyped]  # no types

from persona_pipeline.corpus.document import Document, RejectedDocument
from persona_pipeline.corpus.options import CorpusOptions
from persona_pipeline.corpus.rows import Skipped
from persona_pipeline.corpus.sources import read_source

OPTIONS = CorpusOptions(min_chars=20)
SENTENCE = "L'été est là, et la forêt s'éveille doucement. "


class Archive:
    """Build a WARC file."""

    def __init__(self, *, packed: bool = False) -> None:
        self._buffer = io.BytesIO()
        self._writer = WARCWriter(self._buffer, gzip=packed)

    @property
    def data(self) -> bytes:
        return self._buffer.getvalue()

    def add_page(
        self,
        body: bytes,
        *headers: tuple[str, str],
        status: str = "200 OK",
        url: str = "https://ex.org/page",
    ) -> None:
        head = StatusAndHeaders(status, list(headers), protocol="HTTP/1.1")
        record = self._writer.create_warc_record(
            url, "response", payload=io.BytesIO(body), http_headers=head, length=len(body)
        )
        self._writer.write_record(record)

    def add_other(self, kind: str, body: bytes, content_type: str = "text/plain") -> None:
        record = self._writer.create_warc_record(
            "https://ex.org/other",
            kind,
            payload=io.BytesIO(body),
            warc_content_type=content_type,
            length=len(body),
        )
        self._writer.write_record(record)

    def add_conversion(self, text: str, languages: str) -> None:
        record = self._writer.create_warc_record(
            "https://ex.org/wet",
            "conversion",
            payload=io.BytesIO(text.encode()),
            warc_content_type="text/plain",
            warc_headers_dict={"WARC-Identified-Content-Language": languages},
            length=len(text.encode()),
        )
        self._writer.write_record(record)


HTML = ("Content-Type", "text/html")


def make_page(number: int = 1, attributes: str = "") -> str:
    return (
        f"<html{attributes}><head><title>Page {number}</title></head><body>"
        f"<nav><a href='/'>Accueil</a></nav><main><p>{SENTENCE * 5}</p></main></body></html>"
    )


def read(
    path: Path, data: bytes, skipped: Skipped | None = None
) -> list[Document | RejectedDocument]:
    path.write_bytes(data)
    return list(read_source(str(path), OPTIONS, skipped))


def summarize(rows: list[Document | RejectedDocument]) -> list[tuple[int | None, str]]:
    """Return each row as its record number and its title, or its reason."""
    return [(row.line, str(row.title) if isinstance(row, Document) else row.reason) for row in rows]


def make_record(block: bytes, *headers: str, kind: str = "response", length: int = -1) -> bytes:
    """Return a WARC record that may be as wrong as no writer would write it."""
    lines = [
        "WARC/1.0",
        f"WARC-Type: {kind}",
        "WARC-Target-URI: https://ex.org/page",
        *headers,
        f"Content-Length: {len(block) if length < 0 else length}",
    ]
    return "\r\n".join([*lines, "", ""]).encode() + block + b"\r\n\r\n"
