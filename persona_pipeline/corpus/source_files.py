"""One file of a source as it is listed, before anybody reads it."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class SourceFile:
    """`file` is what `corpus.documents.file` has; size in bytes, modified in UTC."""

    file: str
    byte_count: int
    modified_at: datetime
