"""Define the results of reading one web text: a document, or a rejection with its reason."""

from dataclasses import dataclass

from persona_pipeline.hashing import stable_id
from persona_pipeline.reasons import DocumentReason

DETAIL_LENGTH = 500
"""Characters of a detail. Messages of libraries may hold the page that they are about."""


@dataclass(frozen=True, slots=True)
class Document:
    """Hold one accepted text.

    `source` is the collection. `file` and `line` say where the text was read.
    """

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
        """The identity: the same text from the same source is the same document."""
        return stable_id(self.source, self.text)


@dataclass(frozen=True, slots=True)
class RejectedDocument:
    """Hold one rejected text: its place, the reason, and a detail that a person can act on.

    A longer detail is cut to DETAIL_LENGTH.
    """

    reason: DocumentReason
    detail: str
    source: str
    file: str
    line: int | None = None

    def __post_init__(self) -> None:
        """Cut the detail."""
        if len(self.detail) > DETAIL_LENGTH:
            object.__setattr__(self, "detail", f"{self.detail[: DETAIL_LENGTH - 1]}…")

    @property
    def document_id(self) -> str:
        """The identity by place, since a rejected row may have no readable text."""
        return stable_id(self.source, self.file, self.line, self.reason)
