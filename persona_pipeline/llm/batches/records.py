"""Keep batches on disk: a record is written before anything is sent, so that it is bought once.

Each submission has one file, `<id>.batch.jsonl`: the submission, then the batch's id as soon as the
provider names it. When the batch is over, its answers are downloaded to `<id>.results.jsonl`. Both
files stay until the answers are in the database. They hold no prompts and no secrets.
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

from persona_pipeline.llm.clients.error_bodies import error_in_answer
from persona_pipeline.llm.gateway.context import AnswerStore

LOG = logging.getLogger(__name__)
RECORD, RESULTS = ".batch.jsonl", ".results.jsonl"
LONGEST_KEPT = 60 * 86_400.0
"""Seconds after which nobody will ask for the answers any more. Providers keep them for 30 days."""
ANSWERED = 200


@dataclass(frozen=True, slots=True)
class Submission:
    """Describe what is sent as one batch.

    `requests`: the key that each answer will have in the database, by custom id.
    """

    submission: str
    model: str
    address: str
    shard: str
    created_at: float
    requests: Mapping[str, str]


class BatchRecord:
    """Handle one submission's file.

    Whoever works on it holds its lock. The kernel frees the lock when the process dies.
    """

    def __init__(self, path: Path, submission: Submission, batch_id: str | None = None) -> None:
        """Take the content of the file at `path`."""
        self.path, self.submission, self.batch_id = path, submission, batch_id
        self._file: int | None = None

    @property
    def results(self) -> Path:
        """Path of the answers, once there are any."""
        return self.path.with_name(f"{self.submission.submission}{RESULTS}")

    @property
    def _unfinished(self) -> Path:
        return self.results.with_suffix(".new")

    @property
    def is_finished(self) -> bool:
        """Whether the batch is over and its answers are on disk."""
        return self.results.is_file()

    def hold(self) -> bool:
        """Lock the record. Return False while another holder works on it.

        Raises:
            FileNotFoundError: the record was dropped.
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
        """Unlock the record."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def note_batch(self, batch_id: str) -> None:
        """Write the batch's id to disk before anything else is done."""
        if self._file is None:
            msg = "lock a record with hold() before writing to it"
            raise RuntimeError(msg)
        self.batch_id = batch_id
        os.write(self._file, b"\n" + _line({"batch_id": batch_id}))  # in case the last line is torn
        os.fsync(self._file)

    def save_results(self, lines: bytes) -> None:
        """Write all results at once, or none of them."""
        _write(self._unfinished, lines)
        self._unfinished.rename(self.results)
        _sync_folder(self.path.parent)

    def read_results(self) -> dict[str, dict[str, Any]]:
        """Return the provider's line for each custom id, answer or error."""
        with self.results.open("rb") as file:
            lines = [line for text in file if (line := _parsed(text))]
        return {line["custom_id"]: line for line in lines if "custom_id" in line}

    def drop(self) -> None:
        """Delete the record: it was never bought, or all of its answers are in the database."""
        self.path.unlink(missing_ok=True)
        for results in (self.results, self._unfinished):
            results.unlink(missing_ok=True)
        self.release()


def start_record(folder: Path, submission: Submission) -> BatchRecord:
    """Create a record, on disk and locked, before anything is sent."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{submission.submission}{RECORD}"
    unseen = path.with_suffix(".new")
    _write(unseen, _line(asdict(submission)))
    record = BatchRecord(unseen, submission)
    record.hold()  # before it is visible: without its lock it would look abandoned
    record.path = unseen.rename(path)
    _sync_folder(folder)
    return record


def find_records(folder: Path, known: Mapping[Path, object] | None = None) -> Iterator[BatchRecord]:
    """Yield the records in the folder that are not `known`, oldest first."""
    for path in sorted(folder.glob(f"*{RECORD}")):
        if path not in (known or {}):
            try:
                yield _read(path)
            except FileNotFoundError:
                continue
            except (ValueError, LookupError, TypeError):
                LOG.warning("%s is not the record of a batch; it is ignored", path)


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
    """Return an address without the user and password that it may contain."""
    parts = urlsplit(url)
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.hostname or ''}{port}{parts.path.rstrip('/')}"


def is_answer(line: Mapping[str, Any]) -> bool:
    """Return whether the provider answered, and billed, the request of this line."""
    response = line.get("response") or {}
    is_answered = response.get("status_code") == ANSWERED
    return is_answered and error_in_answer(response.get("body")) is None


def _missing(record: BatchRecord, bought: AnswerStore) -> set[str]:
    """Return the keys of answers that are not in the database."""
    requests = record.submission.requests
    answered = [name for name, line in record.read_results().items() if is_answer(line)]
    keys = {requests[name] for name in answered if name in requests}
    return keys - bought.answers(sorted(keys)).keys()


def _read(path: Path) -> BatchRecord:
    first, *rest = path.read_bytes().splitlines(keepends=True)
    named = [line["batch_id"] for text in rest if "batch_id" in (line := _parsed(text))]
    return BatchRecord(path, Submission(**json.loads(first)), named[-1] if named else None)


def _parsed(line: bytes) -> dict[str, Any]:
    """Return the object on a line, or an empty one if the line holds none (it may be truncated)."""
    try:
        value = json.loads(line)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _line(value: Mapping[str, object]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"


def _write(path: Path, data: bytes) -> None:
    """Write a file that only we may read, and flush it to disk."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """Flush the folder, without which a rename is not on disk."""
    file = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
