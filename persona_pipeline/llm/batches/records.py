"""Batches on disk: what is being bought, written before it is sent, so that it is bought once.

One file per submission, `<id>.batch.jsonl`: the submission, then, as soon as the provider names it,
the batch. When the batch is over, its answers are downloaded to `<id>.results.jsonl`. Both stay
until the answers are in the database. No prompts and no secrets.
"""

import fcntl
import json
import logging
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from persona_pipeline.llm.gateway.context import AnswerStore

LOG = logging.getLogger(__name__)
RECORD, RESULTS = ".batch.jsonl", ".results.jsonl"
LONGEST_KEPT = 60 * 86_400.0
"""Seconds after which nobody will ask for the answers any more; providers keep them for 30 days."""
ANSWERED = 200


@dataclass(frozen=True, slots=True)
class Submission:
    """What is sent as one batch.

    `requests`: by custom id, the key under which the answer will be in the database.
    """

    submission: str
    model: str
    address: str
    shard: str
    created_at: float
    requests: Mapping[str, str]


class BatchRecord:
    """One submission's file. Who works on it holds its lock, which the kernel frees if he dies."""

    def __init__(self, path: Path, submission: Submission, batch_id: str | None = None) -> None:
        """As it stands in the file at `path`."""
        self.path, self.submission, self.batch_id = path, submission, batch_id
        self._file: int | None = None

    @property
    def results(self) -> Path:
        """Where the answers are, once there are any."""
        return self.path.with_name(f"{self.submission.submission}{RESULTS}")

    @property
    def _unfinished(self) -> Path:
        return self.results.with_suffix(".new")

    @property
    def is_finished(self) -> bool:
        """Whether the batch is over and its answers are here."""
        return self.results.is_file()

    def hold(self) -> bool:
        """Lock it; False while another holder works on it.

        Raises:
            FileNotFoundError: it was dropped.
        """
        if self._file is None:
            file = os.open(self.path, os.O_RDWR | os.O_APPEND)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(file)
                return False
            if not self.path.exists():
                os.close(file)
                raise FileNotFoundError(self.path)
            self._file = file
            self.batch_id = self.batch_id or _read(self.path).batch_id
        return True

    def release(self) -> None:
        """Let others work on it."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def note_batch(self, batch_id: str) -> None:
        """The provider's name for it, on the disk before anything else is done."""
        if self._file is None:
            msg = "a record is held by who writes to it"
            raise RuntimeError(msg)
        self.batch_id = batch_id
        os.write(self._file, b"\n" + _line({"batch_id": batch_id}))  # after a line cut off, too
        os.fsync(self._file)

    def save_results(self, lines: bytes) -> None:
        """All that came of it, at once or not at all."""
        _write(self._unfinished, lines)
        self._unfinished.rename(self.results)
        _sync_folder(self.path.parent)

    def read_results(self) -> dict[str, dict[str, Any]]:
        """The provider's line for each custom id, answer or error."""
        with self.results.open("rb") as file:
            lines = [line for text in file if (line := _parsed(text))]
        return {line["custom_id"]: line for line in lines if "custom_id" in line}

    def drop(self) -> None:
        """Forget it: it was never bought, or all of it is in the database."""
        self.path.unlink(missing_ok=True)
        for results in (self.results, self._unfinished):
            results.unlink(missing_ok=True)
        self.release()


def start_record(folder: Path, submission: Submission) -> BatchRecord:
    """A new record, on the disk and held, before anything is sent."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{submission.submission}{RECORD}"
    unseen = path.with_suffix(".new")
    _write(unseen, _line(asdict(submission)))
    record = BatchRecord(unseen, submission)
    record.hold()  # before it can be seen: without its lock it would be a dead process's
    record.path = unseen.rename(path)
    _sync_folder(folder)
    return record


def find_records(folder: Path, known: Mapping[Path, object] | None = None) -> Iterator[BatchRecord]:
    """The records in the folder, the oldest first, without the `known`."""
    for path in sorted(folder.glob(f"*{RECORD}")):
        if path not in (known or {}):
            try:
                yield _read(path)
            except FileNotFoundError:
                continue
            except (ValueError, LookupError, TypeError):
                LOG.warning("%s is no record of a batch; it is left alone", path)


def forget_bought(folder: Path, bought: AnswerStore) -> None:
    """Drop the records whose answers are all in the database, and those of very old batches."""
    for record in find_records(folder):
        is_old = time.time() - record.submission.created_at > LONGEST_KEPT
        if not (is_old or record.is_finished):
            continue
        try:
            if record.hold() and (is_old or not _missing(record, bought)):
                record.drop()
        except FileNotFoundError:
            continue
        finally:
            record.release()


def address_of(url: str) -> str:
    """An address without the user and password that may be in it."""
    parts = urlsplit(url)
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.hostname or ''}{port}{parts.path.rstrip('/')}"


def is_answer(line: Mapping[str, Any]) -> bool:
    """Whether the provider answered, and billed, the request of this line."""
    return (line.get("response") or {}).get("status_code") == ANSWERED


def _missing(record: BatchRecord, bought: AnswerStore) -> set[str]:
    """Keys of answers that are not in the database."""
    requests = record.submission.requests
    answered = [name for name, line in record.read_results().items() if is_answer(line)]
    keys = {requests[name] for name in answered if name in requests}
    return keys - bought.answers(sorted(keys)).keys()


def _read(path: Path) -> BatchRecord:
    first, *rest = path.read_bytes().splitlines(keepends=True)
    named = [line["batch_id"] for text in rest if "batch_id" in (line := _parsed(text))]
    return BatchRecord(path, Submission(**json.loads(first)), named[-1] if named else None)


def _parsed(line: bytes) -> dict[str, Any]:
    """The object on a line; an empty one for what is none, such as a line that was cut off."""
    try:
        value = json.loads(line)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _line(value: Mapping[str, object]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"


def _write(path: Path, data: bytes) -> None:
    """A file for our eyes only, on the disk."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """A rename is on the disk when its folder is."""
    file = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
