"""What one piece of web text becomes: a document, or a row turned away with its reason."""

from dataclasses import dataclass

from persona_pipeline.hashing import stable_id
from persona_pipeline.reasons import DocumentReason


@dataclass(frozen=True, slots=True)
class Document:
    """One accepted text; `source` is the collection, `file` and `line` where it was read."""

    text: str
    source: str
    url: str
    language: str | None = None
    license: str | None = None
    title: str | None = None
    file: str | None = None
    line: int | None = None
    topic: str | None = None

    @property
    def document_id(self) -> str:
        """The same text from the same source is the same document."""
        return stable_id(self.source, self.text)


@dataclass(frozen=True, slots=True)
class RejectedDocument:
    """One text turned away: where it stood, why, and a detail that a person can act on."""

    reason: DocumentReason
    detail: str
    source: str
    file: str
    line: int | None = None

    @property
    def document_id(self) -> str:
        """Rejected rows may have no readable text, so their place identifies them."""
        return stable_id(self.source, self.file, self.line, self.reason)
