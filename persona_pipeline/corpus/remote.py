"""Read sources with DuckDB: s3://, https:// and the like, and read_parquet('...') as a spec."""

import os
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

import duckdb

from persona_pipeline.corpus.addresses import is_url, redact
from persona_pipeline.corpus.dataset_cards import (
    CARD,
    LARGEST_CARD,
    DatasetCard,
    parse_card,
)
from persona_pipeline.corpus.json_lines import read_json
from persona_pipeline.corpus.local_files import FILE_TYPES, find_reader, read_file
from persona_pipeline.corpus.options import CorpusOptions
from persona_pipeline.corpus.rows import FileReader, Place, Row, Skipped
from persona_pipeline.corpus.source_files import SourceFile
from persona_pipeline.corpus.tables import (
    connect,
    describe_error,
    read_fetched,
    read_parquet,
    stream_parquet,
)
from persona_pipeline.errors import SourceError
from persona_pipeline.reasons import DocumentReason

# One string literal and nothing else, so that a spec cannot contain SQL.
_CALL = re.compile(r"(read_parquet|read_json)\(\s*'([^'\x00-\x1f]+)'\s*\)")

_READERS: dict[str, FileReader] = {"read_parquet": read_parquet, "read_json": read_json}

_INSTALL_HTTPFS = (
    "remote sources need DuckDB's httpfs extension, and nothing is downloaded while running. "
    "Install it with: pip install duckdb-extensions=={version} duckdb-extension-httpfs=={version}. "
    "S3 credentials are then read from AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, "
    "AWS_SESSION_TOKEN and AWS_REGION (another endpoint from DUCKDB_S3_ENDPOINT); for roles and "
    "profiles, and for Google Cloud, store a secret once in the duckdb shell: "
    "create persistent secret (type s3, provider credential_chain)"
)


_MISREAD = "*?[#"
"""Signs that DuckDB takes for a pattern or a query, even in a name that it has listed."""
_DATASET = re.compile(r"hf://datasets/[^/*]+/[^/*]+")
"""The address of a data set of the Hugging Face Hub, maybe with @revision."""


@dataclass(frozen=True, slots=True)
class RemoteSource:
    """Hold an address or pattern for DuckDB, and the reader of its files."""

    address: str
    reader: FileReader | None
    """None: a data set of the Hugging Face Hub, whose files have each their own."""

    @property
    def pattern(self) -> str:
        """What DuckDB lists: of a data set, every file."""
        return self.address if self.reader else f"{self.address}/**"


def parse_remote(spec: str) -> RemoteSource | None:
    """Return what DuckDB should reach, or None if the spec is not for DuckDB.

    Raises:
        SourceError: the spec is a URL whose name does not tell its type.
    """
    match = _CALL.fullmatch(spec)
    _refuse_telltale(match[2] if match else spec)
    if match:
        return RemoteSource(match[2], _READERS[match[1]])
    if not is_url(spec):
        return None
    # The path alone: a query string may contain anything.
    reader = find_reader(PurePosixPath(urlsplit(spec).path).name)
    if reader is None and _DATASET.fullmatch(spec.rstrip("/")):
        return RemoteSource(spec.rstrip("/"), None)
    if reader is None:
        message = (
            f"cannot tell how to read {redact(spec)}; a URL must end in one of {FILE_TYPES}, "
            "be a data set such as hf://datasets/owner/name, or be given as read_parquet('...') "
            "or read_json('...')"
        )
        raise SourceError(message)
    return RemoteSource(spec, reader)


def _refuse_telltale(address: str) -> None:
    """Refuse an address of which a message could show the secret.

    Raises:
        SourceError: it has a space or quotation mark, where messages end it, and a query or user.
    """
    if is_url(address) and re.search(r"[\s'\"]", address) and re.search(r"[?@]", address):
        message = (
            f"{redact(address)} has spaces or quotation marks, and a query or a user: write %20,"
            " %27 and %22 in their place, so that no message shows more of it than this"
        )
        raise SourceError(message)


def read_remote(
    remote: RemoteSource,
    options: CorpusOptions,
    skipped: Skipped,
    files: Collection[str] | None = None,
) -> Iterator[Row]:
    """Yield the rows of each file that the address or glob names, or only of those in `files`.

    `skipped` counts what can become no row.
    """
    address = remote.address
    source = redact(address) if is_url(address) else Path(address).name
    with _connect_to(address) as connection:
        if card := _read_card(connection, address):
            options = card.fill(options)
        for file in _list_files(connection, remote, card):
            name = _name(file, remote.pattern)
            if files is None or name in files:
                uri = redact(file) if is_url(file) else Path(file).absolute().as_uri()
                place = Place(source, name, uri, skipped)
                if file != address and is_url(file) and set(_MISREAD) & set(file):
                    detail = f"its name has one of {_MISREAD}, which DuckDB misreads; download it"
                    yield place.reject(DocumentReason.UNSUPPORTED_FILE, detail)
                    continue
                reader = remote.reader or find_reader(name)
                yield from _read_one(connection, file, reader, place, options)


