"""Set how a corpus is read: field names, length limits, defaults."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Literal, TypeAlias

SampleBy: TypeAlias = Literal["document", "line"]
"""What a text file holds: one document, or one per line."""

KNOWN_PATHS = {
    "text": ("text", "raw_content", "content"),
    "url": ("url", "metadata.url", "meta.url", "warc_headers.warc-target-uri"),
    "language": (
        "language",
        "metadata.language",
        "meta.language",
        "metadata.identification.label",
    ),
    "license": ("license", "metadata.license", "meta.license"),
    "title": ("title", "metadata.title", "meta.title"),
    "topic": ("topic",),
}
"""Where well-known corpora keep each field, by its default name, in the order of preference:
Dolma in `metadata`, RedPajama 1 and the Pile in `meta`, RedPajama 2 in `raw_content`, OSCAR 23.01
in `content`, `warc_headers` and `metadata.identification` (their dataset cards)."""


MAX_DEPTH = 20
"""Depth to which fields and texts of a record are looked for. Python would stop our own calls at
about 500."""


@dataclass(slots=True)
class FieldsMet:
    """Which named fields were met in a source so far, and what the last record had."""

    met: set[str] = field(default_factory=set)
    last: Mapping[str, object] = field(default_factory=dict)
    """The last record, or the columns of the last table."""


@dataclass(frozen=True, slots=True)
class CorpusOptions:
    """Set field names, length limits in characters, and default values.

    A field name is a JSON key or Parquet column, or a path to a nested one, such as `metadata.url`.
    A default name also stands for the names that well-known corpora use.
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
    fields_met: FieldsMet = field(default_factory=FieldsMet, compare=False, repr=False)

    @property
    def field_names(self) -> tuple[str, ...]:
        """The names of all fields, the text first."""
        return (
            self.text_field,
            self.url_field,
            self.language_field,
            self.license_field,
            self.title_field,
            self.topic_field,
        )

    @property
    def text_columns(self) -> tuple[str, ...]:
        """The keys or columns that the text may be in, or around it."""
        return tuple(dict.fromkeys(_columns_of(self.text_field)))

    @property
    def other_columns(self) -> tuple[str, ...]:
        """The same for all other fields."""
        columns = [column for name in self.field_names[1:] for column in _columns_of(name)]
        return tuple(dict.fromkeys(columns))

    @property
    def columns(self) -> tuple[str, ...]:
        """The keys or columns that a reader uses, each once, the text first."""
        return tuple(dict.fromkeys([*self.text_columns, *self.other_columns]))

    def read(self, record: Mapping[str, object], name: str) -> object:
        """Return the value of a field of `field_names`; None if it is null or absent."""
        for path in paths_of(name):
            value = find_value(record, path)
            if value is not None:
                self.fields_met.met.add(name)
                return value
        return None

    def unmet(self) -> list[str]:
        """Return the names that a user has chosen and that no record so far had, the text first."""
        chosen = [name for name in self.field_names if name not in KNOWN_PATHS]
        return [name for name in chosen if name not in self.fields_met.met]


def paths_of(name: str) -> tuple[str, ...]:
    """Return the paths that a field name stands for."""
    return KNOWN_PATHS.get(name, (name,))


def find_value(record: Mapping[str, object], path: str) -> object:
    """Return the value at a path, whose parts are parted by dots; None if it is absent.

    A key may have dots itself: the longest key that leads to a value is taken.
    """
    value = record.get(path)
    if value is not None:
        return value
    for head, rest in _cuts(path):
        inner = record.get(head)
        if inner is None:  # before the check of its type, which takes ten times as long
            continue
        if isinstance(inner, Mapping) and (value := find_value(inner, rest)) is not None:
            return value
    return None


def list_paths(record: Mapping[str, object], depth: int = MAX_DEPTH) -> Iterator[str]:
    """Yield the path of every field of the record that holds no others, or is as deep as this."""
    for key, value in record.items():
        if isinstance(value, Mapping) and depth:
            yield from (f"{key}.{path}" for path in list_paths(value, depth - 1))
        else:
            yield key


def _columns_of(name: str) -> Iterator[str]:
    """Yield the columns that a field may be in: its paths, and their beginnings."""
    for path in paths_of(name):
        yield path
        yield from (head for head, _ in _cuts(path))


@cache
def _cuts(path: str) -> tuple[tuple[str, str], ...]:
    """Return the path cut in two at each of its dots, the last one first."""
    places = reversed([place for place, letter in enumerate(path) if letter == "." and place])
    return tuple((path[:place], path[place + 1 :]) for place in places)
