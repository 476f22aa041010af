"""List the files and folders on this machine, and choose the reader of each file."""

import logging
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path, PurePath

from persona_pipeline.corpus.codecs import BY_SUFFIX
from persona_pipeline.corpus.csv_files import read_csv, read_tsv
from persona_pipeline.corpus.dataset_cards import CARD, DatasetCard, find_card, read_card
from persona_pipeline.corpus.json_lines import read_json
from persona_pipeline.corpus.options import CorpusOptions
from persona_pipeline.corpus.pdf_files import read_pdf
from persona_pipeline.corpus.rows import FileReader, Place, Row, Skipped
from persona_pipeline.corpus.source_files import SourceFile
from persona_pipeline.corpus.tables import read_arrow, read_parquet
from persona_pipeline.corpus.text_files import read_html, read_markdown, read_text
from persona_pipeline.corpus.web_archives import read_wacz, read_web_archive
from persona_pipeline.errors import SourceError
from persona_pipeline.reasons import DocumentReason

LOG = logging.getLogger(__name__)

_READERS: dict[str, FileReader] = {
    ".jsonl": read_json,
    ".ndjson": read_json,
    ".json": read_json,
    ".csv": read_csv,
    ".tsv": read_tsv,
    ".txt": read_text,
    ".md": read_markdown,
    ".markdown": read_markdown,
    ".html": read_html,
    ".htm": read_html,
    ".warc": read_web_archive,
    ".wet": read_web_archive,
    ".arc": read_web_archive,
    ".parquet": read_parquet,
    ".arrow": read_arrow,
    ".feather": read_arrow,
    ".pdf": read_pdf,
    ".wacz": read_wacz,
}
_UNCOMPRESSED = frozenset({".parquet", ".arrow", ".feather", ".pdf", ".wacz"})
"""Types that compress their content themselves."""

FILE_TYPES = f"{', '.join(_READERS)}; texts also with {', '.join(sorted(BY_SUFFIX))}"

_LFS_POINTER = b"version https://git-lfs.github.com/spec/"


def read_local(
    root: Path, paths: list[Path], options: CorpusOptions, skipped: Skipped
) -> Iterator[Row]:
    """Yield the rows of files below `root`, whose name is the source.

    `root` may be the only file. `skipped` counts what can become no row.
    """
    cards: dict[Path, DatasetCard | None] = {}
    for path in paths:
        if path.parent not in cards:
            cards[path.parent] = find_card(path.parent)
        card = cards[path.parent]
        uri = path.absolute().as_uri()
        place = Place(_root_name(root), local_name(root, path), uri, skipped)
        filled = card.fill(options) if card else options
        yield from read_file(path, find_reader(path.name), place, filled)


def local_name(root: Path, path: Path) -> str:
    """Return the file name that the rows of `path` below `root` carry."""
    return _root_name(root) if path == root else show_name(str(path.relative_to(root)))


def list_local(root: Path, paths: list[Path]) -> list[SourceFile]:
    """Return the files as they are now, without those that vanish meanwhile.

    Raises:
        SourceError: a file cannot be read. The message names it.
    """
    listed = list[SourceFile]()
    for path in paths:
        try:
            status = path.stat()
        except FileNotFoundError:
            continue
        except OSError as error:
            message = f"{path} cannot be read: {error.strerror}"
            raise SourceError(message) from error
        modified = datetime.fromtimestamp(status.st_mtime, UTC).replace(tzinfo=None)
        listed.append(SourceFile(local_name(root, path), status.st_size, modified))
    return listed


def _root_name(root: Path) -> str:
    """Return the root's name.

    "." and "..", which have none, get that of the folder; a link keeps its own.
    """
    return show_name(root.resolve().name if root.name in {"", ".."} else root.name)


def list_files(folder: Path, *, may_be_empty: bool = False) -> list[Path]:
    """Return every file below the folder in path order, without hidden files and linked folders.

    Of a data set of the Hugging Face Hub, here or in a folder below, only its data files.

    Raises:
        SourceError: a folder cannot be listed, or there is no file at all.
    """
    files: list[Path] = []
    for parent, folders, names in os.walk(folder, onerror=_raise_unlisted):
        if (inner := Path(parent)) != folder and read_card(inner):
            files += list_files(inner, may_be_empty=True)
            folders.clear()
            continue
        folders[:] = [name for name in folders if not name.startswith(".")]
        files += [inner / name for name in names if not name.startswith(".")]
    card = read_card(folder)
    if card:
        files = _choose_data(folder, files, card)
    if not files and not may_be_empty:
        empty = f"the folder {folder} has no files"
        raise SourceError(card.describe_missing(str(folder)) if card else empty)
    return sorted(files)


def _choose_data(folder: Path, files: list[Path], card: DatasetCard) -> list[Path]:
    """Return the files that a data set is read from; all, if it holds no data but Markdown."""
    below = {path.relative_to(folder).as_posix(): path for path in files}
    chosen = card.choose(below)
    if not card.patterns and not any(map(_holds_data, chosen)):
        return files
    left = len(files) - len(chosen)
    LOG.info("%s is a data set: %d files, and %d about them", folder, len(chosen), left)
    for pattern in card.unmatched(below):
        LOG.warning("%s has no file that matches %s of its %s", folder, pattern, CARD)
    return [below[name] for name in chosen]


def _holds_data(name: str) -> bool:
    """Tell whether a file of a data set has rows, by its name: Markdown describes them."""
    return find_reader(name) not in {None, read_markdown}


def has_reader(path: Path) -> bool:
    """Return whether the name ends in a known type."""
    return find_reader(path.name) is not None


def read_file(
    path: Path, reader: FileReader | None, place: Place, options: CorpusOptions
) -> Iterator[Row]:
    """Yield the rows of one file, or the rejection of a file that cannot be read at all."""
    if reader is None:
        detail = f"no reader for {path.suffix or 'a name without extension'}; known: {FILE_TYPES}"
        yield place.reject(DocumentReason.UNSUPPORTED_FILE, detail)
    elif not path.is_file():
        detail = "not a regular file, or a link to nothing"
        yield place.reject(DocumentReason.UNSUPPORTED_FILE, detail)
    else:
        try:
            if _is_lfs_pointer(path):
                detail = "a pointer of Git LFS, not the file itself; run 'git lfs pull'"
                yield place.reject(DocumentReason.BROKEN_FILE, detail)
            else:
                yield from reader(path, place, options)
        except OSError as error:
            yield place.reject(
                DocumentReason.BROKEN_FILE, f"cannot be read: {error.strerror or error}"
            )


def find_reader(name: str) -> FileReader | None:
    """Return the reader of a file by the ending of its name, without that of its compression."""
    path = PurePath(name.lower())
    if path.suffix not in BY_SUFFIX:
        return _READERS.get(path.suffix)
    suffix = PurePath(path.stem).suffix
    return None if suffix in _UNCOMPRESSED else _READERS.get(suffix)


def show_name(name: str) -> str:
    """Return the name in valid UTF-8: a file name may be any bytes, a database column may not."""
    return os.fsencode(name).decode("utf-8", "replace")


def _is_lfs_pointer(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(_LFS_POINTER)) == _LFS_POINTER


def _raise_unlisted(error: OSError) -> None:
    message = f"the folder {error.filename} cannot be listed: {error.strerror}"
    raise SourceError(message) from error
