"""Keep answers on disk from their arrival until they are committed: one file per process."""

import fcntl
import logging
import os
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from persona_pipeline.errors import StoreError
from persona_pipeline.llm.calls import Call
from persona_pipeline.llm.gateway.journal_index import JournalIndex
from persona_pipeline.llm.gateway.key_locks import KeyLocks

CLOSED = -1
"""No file has this number. So a thread that outlives the journal writes to no other file."""
LOCK_FILE = "claims"
"""The name never changes: versions that run at the same time must lock the same file."""
LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Orphan:
    """Hold the file of a dead process, with its lock, until its answers are committed."""

    path: Path
    file: int


class Journal:
    """Write this process's file, index the files of all, and lock the keys being bought.

    A running process holds a lock on its file, so a file that can be locked was left by a dead
    process. Its answers are adopted and committed with ours, and then the file is deleted.
    """

    def __init__(self, folder: Path) -> None:
        """Open this process's own file."""
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._path, self._file = _start_file(folder)
        self._orphans: list[_Orphan] = []
        self._is_dirty = False
        self.index = JournalIndex(folder)
        self.key_locks = KeyLocks(folder / LOCK_FILE)

    def __enter__(self) -> Self:
        """Return the journal itself."""
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        """Close the file, and delete it if it is empty."""
        self._release_orphans()
        if self._path.stat().st_size == 0:
            self._path.unlink()
        os.close(self._file)
        self._file = CLOSED
        self.key_locks.close()
        self.index.close()

    def append(self, call: Call) -> None:
        """Write one line with one system call, so that a later kill -9 cannot lose it.

        Raises:
            StoreError: the disk is full. The part of the line that was written is removed.
        """
        line = rest = call.to_line()
        start = os.fstat(self._file).st_size
        try:
            while rest:
                rest = rest[os.write(self._file, rest) :]
        except OSError as error:
            os.ftruncate(self._file, start)
            msg = f"the answer cannot be written to {self._path}: {error}; free some space"
            raise StoreError(msg) from error
        self.index.note(self._path.name, call, len(line))
        self._is_dirty = True

    def sync(self) -> None:
        """Flush the appended lines to the disk itself. After this, a power cut cannot lose them.

        Raises:
            StoreError: the disk reports an error.
        """
        if self._is_dirty:
            try:
                os.fsync(self._file)
            except OSError as error:
                msg = f"{self._path} cannot be flushed to disk: {error}; check the disk"
                raise StoreError(msg) from error
            self._is_dirty = False

    def to_commit(self) -> list[Path]:
        """Return the files that the next commit must include: ours, and those of dead processes."""
        if not self._orphans:
            self._orphans = self._find_orphans()
        self.index.refresh()
        paths = [*(orphan.path for orphan in self._orphans), self._path]
        return [path for path in paths if path.stat().st_size]

    def committed(self) -> None:
        """Delete the files that `to_commit` returned: their answers are in the database now.

        We continue in another file. A process that has read ours so far would take new lines in the
        same file for the old ones.
        """
        if self._path.stat().st_size:
            path, file = self._path, self._file
            self._path, self._file = _start_file(self._folder)
            path.unlink()
            os.close(file)
        for orphan in self._orphans:
            if count := self.index.unreadable_lines(orphan.path):
                kept = orphan.path.rename(orphan.path.with_suffix(".unreadable"))
                LOG.warning("%s lines are not journal lines: their file is kept as %s", count, kept)
            else:
                orphan.path.unlink(missing_ok=True)
        self._release_orphans()

    def _find_orphans(self) -> list[_Orphan]:
        others = (path for path in sorted(self._folder.glob("*.jsonl")) if path != self._path)
        return [orphan for path in others if (orphan := _adopt(path))]

    def _release_orphans(self) -> None:
        for orphan in self._orphans:
            os.close(orphan.file)
        self._orphans = []


def _start_file(folder: Path) -> tuple[Path, int]:
    """Create a file of our own, locked before it is visible.

    Without its lock it would be an orphan.
    """
    path = folder / f"{os.getpid()}-{time.time_ns()}.jsonl"
    unlocked = path.with_suffix(".new")
    file = os.open(unlocked, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    fcntl.flock(file, fcntl.LOCK_EX)
    unlocked.rename(path)
    return path, file


def _adopt(path: Path) -> _Orphan | None:
    """Lock the file of a dead process and cut off a torn last line.

    Return None if its owner lives, or another process has committed it meanwhile.
    """
    try:
        file = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        return None
    if not _is_file_at(path, file):
        os.close(file)
        return None
    _cut_torn_line(file)
    return _Orphan(path, file)


def _is_file_at(path: Path, file: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(file))
    except FileNotFoundError:
        return False


def _cut_torn_line(file: int) -> None:
    size = end = os.fstat(file).st_size
    while end and os.pread(file, 1, end - 1) != b"\n":
        end -= 1
    if end < size:
        os.ftruncate(file, end)
