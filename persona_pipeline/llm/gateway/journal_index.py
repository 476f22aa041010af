"""Index the answers in journal files by key. An answer is read when it is wanted."""

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from persona_pipeline.llm.calls import Answer, answer_from_line

READ_SIZE = 1 << 20
"""Bytes read at once while a file is indexed."""
SETTLED_AFTER = 1_000_000_000
"""Nanoseconds after a change from which on the folder's modification time will show the next
change. The clock of file systems ticks every 1 to 10 ms, so two changes in one tick look like
one."""


@dataclass(slots=True)
class _Tail:
    """Index one file as far as it was read: half of each bought key, and the offset of its line."""

    file: int
    read_to: int = 0
    starts: dict[int, int] = field(default_factory=dict)
    unreadable: int = 0

    def read_on(self) -> None:
        size = os.fstat(self.file).st_size
        if size < self.read_to:  # its owner committed and emptied it
            self.starts.clear()
            self.read_to = 0
        while self.read_to < size and self._read_block():
            pass

    def _read_block(self) -> bool:
        """Index the complete lines of one block. Return False if only a torn line is left."""
        length = READ_SIZE
        block = os.pread(self.file, length, self.read_to)
        while len(block) == length and b"\n" not in block:  # a line longer than a block
            length *= 2
            block = os.pread(self.file, length, self.read_to)
        end = block.rfind(b"\n") + 1
        for line in block[:end].splitlines(keepends=True):
            self._index(line)
            self.read_to += len(line)
        return end > 0

    def _index(self, line: bytes) -> None:
        answer = answer_from_line(line)
        if answer is None:
            self.unreadable += 1
        elif answer.is_bought:
            self.starts[_half(answer.call_key)] = self.read_to

    def note(self, answer: Answer, size: int) -> None:
        """Index a line of `size` bytes that the owner of the file has just written."""
        if answer.is_bought:
            self.starts[_half(answer.call_key)] = self.read_to
        self.read_to += size

    def find(self, key: str) -> Answer | None:
        start = self.starts.get(_half(key))
        answer = None if start is None else answer_from_line(self._line_at(start))
        return answer if answer and answer.call_key == key else None

    def _line_at(self, start: int) -> bytes:
        length = 1 << 13
        while True:
            line = os.pread(self.file, length, start)
            end = line.find(b"\n") + 1
            if end or len(line) < length:
                return line[:end]
            length *= 4


class JournalIndex:
    """Index all `*.jsonl` files of a folder, including those that other processes are writing.

    It takes about 170 bytes per bought answer. Only appended lines are read.
    """

    def __init__(self, folder: Path) -> None:
        """Index the journals in `folder`."""
        self._folder = folder
        self._tails: dict[str, _Tail] = {}
        self._seen_at = -1

    def refresh(self) -> None:
        """Index appended lines, and new and vanished files.

        This takes 4 us when nothing has changed.
        """
        changed_at = os.stat(self._folder).st_mtime_ns  # noqa: PTH116 - Path.stat takes twice as long
        if changed_at != self._seen_at:
            self._list_files()
            is_settled = time.time_ns() - changed_at > SETTLED_AFTER
            self._seen_at = changed_at if is_settled else -1
        for tail in self._tails.values():
            tail.read_on()

    def note(self, name: str, answer: Answer, size: int) -> None:
        """Index a line that was just written to the file, without reading it."""
        if name not in self._tails:
            self._list_files()
        self._tails[name].note(answer, size)

    def find(self, key: str) -> Answer | None:
        """Return the bought answer with this key, if a journal holds it: the last usable one."""
        last = None
        for tail in self._tails.values():
            if answer := tail.find(key):
                last = answer
                if answer.status == "ok":
                    break
        return last

    def find_all(self, keys: Iterable[str]) -> dict[str, Answer]:
        """Return the bought answers with these keys that journals hold."""
        return {key: answer for key in keys if (answer := self.find(key))}

    def unreadable_lines(self, path: Path) -> int:
        """Return how many complete lines of a file are not journal lines."""
        tail = self._tails.get(path.name)
        return tail.unreadable if tail else 0

    def close(self) -> None:
        """Close the files."""
        for tail in self._tails.values():
            os.close(tail.file)
        self._tails.clear()

    def _list_files(self) -> None:
        listed = os.listdir(self._folder)  # noqa: PTH208 - a glob takes ten times as long
        names = {name for name in listed if name.endswith(".jsonl")}
        for gone in self._tails.keys() - names:
            os.close(self._tails.pop(gone).file)
        for name in names - self._tails.keys():
            try:
                self._tails[name] = _Tail(os.open(self._folder / name, os.O_RDONLY))
            except FileNotFoundError:  # its owner committed and deleted it meanwhile
                continue


def _half(key: str) -> int:
    """Return the first 64 bits of a key.

    The key in the line is compared before the line is used.
    """
    return int(key[:16], 16)
