"""Back up the data directory into one file, and restore it.

A backup holds what cannot be made again for free: the database, the answers in the journal and in
batches, and the staged shards. Caches, the snapshot and the Dagster instance are left out.
"""

import hashlib
import io
import json
import os
import shutil
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from persona_pipeline.errors import StoreError
from persona_pipeline.locks import is_held
from persona_pipeline.store.data_folder import DataFolder
from persona_pipeline.store.database_file import is_database
from persona_pipeline.store.migrations import needs_upgrade
from persona_pipeline.store.store import Store

FORMAT = 1
MANIFEST = "manifest.json"
CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Backup:
    """Path, size and time of an archive. `created_at` is in UTC, in ISO 8601."""

    path: Path
    file_count: int
    byte_count: int
    created_at: str


def back_up(folder: DataFolder, store: Store, path: Path) -> Backup:
    """Write a backup to `path` (.tar, .tar.gz or .tgz). Runs may go on meanwhile.

    The journal is added before the database, and the shards after it. So no row is lost between
    two files: an answer leaves the journal only for the database, and a shard is on disk before
    the database names it.

    Args:
        folder: the data directory.
        store: its database.
        path: the archive to write.

    Raises:
        StoreError: there is nothing to back up, or `path` exists, has another ending or cannot be
            written.
    """
    if not folder.database.is_file():
        msg = f"there is no {folder.database} to back up"
        raise StoreError(msg)
    if path.exists():
        msg = f"{path} is there already: choose another name"
        raise StoreError(msg)
    mode = _mode(path)
    part = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with tarfile.open(part, f"w{mode}") as archive:  # type: ignore[call-overload] # mode is one of two
            hashes = dict(_add_all(archive, folder, store))
            created_at = datetime.now(UTC).isoformat(timespec="seconds")
            manifest = {"format": FORMAT, "created_at": created_at, "sha256": hashes}
            _add_text(archive, MANIFEST, json.dumps(manifest, indent=1))
        part.replace(path)
    except OSError as error:
        msg = f"{path} cannot be written: {error}"
        raise StoreError(msg) from error
    finally:
        part.unlink(missing_ok=True)
    return Backup(path, len(hashes), path.stat().st_size, created_at)


def restore(folder: DataFolder, store: Store, path: Path, *, replace: bool = False) -> Backup:
    """Put the backup's files into the data directory.

    Nothing is changed before the whole archive has been read and its hashes agree.

    Args:
        folder: the data directory.
        store: its database.
        path: the archive to read.
        replace: whether data that is there may be replaced. It is kept in the folder
            `replaced-<time>` of the data directory.

    Raises:
        StoreError: the archive is damaged or no backup, a newer program wrote it, a run is going
            on, or data is there.
    """
    home = folder.data_dir
    names = _names(folder)
    in_the_way = [*names, f"{folder.database.name}.wal", folder.snapshot.name]
    there = [name for name in in_the_way if (home / name).exists()]
    if there and not replace:
        msg = f"{home / there[0]} is there already: use --replace (keeps it aside) or --data-dir"
        raise StoreError(msg)
    home.mkdir(parents=True, exist_ok=True)
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    fresh = home / f"restoring-{stamp}"
    try:
        backup = _extract(path, fresh)
        _refuse_newer(fresh / folder.database.name, path)
        with _nobody_at_work(folder, store):
            _move(home, home / f"replaced-{stamp}", there)
            _move(fresh, home, names)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    store.forget()
    store.migrate()
    store.publish()
    return backup


def _refuse_newer(database: Path, archive: Path) -> None:
    """Check that this program can read the database of the archive.

    Raises:
        StoreError: a newer program wrote it.
    """
    with Store(database, database).connect(read_only=True) as connection:
        needs_upgrade(connection, archive)


@contextmanager
def _nobody_at_work(folder: DataFolder, store: Store) -> Iterator[None]:
    """Check that no run works on a shard, and let no process write the database meanwhile.

    Raises:
        StoreError: a run works on a shard, or another process holds the database.
    """
    for lock in sorted(folder.locks_dir.glob("*")):
        if lock.is_file() and is_held(lock):
            msg = f"a run is going on: {lock} is held. Wait for it, or stop it"
            raise StoreError(msg)
    if not is_database(folder.database):  # there is no whole file to hold
        yield
        return
    with store.connect(read_only=True):
        yield


def _add_all(archive: tarfile.TarFile, data: DataFolder, store: Store) -> Iterator[tuple[str, str]]:
    """Add every file; yield the name and SHA-256 of each."""
    for folder in (data.journal_dir, data.batches_dir):
        yield from _add_folder(archive, folder)
    store.publish()
    yield _add_file(archive, data.snapshot, data.database.name)
    yield from _add_folder(archive, data.staging_dir)


def _add_folder(archive: tarfile.TarFile, folder: Path) -> Iterator[tuple[str, str]]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix != ".tmp":
            try:
                yield _add_file(archive, path, f"{folder.name}/{path.relative_to(folder)}")
            except FileNotFoundError:  # a journal that has just been committed
                continue


def _add_file(archive: tarfile.TarFile, path: Path, name: str) -> tuple[str, str]:
    """Add a file at its present length, since a journal may grow meanwhile."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        digest = _hash(file, size)
        file.seek(0)
        entry = tarfile.TarInfo(name)
        entry.size, entry.mtime = size, int(path.stat().st_mtime)
        archive.addfile(entry, file)
    return name, digest


def _add_text(archive: tarfile.TarFile, name: str, text: str) -> None:
    content = text.encode()
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    archive.addfile(entry, io.BytesIO(content))


def _extract(path: Path, folder: Path) -> Backup:
    try:
        with tarfile.open(path) as archive:
            archive.extractall(folder, filter="data")
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        hashes: dict[str, str] = manifest["sha256"]
        for name, expected in hashes.items():
            with closing((folder / name).open("rb")) as file:
                if _hash(file, (folder / name).stat().st_size) != expected:
                    msg = f"{path} is damaged: {name} is not what was backed up"
                    raise StoreError(msg)
    except (OSError, tarfile.TarError, KeyError, ValueError, EOFError) as error:
        msg = f"{path} is no whole backup: {error}"
        raise StoreError(msg) from error
    if manifest["format"] != FORMAT:
        msg = f"{path} has format {manifest['format']}, this program knows {FORMAT}: upgrade it"
        raise StoreError(msg)
    return Backup(path, len(hashes), path.stat().st_size, manifest["created_at"])


def _hash(file: io.BufferedReader, size: int) -> str:
    digest = hashlib.sha256()
    while size and (chunk := file.read(min(CHUNK, size))):
        digest.update(chunk)
        size -= len(chunk)
    return digest.hexdigest()


def _move(source: Path, target: Path, names: Sequence[str]) -> None:
    for name in names:
        if (source / name).exists():
            target.mkdir(parents=True, exist_ok=True)
            (source / name).replace(target / name)


def _names(folder: DataFolder) -> list[str]:
    """Return the names that a backup is made of. The database is last: it names the others."""
    folders = (folder.staging_dir, folder.journal_dir, folder.batches_dir)
    return [*(folder.name for folder in folders), folder.database.name]


def _mode(path: Path) -> str:
    for ending, mode in ((".tar", ""), (".tar.gz", ":gz"), (".tgz", ":gz")):
        if path.name.endswith(ending):
            return mode
    msg = f"{path} must end in .tar, .tar.gz or .tgz"
    raise StoreError(msg)
