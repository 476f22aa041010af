"""Follow one running batch: send it, wait for it, and hand out its answers."""

import asyncio
import logging
import time
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass

from persona_pipeline.llm.batches.api import BatchApi, BatchState, advance
from persona_pipeline.llm.batches.records import BatchRecord
from persona_pipeline.llm.errors import CallError, CallErrorKind
from persona_pipeline.llm.requests import ChatReply

LOG = logging.getLogger(__name__)
UPLOAD_SECONDS = 300.0
"""Seconds for which a server that does not answer is retried, before anything was bought from
it."""
LOG_EVERY = 300.0
"""Seconds between two log lines while waiting."""
PASSING = {CallErrorKind.RATE, CallErrorKind.TRANSIENT}


@dataclass(frozen=True, slots=True)
class Waiter:
    """Wait for one answer. `line`: what is sent for it."""

    custom_id: str
    key: str
    line: bytes
    reply: asyncio.Future[ChatReply]


@dataclass(slots=True)
class RunningBatch:
    """Hold a record and the callers that wait for its answers."""

    api: BatchApi
    record: BatchRecord
    poll_seconds: float
    waiting: list[Waiter]
    _logged_at: float = 0.0
    _is_troubled: bool = False

    def __str__(self) -> str:
        """Return `batch batch_123 of 120 requests`."""
        record = self.record
        count = len(record.submission.requests)
        return f"batch {record.batch_id or record.submission.submission} of {count:,} requests"

    async def send(self, lines: bytes) -> None:
        """Upload, then buy. If the purchase got no answer, `wait` finds out whether it was made.

        Raises:
            CallError: the purchase was not made.
        """
        try:
            file_id = await self._upload(lines)
        except CallError as error:
            self.record.drop()
            raise _for_all(error) from None
        try:
            self.record.note_batch(await self.api.create(file_id, self.record.submission))
        except CallError as error:
            is_lost = error.maybe_billed or self.api.route.can_list
            if error.kind is not CallErrorKind.TRANSIENT or not is_lost:
                self.record.drop()
                raise _for_all(error) from None
            self._log_trouble(error)
        else:
            words = "%s submitted; run again or leave it: the answers are collected once"
            LOG.warning(words, self)
            self._logged_at = time.monotonic()
        await asyncio.sleep(self.poll_seconds)

    async def wait(self) -> None:
        """Wait until the results are on disk, written by us or by another process.

        Raises:
            NeverSubmitted, FileNotFoundError: there is no such batch any more.
            CallError: waiting is of no use.
        """
        while not self.record.is_finished:
            try:
                state = await advance(self.record, self.api) if self.record.hold() else None
            except CallError as error:
                is_there = self.record.path.exists()
                if error.kind not in PASSING or not is_there:
                    raise _for_all(error, self.record if is_there else None) from None
                self._log_trouble(error)
            else:
                self._log_progress(state)
            if not self.record.is_finished:
                await asyncio.sleep(self.poll_seconds)

    def hand_out(
        self, replies: MutableMapping[str, ChatReply], errors: Mapping[str, CallError]
    ) -> list[Waiter]:
        """Give each waiter its reply or error. Return the waiters that got neither."""
        left = []
        for waiter in self.waiting:
            custom_id, reply = waiter.custom_id, waiter.reply
            if reply.done():
                continue
            if custom_id in replies:
                reply.set_result(replies.pop(custom_id))
            elif custom_id in errors:
                reply.set_exception(errors[custom_id])
            else:
                left.append(waiter)
        return left

    async def _upload(self, lines: bytes) -> str:
        started = time.monotonic()
        while True:
            try:
                return await self.api.upload(self.record.submission.submission, lines)
            except CallError as error:
                is_passing = error.kind is CallErrorKind.TRANSIENT
                if not is_passing or time.monotonic() - started > UPLOAD_SECONDS:
                    raise
                self._log_trouble(error)
            await asyncio.sleep(self.poll_seconds)

    def _log_progress(self, state: BatchState | None) -> None:
        self._is_troubled = False
        now = time.monotonic()
        if state and not state.is_over and now - self._logged_at >= LOG_EVERY:
            self._logged_at = now
            LOG.warning("%s is %s, %s of them done", self, state.status, f"{state.done:,}")

    def _log_trouble(self, error: CallError) -> None:
        if not self._is_troubled:
            self._is_troubled = True
            LOG.warning("%s: %s; tried again every %g seconds", self, error, self.poll_seconds)


def fail(waiting: Sequence[Waiter], problem: BaseException) -> None:
    """Raise the problem for all that wait."""
    for waiter in waiting:
        if not waiter.reply.done():
            waiter.reply.set_exception(problem)


def _for_all(error: CallError, record: BatchRecord | None = None) -> CallError:
    """Make the refusal of a whole batch fatal: the provider would refuse every request."""
    if error.kind in PASSING:
        return error
    noted = f" (it was submitted, as {record.path} notes)" if record else ""
    return CallError(CallErrorKind.FATAL, f"{error}{noted}")
