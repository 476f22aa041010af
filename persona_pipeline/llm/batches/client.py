"""Gather requests, buy them as one batch, and answer them when the batch is over.

A submission outlives the run. A run that ends while it waits, for whatever reason, leaves a record,
and the next run that asks for the same answers takes them from there.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from persona_pipeline.llm.batches.api import BatchApi, NeverSubmitted, new_submission
from persona_pipeline.llm.batches.pending import PendingBatches
from persona_pipeline.llm.batches.providers import azure_body
from persona_pipeline.llm.batches.records import BatchRecord, start_record
from persona_pipeline.llm.batches.waiting import RunningBatch, Waiter, fail
from persona_pipeline.llm.clients.dialect import Dialects
from persona_pipeline.llm.clients.direct import DirectChatClient
from persona_pipeline.llm.errors import CallError, CallErrorKind
from persona_pipeline.llm.requests import ChatReply, ChatRequest

GATHERING = 1.0
"""Seconds without another request after which a batch is sent."""
MOST_BYTES = 150_000_000
"""The most bytes of one batch's requests. OpenAI accepts files of 200 MB."""


@dataclass(frozen=True, slots=True)
class Batching:
    """Set how batches are gathered and waited for.

    `shard`: returns the shard whose requests these are, called when a batch is submitted.
    """

    folder: Path
    size: int = 5000
    poll_seconds: float = 30.0
    shard: Callable[[], str] = str
    gathering: float = GATHERING


class BatchChatClient:
    """Buy one model's chat requests in batches."""

    def __init__(
        self,
        model: str,
        batching: Batching,
        *,
        api_base: str | None = None,
        api_key: str | None = None,
        dialects: Dialects | None = None,
    ) -> None:
        """Take the arguments of a chat client, for one model: a batch cannot ask two."""
        self.max_concurrency = batching.size
        self._model, self._batching = model, batching
        self._api_base, self._api_key = api_base, (api_key or "").strip() or None
        self._direct = DirectChatClient(api_base=api_base, api_key=api_key, dialects=dialects)
        self._rounds: dict[asyncio.AbstractEventLoop, _Round] = {}

    async def complete(self, request: ChatRequest, *, attempt: int = 0) -> ChatReply:
        """Return the answer hours later, or from a batch that an earlier process submitted."""
        awaited = self._round()
        is_azure = self._model.startswith("azure/")
        body = azure_body(request) if is_azure else self._direct.body_of(request)
        if body is None:
            msg = f"{self._model} takes these requests in another form than a batch's"
            raise CallError(CallErrorKind.FATAL, msg)
        return await awaited.ask(request, body, is_first=attempt == 0)

    async def close(self) -> None:
        """Stop waiting in this event loop. The submissions stay."""
        ended = self._rounds.pop(asyncio.get_running_loop(), None)
        if ended is not None:
            await ended.close()

    def _round(self) -> "_Round":
        loop = asyncio.get_running_loop()
        if loop not in self._rounds:
            for gone in [known for known in list(self._rounds) if known.is_closed()]:
                self._rounds.pop(gone).pending.release()
            api = BatchApi(self._model, api_base=self._api_base, api_key=self._api_key)
            pending = PendingBatches(self._batching.folder, api.model, api.address, api.read_result)
            self._rounds[loop] = _Round(api, self._batching, pending)
        return self._rounds[loop]


