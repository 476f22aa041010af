"""What of one model's batches is on disk: the answers that came, and what is still awaited."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from persona_pipeline.llm.batches.records import BatchRecord, find_records
from persona_pipeline.llm.errors import CallError
from persona_pipeline.llm.requests import ChatReply


@dataclass(slots=True)
class PendingBatches:
    """The records of one model at one address, read as they come.

    `read`: the reply on a line of the results; raises a CallError when there is none. `found`:
    answers by custom id that nobody has taken yet. `pending`: by custom id, the record it is in.
    """

    folder: Path
    model: str
    address: str
    read: Callable[[dict[str, Any]], ChatReply]
    replies: dict[str, ChatReply] = field(default_factory=dict)
    pending: dict[str, BatchRecord] = field(default_factory=dict)
    _known: dict[Path, BatchRecord] = field(default_factory=dict)

    def refresh(self) -> None:
        """Learn of the records that came since; their answers are read when one is asked for."""
        for record in find_records(self.folder, self._known):
            self.add(record)

    def add(self, record: BatchRecord) -> None:
        """One more record; those of other models and addresses are none of ours."""
        self._known[record.path] = record
        submission = record.submission
        if (submission.model, submission.address) == (self.model, self.address):
            self.pending |= dict.fromkeys(submission.requests, record)

    def ingest(self, record: BatchRecord) -> dict[str, CallError]:
        """Keep the answers of a batch that is over; returns its errors, by custom id."""
        self.forget(record)
        errors = {}
        for custom_id, line in record.read_results().items():
            try:
                self.replies[custom_id] = self.read(line)
            except CallError as error:
                errors[custom_id] = error
        return errors

    def forget(self, record: BatchRecord) -> None:
        """Nothing more will come of it."""
        for custom_id in record.submission.requests:
            if self.pending.get(custom_id) is record:
                del self.pending[custom_id]

    def release(self) -> None:
        """Let others work on the records."""
        for record in self._known.values():
            record.release()
