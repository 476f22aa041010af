"""Describe one file of a source as it is listed, before anybody reads it."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class SourceFile:
    """Hold a file's name as in `corpus.documents.file`, its size, and its change in UTC."""

    file: str
    byte_count: int
    modified_at: datetime