def _read_card(connection: duckdb.DuckDBPyConnection, address: str) -> DatasetCard | None:
    """Return the card of a data set of the Hugging Face Hub, wherever in it the address points.

    Raises:
        SourceError: the Hub does not answer, or refuses.
    """
    dataset = _DATASET.match(address)
    if not dataset:
        return None
    place = f"{dataset[0]}/{CARD}"
    query = "select content from read_blob($1)"
    try:
        [(content,)] = connection.execute(query, [place]).fetchall()
    except duckdb.HTTPException as error:
        if getattr(error, "status_code", None) == HTTPStatus.NOT_FOUND:
            return None
        raise _unlisted(error, address) from None
    except duckdb.IOException as error:
        raise _unlisted(error, address) from None
    return parse_card(content[:LARGEST_CARD], place)


def _unlisted(error: duckdb.Error, address: str) -> SourceError:
    """Say that a place cannot be listed; the error itself would print the address's secrets."""
    return SourceError(f"cannot list {redact(address)}: {describe_error(error)}")


def _read_one(
    connection: duckdb.DuckDBPyConnection,
    file: str,
    reader: FileReader | None,
    place: Place,
    options: CorpusOptions,
) -> Iterator[Row]:
    if reader is None or not is_url(file):  # without a reader it is rejected, and not fetched
        return read_file(Path(file), reader, place, options)
    if reader is read_parquet:
        return stream_parquet(connection, file, place, options)

    def read(path: Path, place: Place, options: CorpusOptions) -> Iterator[Row]:
        return read_file(path, reader, place, options)

    return read_fetched(connection, file, place, options, read)


def list_remote(remote: RemoteSource) -> list[SourceFile]:
    """Return the files that the address or glob names, as they are now.

    Raises:
        SourceError: the place cannot be reached.
    """
    address = remote.address
    # DuckDB fetches only the selected columns, so no content
    query = (
        "select filename, size, last_modified at time zone 'UTC' as modified_at "
        "from read_blob($1) order by filename"
    )
    with _connect_to(address) as connection:
        try:
            rows = connection.execute(query, [remote.pattern]).fetchall()
        except duckdb.IOException as error:
            if "No files found" in str(error):
                return []
            raise _unlisted(error, address) from None
        card = None if remote.reader else _read_card(connection, address)
        chosen = set(_choose(remote, [row[0] for row in rows], card))
    return [
        SourceFile(_name(file, remote.pattern), size, modified)
        for file, size, modified in rows
        if file in chosen
    ]


def _name(file: str, address: str) -> str:
    """Return the path below the folder before the first wildcard, without secrets.

    The bare name is not enough, since many folders have a part-0.parquet.
    """
    if _DATASET.match(file):
        file, address = _below_dataset(file), _below_dataset(address)
        return file.removeprefix(address.partition("*")[0].rpartition("/")[0]).removeprefix("/")
    folder, shown = redact(address.partition("*")[0]).rpartition("/")[0] + "/", redact(file)
    below = shown.removeprefix(folder)
    return PurePosixPath(shown).name if below == shown else below


@contextmanager
def _connect_to(address: str) -> Iterator[duckdb.DuckDBPyConnection]:
    with connect() as connection:
        if is_url(address) and not address.startswith("file://"):
            _load_httpfs(connection)
        yield connection


def _choose(remote: RemoteSource, files: list[str], card: DatasetCard | None) -> list[str]:
    """Return the files that are read: of a data set those with its data.

    Raises:
        SourceError: there are none.
    """
    if remote.reader:
        return files
    below = {_below_dataset(file): file for file in files}
    chosen = (card or DatasetCard()).choose(below)
    if card and not chosen:
        raise SourceError(card.describe_missing(remote.address))
    return [below[name] for name in chosen]


def _below_dataset(file: str) -> str:
    """Return the path below a data set; DuckDB leaves out the revision @main."""
    return _DATASET.sub("", file, count=1).removeprefix("/")


def _list_files(
    connection: duckdb.DuckDBPyConnection, remote: RemoteSource, card: DatasetCard | None
) -> list[str]:
    """Return the address itself, or what it matches. Over HTTP nothing can be listed."""
    address = remote.pattern
    if address.startswith(("http://", "https://")) or (is_url(address) and "*" not in address):
        return [address]
    try:
        rows = connection.execute("select file from glob($1) order by file", [address]).fetchall()
    except duckdb.IOException as error:
        raise _unlisted(error, remote.address) from None
    if not rows:
        message = f"no file matches {redact(remote.address)}"
        raise SourceError(message)
    return _choose(remote, [str(row[0]) for row in rows], card)


def _load_httpfs(connection: duckdb.DuckDBPyConnection) -> None:
    """Load httpfs from the wheel's own folder: nothing is copied into the home directory."""
    module = find_spec("duckdb_extension_httpfs")
    folders = module.submodule_search_locations if module else None
    version = duckdb.__version__
    for folder in folders or ():
        file = Path(folder, "extensions", f"v{version}", "httpfs.duckdb_extension")
        if file.is_file():
            path = str(file).replace("'", "''")
            connection.execute(f"load '{path}'")
            if authorities := os.environ.get("SSL_CERT_FILE"):
                connection.execute("set ca_cert_file = $1", [authorities])
            return
    raise SourceError(_INSTALL_HTTPFS.format(version=version))
