"""Set how a corpus is read: field names, length limits, defaults."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

SampleBy: TypeAlias = Literal["document", "line"]
"""What a text file holds: one document, or one per line."""


@dataclass(frozen=True, slots=True)
class CorpusOptions:
    """Set field names, length limits in characters, and default values.

    Field names are plain names of JSON keys or Parquet columns, not dotted paths.
    """

    text_field: str = "text"
    url_field: str = "url"
    language_field: str = "language"
    license_field: str = "license"
    title_field: str = "title"
    topic_field: str = "topic"
    min_chars: int = 200
    max_chars: int = 100_000
    language: str | None = None
    license: str | None = None
    sample_by: SampleBy = "document"

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields that a reader uses, each once, the text first."""
        names = (
            self.text_field,
            self.url_field,
            self.language_field,
            self.license_field,
            self.title_field,
            self.topic_field,
        )
        return tuple(dict.fromkeys(names))
