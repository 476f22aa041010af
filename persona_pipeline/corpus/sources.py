"""The one way in: a source named by the user, and the rows it holds."""

import os.path
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

from persona_pipeline.corpus.addresses import redact
from persona_pipeline.corpus.document import Document, RejectedDocument
from persona_pipeline.corpus.local_files import FILE_TYPES, has_reader, list_files, read_local
from persona_pipeline.corpus.options import CorpusOptions
from persona_pipeline.corpus.remote import parse_remote, read_remote
from persona_pipeline.corpus.wikipedia import LANGUAGES, read_wikipedia
from persona_pipeline.errors import SourceError, unknown_choice
from persona_pipeline.hashing import stable_id

__all__ = ["CorpusOptions", "read_source", "source_name"]

_ACCEPTED = (
    f"accepted: wikipedia or wikipedia:{'|'.join(LANGUAGES)}; a file ({FILE_TYPES}), a folder or "
    "a glob such as data/*.jsonl.gz; a URL such as s3://bucket/data/*.parquet; "
    "read_parquet('...') or read_json('...')"
)
_SLUG_LENGTH = 40
_WILDCARD = re.compile(r"[*?\[]")
_ENDINGS = re.compile(
    r"(\.(jsonl|ndjson|json|parquet|txt|md|markdown|html?|warc|wet|gz|zst))+$", re.IGNORECASE
)


def read_source(spec: str, options: CorpusOptions) -> Iterator[Document | RejectedDocument]:
    """Every text of the source, in the same order each time: accepted, or rejected with a reason.

    A file or folder named "wikipedia" is given as "./wikipedia".

    Raises:
        SourceError: there is nothing to read. Remote sources raise it at the first row.
    """
    if spec == "wikipedia" or spec.startswith("wikipedia:"):
        return read_wikipedia(_parse_language(spec), options)
    if spec.lower().startswith("file://"):
        return _read_path(unquote(urlsplit(spec).path), options)
    if remote := parse_remote(spec):
        return read_remote(remote, options)
    return _read_path(spec, options)


def source_name(spec: str) -> str:
    """A short name for shards: letters, digits, - and _, the same for the same spec."""
    if spec in {"wikipedia", "wikipedia:en"}:
        return "wikipedia"
    if spec.startswith("wikipedia:"):
        return f"wikipedia-{_parse_language(spec)}"
    slugs = (_make_slug(part) for part in reversed(re.split(r"[/']", redact(spec))))
    slug = next((slug for slug in slugs if slug), "corpus")
    return f"{slug}-{stable_id(_identity(spec))[:6]}"


def _identity(spec: str) -> str:
    """The same for ./a and a/, and for every signature of one URL."""
    if parse_remote(spec):
        return redact(spec)
    return os.path.normpath(spec)


def _make_slug(part: str) -> str:
    """Empty when nothing is left, as of the last part of data/*.jsonl."""
    stem = _ENDINGS.sub("", part).lstrip(".")
    ascii_only = unicodedata.normalize("NFKD", stem).encode("ascii", "ignore").decode()
    return re.sub(r"[^A-Za-z0-9_]+", "-", ascii_only).strip("-")[:_SLUG_LENGTH].rstrip("-")


def _parse_language(spec: str) -> str:
    language = spec.partition(":")[2] or LANGUAGES[0]
    if language not in LANGUAGES:
        raise SourceError(unknown_choice("language of the Wikipedia leads", language, LANGUAGES))
    return language


def _read_path(spec: str, options: CorpusOptions) -> Iterator[Document | RejectedDocument]:
    path = Path.home() / spec[2:] if spec.startswith("~/") else Path(spec)
    if not spec.strip() or not _exists(path):
        return _read_glob(path, spec, options)
    if path.is_dir():
        return read_local(path, list_files(path), options)
    if not has_reader(path):
        message = f"no reader for the file {spec!r}; {_ACCEPTED}"
        raise SourceError(message)
    return read_local(path, [path], options)


def _read_glob(
    path: Path, spec: str, options: CorpusOptions
) -> Iterator[Document | RejectedDocument]:
    """The root is the part of the path before the first wildcard."""
    parts = path.parts
    wild = next((i for i, part in enumerate(parts) if _WILDCARD.search(part)), None)
    if wild is None:
        message = f"there is no file or folder {spec!r}; {_ACCEPTED}"
        raise SourceError(message)
    root = Path(*parts[:wild])
    matches = root.glob(str(Path(*parts[wild:])))
    paths = sorted(path for path in matches if path.is_file() and not _is_hidden(path, root))
    if not paths:
        message = f"no file matches {spec!r}; {_ACCEPTED}"
        raise SourceError(message)
    return read_local(root, paths, options)


def _is_hidden(path: Path, root: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(root).parts)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a whole text pasted as the spec is too long to be a name
        return False
