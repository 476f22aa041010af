"""Answers on disk the moment they arrive, until they are committed: one file per process."""

import fcntl
import os
import time
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

from persona_pipeline.llm.calls import Call, call_from_line


class Journal:
    """This process's file, and those that other processes left behind.

    A running process holds a lock on its file, so a file that can be locked was left by one that
    died: its answers are adopted, committed with ours, and then it is deleted.
    """

    def __init__(self, folder: Path) -> None:
        """Open this process's own file."""
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._path = folder / f"{os.getpid()}-{time.time_ns()}.jsonl"
        unlocked = self._path.with_suffix(".new")  # seen without its lock, it would be an orphan
        self._file = os.open(unlocked, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        fcntl.flock(self._file, fcntl.LOCK_EX)
        unlocked.rename(self._path)
        self._orphans: list[Path] = []

    def __enter__(self) -> Self:
        """The journal itself."""
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        """Let go of the file; an empty one is deleted."""
        if self._path.stat().st_size == 0:
            self._path.unlink()
        os.close(self._file)

    def append(self, call: Call) -> None:
        """Write one line with one system call: a kill -9 later cannot lose it."""
        line = call.to_line()
        while line:
            line = line[os.write(self._file, line) :]

    def read(self) -> dict[str, Call]:
        """Every call in every journal file, by call key; of several the answer wins."""
        return _by_key(sorted(self._folder.glob("*.jsonl")))

    def uncommitted(self) -> list[Call]:
        """The calls that the next commit must carry: ours and those of processes that died."""
        self._orphans = [path for path in self._folder.glob("*.jsonl") if self._is_orphan(path)]
        return list(_by_key([*sorted(self._orphans), self._path]).values())

    def committed(self) -> None:
        """Forget what `uncommitted` returned: it is in the database now."""
        os.ftruncate(self._file, 0)
        for path in self._orphans:
            path.unlink(missing_ok=True)
        self._orphans = []

    def _is_orphan(self, path: Path) -> bool:
        if path == self._path:
            return False
        try:
            with path.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, FileNotFoundError):
            return False
        return True


def _by_key(paths: Iterable[Path]) -> dict[str, Call]:
    calls: dict[str, Call] = {}
    for path in paths:
        for call in read_calls(path):
            if call.is_answer or call.call_key not in calls:
                calls[call.call_key] = call
    return calls


def read_calls(path: Path) -> Iterable[Call]:
    """The calls in one journal file; a torn last line is passed over."""
    try:
        with path.open("rb") as file:
            return [call for line in file if (call := call_from_line(line))]
    except FileNotFoundError:  # committed and deleted by its owner meanwhile
        return []
