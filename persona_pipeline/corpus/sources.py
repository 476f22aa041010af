"""Read any source that the user names. This is the one entry to the readers."""

import os.path
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

from persona_pipeline.corpus.addresses import redact
from persona_pipeline.corpus.document import Document, RejectedDocument
from persona_pipeline.corpus.local_files import (
    FILE_TYPES,
    has_reader,
    list_files,
    list_local,
    local_name,
    read_local,
)
from persona_pipeline.corpus.options import CorpusOptions
from persona_pipeline.corpus.pdf_files import INSTALL_PDFIUM, has_pdfium
from persona_pipeline.corpus.remote import RemoteSource, list_remote, parse_remote, read_remote
from persona_pipeline.corpus.rows import Skipped
from persona_pipeline.corpus.source_files import SourceFile
from persona_pipeline.corpus.wikipedia import LANGUAGES, read_wikipedia
from persona_pipeline.errors import SourceError, unknown_choice
from persona_pipeline.hashing import stable_id

__all__ = ["CorpusOptions", "list_source", "read_files", "read_source", "source_name"]

_ACCEPTED = (
    f"accepted: wikipedia or wikipedia:{'|'.join(LANGUAGES)}; a file ({FILE_TYPES}), a folder or "
    "a glob such as data/*.jsonl.gz; a URL such as s3://bucket/data/*.parquet; "
    "read_parquet('...') or read_json('...')"
)
_SLUG_LENGTH = 40
_WILDCARD = re.compile(r"[*?\[]")
_ENDINGS = re.compile(
    r"(\.(jsonl|ndjson|json|parquet|txt|md|markdown|html?|warc|wet|arc|wacz|gz|zst))+$",
    re.IGNORECASE,
)


def read_source(
    spec: str, options: CorpusOptions, skipped: Skipped | None = None
) -> Iterator[Document | RejectedDocument]:
    """Yield every text of the source, accepted or rejected, in the same order each time.

    A file or folder named "wikipedia" is written "./wikipedia". `skipped` counts the records that
    hold no text, as far as the rows are taken.

    Raises:
        SourceError: there is nothing to read. Remote sources raise it at the first row.
    """
    if spec == "wikipedia" or spec.startswith("wikipedia:"):
        return read_wikipedia(_parse_language(spec), options)
    skipped = Counter() if skipped is None else skipped
    if remote := _as_remote(spec):
        return read_remote(remote, options, skipped)
    root, paths = _find_files(_as_path(spec), spec)
    return read_local(root, paths, options, skipped)


def list_source(spec: str) -> list[SourceFile]:
    """Return the files of the source as they are now, unread. An empty folder has none.

    Raises:
        SourceError: the folder does not exist or cannot be listed, or the source has no files.
    """
    if spec == "wikipedia" or spec.startswith("wikipedia:"):
        message = f"{spec} never changes: name folders, files and URLs to watch"
        raise SourceError(message)
    if remote := _as_remote(spec):
        return list_remote(remote)
    root, paths = _find_files(_as_path(spec), spec, is_watched=True)
    return list_local(root, paths)


def read_files(
    spec: str, files: Collection[str], options: CorpusOptions, skipped: Skipped
) -> Iterator[Document | RejectedDocument]:
    """Yield the rows of the named files of the source. The names are those of `list_source`.

    `skipped` counts the records that hold no text.
    """
    if remote := _as_remote(spec):
        return read_remote(remote, options, skipped, files)
    root, paths = _find_files(_as_path(spec), spec, is_watched=True)
    paths = [path for path in paths if local_name(root, path) in files]
    return read_local(root, paths, options, skipped)


def source_name(spec: str) -> str:
    """Return a short name for shards: letters, digits, - and _, the same for the same spec."""
    if spec in {"wikipedia", "wikipedia:en"}:
        return "wikipedia"
    if spec.startswith("wikipedia:"):
        return f"wikipedia-{_parse_language(spec)}"
    slugs = (_make_slug(part) for part in reversed(re.split(r"[/']", redact(spec))))
    slug = next((slug for slug in slugs if slug), "corpus")
    return f"{slug}-{stable_id(_identity(spec))[:6]}"


def _identity(spec: str) -> str:
    """Return the same text for ./a and a/, and for every signature of one URL."""
    return redact(spec) if _as_remote(spec) else os.path.normpath(spec)


def _make_slug(part: str) -> str:
    """Return the part as a slug.

    It is empty if nothing is left, as of the last part of data/*.jsonl.
    """
    stem = _ENDINGS.sub("", part).lstrip(".")
    ascii_only = unicodedata.normalize("NFKD", stem).encode("ascii", "ignore").decode()
    return re.sub(r"[^A-Za-z0-9_]+", "-", ascii_only).strip("-")[:_SLUG_LENGTH].rstrip("-")


def _parse_language(spec: str) -> str:
    language = spec.partition(":")[2] or LANGUAGES[0]
    if language not in LANGUAGES:
        raise SourceError(unknown_choice("language of the Wikipedia leads", language, LANGUAGES))
    return language


def _as_remote(spec: str) -> RemoteSource | None:
    return None if _is_file_uri(spec) else parse_remote(spec)


def _is_file_uri(spec: str) -> bool:
    return spec.lower().startswith("file://")


def _as_path(spec: str) -> Path:
    if _is_file_uri(spec):
        return Path(unquote(urlsplit(spec).path))
    return Path.home() / spec[2:] if spec.startswith("~/") else Path(spec)


def _find_files(path: Path, spec: str, *, is_watched: bool = False) -> tuple[Path, list[Path]]:
    """Return the root that names are relative to, and the files. A watched place may have none."""
    if not spec.strip() or not _exists(path):
        return _match_files(path, spec, is_watched=is_watched)
    if path.is_dir():
        return path, list_files(path, may_be_empty=is_watched)
    if not has_reader(path):
        message = f"no reader for the file {spec!r}; {_ACCEPTED}"
        raise SourceError(message)
    if path.suffix.lower() == ".pdf" and not has_pdfium():
        raise SourceError(INSTALL_PDFIUM)
    return path, [path]


def _match_files(path: Path, spec: str, *, is_watched: bool) -> tuple[Path, list[Path]]:
    """Match a pattern. The root is the part of the path before the first wildcard."""
    parts = path.parts
    wild = next((i for i, part in enumerate(parts) if _WILDCARD.search(part)), None)
    if wild is None:
        message = f"there is no file or folder {spec!r}; {_ACCEPTED}"
        raise SourceError(message)
    root = Path(*parts[:wild])
    matches = root.glob(str(Path(*parts[wild:])))
    paths = sorted(path for path in matches if path.is_file() and not _is_hidden(path, root))
    if not paths and not (is_watched and root.is_dir()):
        message = f"no file matches {spec!r}; {_ACCEPTED}"
        raise SourceError(message)
    return root, paths


def _is_hidden(path: Path, root: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(root).parts)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a whole text pasted as the spec is too long to be a name
        return False
