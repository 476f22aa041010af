"""Track one model's batches on disk: the answers that arrived, and the records still pending."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from persona_pipeline.llm.batches.records import BatchRecord, find_records
from persona_pipeline.llm.errors import CallError
from persona_pipeline.llm.requests import ChatReply


@dataclass(slots=True)
class PendingBatches:
    """Hold the records of one model at one address, read as they appear.

    `read`: returns the reply on a line of the results, or raises a CallError if there is none.
    `replies`: answers that nobody has taken yet, by custom id. `pending`: the record of each
    pending custom id.
    """

    folder: Path
    model: str
    address: str
    read: Callable[[dict[str, Any]], ChatReply]
    replies: dict[str, ChatReply] = field(default_factory=dict)
    pending: dict[str, BatchRecord] = field(default_factory=dict)
    _known: dict[Path, BatchRecord] = field(default_factory=dict)

    def refresh(self) -> None:
        """Add the records that appeared since. Their answers are read when one is asked for."""
        for record in find_records(self.folder, self._known):
            self.add(record)

    def add(self, record: BatchRecord) -> None:
        """Add one record. Those of other models and addresses are ignored."""
        self._known[record.path] = record
        submission = record.submission
        if (submission.model, submission.address) == (self.model, self.address):
            self.pending |= dict.fromkeys(submission.requests, record)

    def ingest(self, record: BatchRecord) -> dict[str, CallError]:
        """Keep the answers of a finished batch, and return its errors by custom id."""
        self.forget(record)
        errors = {}
        for custom_id, line in record.read_results().items():
            try:
                self.replies[custom_id] = self.read(line)
            except CallError as error:
                errors[custom_id] = error
        return errors

    def forget(self, record: BatchRecord) -> None:
        """Expect nothing more of the record."""
        for custom_id in record.submission.requests:
            if self.pending.get(custom_id) is record:
                del self.pending[custom_id]

    def release(self) -> None:
        """Unlock the records, so that others can work on them."""
        for record in self._known.values():
            record.release()