@dataclass(slots=True)
class _Round:
    """Gather and follow the batches of one event loop."""

    api: BatchApi
    batching: Batching
    pending: PendingBatches
    _gathered: list[Waiter] = field(default_factory=list)
    _bytes: int = 0
    _last_asked: float = 0.0
    _answered: Counter[str] = field(default_factory=Counter)
    _batches: dict[Path, RunningBatch] = field(default_factory=dict)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def ask(self, request: ChatRequest, body: bytes, *, is_first: bool) -> ChatReply:
        """Gather the request, and return its answer when it arrives.

        The custom id names one purchase: the key, and how many unusable answers came before. A
        later process counts in the same way, and so finds each of them.
        """
        key = request.call_key
        if is_first:
            self._answered[key] = 0
        count = self._answered[key]
        custom_id = f"{key}-{count}" if count else key
        reply: asyncio.Future[ChatReply] = asyncio.get_running_loop().create_future()
        line = self.api.route.line(custom_id, body)
        self._gather(Waiter(custom_id, request.origin or key, line, reply))
        answer = await reply
        self._answered[key] += 1
        return answer

    async def close(self) -> None:
        """Stop waiting."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.pending.release()

    def _gather(self, waiter: Waiter) -> None:
        self._last_asked = time.monotonic()
        if self._gathered and self._bytes + len(waiter.line) > MOST_BYTES:
            self._send_gathered()
        self._gathered.append(waiter)
        self._bytes += len(waiter.line)
        if len(self._gathered) >= self.batching.size:
            self._send_gathered()
        elif len(self._gathered) == 1:
            self._start(self._send_when_quiet(self._gathered), self._gathered)

    async def _send_when_quiet(self, gathered: list[Waiter]) -> None:
        while gathered is self._gathered:
            quiet = time.monotonic() - self._last_asked
            if quiet >= self.batching.gathering:
                self._send_gathered()
            else:
                await asyncio.sleep(self.batching.gathering - quiet)

    def _send_gathered(self) -> None:
        gathered, self._gathered, self._bytes = self._gathered, [], 0
        self._start(self._distribute(gathered), gathered)

    async def _distribute(self, gathered: list[Waiter]) -> None:
        """Answer what was bought before, join the running batches, and submit the rest.

        Only the holder of a request's key lock submits it, so no record of it appears after this
        check.
        """
        self.pending.refresh()
        new = []
        for waiter in gathered:
            if waiter.reply.done():  # its task was cancelled
                continue
            if waiter.custom_id in self.pending.replies:
                waiter.reply.set_result(self.pending.replies.pop(waiter.custom_id))
            elif record := self.pending.pending.get(waiter.custom_id):
                self._join(record, waiter)
            else:
                new.append(waiter)
        if new:
            self._submit(new)

    def _join(self, record: BatchRecord, waiter: Waiter) -> None:
        batch = self._batches.get(record.path)
        if batch is None:
            batch = self._under_way(record, [])
            self._start(self._follow(batch), batch.waiting)
        batch.waiting.append(waiter)

    def _submit(self, new: list[Waiter]) -> None:
        requests = {waiter.custom_id: waiter.key for waiter in new}
        lines = {waiter.custom_id: waiter.line for waiter in new}
        api, shard = self.api, self.batching.shard()
        submission = new_submission(api.model, api.address, shard, requests)
        record = start_record(self.batching.folder, submission)
        self.pending.add(record)
        batch = self._under_way(record, new)
        self._start(self._follow(batch, b"".join(lines.values())), new)

    def _under_way(self, record: BatchRecord, waiting: list[Waiter]) -> RunningBatch:
        batch = RunningBatch(self.api, record, self.batching.poll_seconds, waiting)
        self._batches[record.path] = batch
        return batch

    async def _follow(self, batch: RunningBatch, lines: bytes = b"") -> None:
        """Follow a batch from its record to its answers."""
        record, is_old = batch.record, batch.record.is_finished
        try:
            if lines:
                await batch.send(lines)
            await batch.wait()
            errors = self.pending.ingest(record)
            left = batch.hand_out(self.pending.replies, {} if is_old else errors)
            if is_old:
                self._gather_again(left)
            else:
                words = f"batch {record.batch_id} ended without an answer"
                fail(left, CallError(CallErrorKind.TRANSIENT, words))
        except (NeverSubmitted, FileNotFoundError):
            self.pending.forget(record)
            self._gather_again(batch.waiting)
        except CallError as error:
            if not record.path.exists():
                self.pending.forget(record)
            fail(batch.waiting, error)
        finally:
            del self._batches[record.path]

    def _gather_again(self, waiting: Sequence[Waiter]) -> None:
        for waiter in waiting:
            self._gather(waiter)

    def _start(self, work: Coroutine[object, object, None], waiting: Sequence[Waiter]) -> None:
        """Start the work. Its error, if any, reaches everyone who waits."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(lambda ended: self._end(ended, waiting))

    def _end(self, task: asyncio.Task[None], waiting: Sequence[Waiter]) -> None:
        self._tasks.discard(task)
        problem = None if task.cancelled() else task.exception()
        if problem is not None:
            fail(waiting, problem)
