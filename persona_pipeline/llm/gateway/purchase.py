"""Buy the answers of one stage: each request gets its answer, whatever goes wrong.

A request waits for the lock of its key (no other process is buying it), for its budget and for a
permit of the model's limiter. Then it is sent until it is over. Memory is bounded: requests are
looked up a window at a time, twice as many run as the model takes at once, and only the journal
keeps the calls that are done.
"""

import asyncio
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice

from persona_pipeline.errors import StoreError
from persona_pipeline.llm.calls import Answer
from persona_pipeline.llm.errors import ModelError
from persona_pipeline.llm.gateway.attempts import ModelDown, RequestRunner, Stopping
from persona_pipeline.llm.gateway.context import Receive, StageContext
from persona_pipeline.llm.gateway.endpoint import ModelEndpoint
from persona_pipeline.llm.gateway.first_answers import FirstAnswers
from persona_pipeline.llm.gateway.journal import Journal
from persona_pipeline.llm.loop_thread import in_daemon_thread
from persona_pipeline.llm.progress import Tracker
from persona_pipeline.llm.requests import CUT_OFF, ChatRequest

WINDOW = 1000
"""Requests looked up at once: one query of the store takes 10 ms, for one key or a thousand."""
DEFERRED = 4096
"""Requests that other processes are buying. When there are more, wait for them."""
FIRST_WAIT, LONGEST_WAIT = 0.02, 0.5
"""Seconds between two checks whether another process has bought what we wait for: first and
longest."""
SYNC_EVERY = 1.0
"""Seconds between two fsyncs of the journal: what a power cut (not a kill) can lose."""


@dataclass(slots=True)
class _Window:
    """Hold the keys that were looked up together, and their answers found then or since."""

    keys: list[str]
    version: object = field(default_factory=object)
    answers: dict[str, Answer] = field(default_factory=dict)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class _LockedElsewhere(Exception):  # noqa: N818 - not an error: another process holds the lock
    pass


class Purchase:
    """Buy the requests of one stage concurrently in one event loop."""

    def __init__(
        self,
        context: StageContext,
        endpoint: ModelEndpoint,
        tracker: Tracker,
        receive: Receive,
        count: int = 0,
    ) -> None:
        """Take the stage's context and the endpoint of its own model.

        The endpoint's concurrency bounds the requests under way. `count`: the number of requests,
        if known.
        """
        self._count = count
        self._context, self._endpoint = context, endpoint
        self._tracker, self._receive = tracker, receive
        self._runner = RequestRunner(context)
        self._first_answers = FirstAnswers(endpoint.model, context.stage)
        self.stage_usage = self._runner.stage_usage
        self._under_way: dict[str, asyncio.Task[None]] = {}
        self._deferred: dict[str, tuple[ChatRequest, _Window]] = {}
        self._slots = asyncio.Semaphore(2 * endpoint.client.max_concurrency)
        self._stopping = asyncio.Event()
        self._problem: BaseException | None = None
        self._down: set[str] = set()
        self._is_interrupted = False

    async def run(self, requests: Iterable[ChatRequest]) -> None:
        """Buy the missing answers. `receive` gets the answer of every distinct request.

        Raises:
            ModelError, BudgetExceeded: the answers bought until then are in the journal. So are the
                failed calls of a model that has answered none; they are no answers.
        """
        feeding = asyncio.create_task(self._feed(requests))
        background = [
            asyncio.create_task(self._sync_journal()),
            asyncio.create_task(self._stopping.wait()),
        ]
        await asyncio.wait({feeding, background[-1]}, return_when=asyncio.FIRST_COMPLETED)
        for task in (feeding, *background):
            task.cancel()
        [fed, *_] = await asyncio.gather(feeding, *background, return_exceptions=True)
        await self._drain()
        self._context.journal.sync()
        await self._runner.close()
        if self._problem:
            raise self._problem
        if isinstance(fed, Exception):
            raise fed
        if silence := self._runner.silence:
            msg = (
                f"model {self._endpoint.model} has answered no request of stage "
                f"{self._context.stage}; the last error was: {silence}. Run again when it answers. "
                "What was bought is kept."
            )
            raise ModelError(msg) from silence

    def hold(self) -> None:
        """Send no new request from now on. Any thread may call this."""
        self._runner.is_stopping = True

    def stop(self) -> None:
        """Send no new request, and end once the calls in flight are back or out of time."""
        self._is_interrupted = True
        self._end()

    def _end(self, problem: BaseException | None = None) -> None:
        self._problem = self._problem or problem
        self.hold()
        self._stopping.set()

    async def _feed(self, requests: Iterable[ChatRequest]) -> None:
        remaining, looked_up, to_buy = iter(requests), 0, 0
        while listed := list(islice(remaining, WINDOW)):
            window, missing = await self._look_up(listed)
            looked_up, to_buy = looked_up + len(listed), to_buy + len(missing)
            self._tracker.expect(to_buy + max(0, self._count - looked_up))
            if missing and to_buy == len(missing):
                # outside the loop, so that an interrupt reaches it
                await in_daemon_thread(lambda endpoint: endpoint.prepare(), self._endpoint)
            for request in missing:
                await self._start(request, window)
            if len(self._deferred) > DEFERRED:
                await self._finish_deferred()
        await self._finish_deferred()

    async def _look_up(self, requests: list[ChatRequest]) -> tuple[_Window, list[ChatRequest]]:
        """Receive the answers that are known, and return the requests that must be bought."""
        distinct = {request.call_key: list(self._options(request)) for request in requests}
        window = _Window([option.call_key for listed in distinct.values() for option in listed])
        await self._refresh(window)
        missing = []
        for key, options in distinct.items():
            answers = [window.answers.get(option.call_key) for option in options]
            if answer := _chosen(answers):
                self._first_answers.note(answer, is_new=False)
                self.stage_usage.reused += 1
                self._receive(key, answer)
            elif key not in self._under_way and key not in self._deferred:
                missing.append(options[0])
        return window, missing

    async def _refresh(self, window: _Window) -> None:
        """Read the journals first: an answer is in the store before it leaves them."""
        index, bought = self._context.journal.index, self._context.store
        index.refresh()
        window.answers |= self._lasting(index.find_all(window.keys))
        version = bought.version()
        if version != window.version:
            unknown = [key for key in window.keys if key not in window.answers]
            stored = await in_daemon_thread(bought.answers, unknown) if unknown else {}
            window.answers |= self._lasting(stored)
            window.version = version

    def _lasting(self, answers: dict[str, Answer]) -> dict[str, Answer]:
        """Return the answers without those that failed for less room than there is now."""
        return {key: answer for key, answer in answers.items() if not self._is_outgrown(answer)}

    def _is_outgrown(self, answer: Answer) -> bool:
        if answer.status != "invalid" or not CUT_OFF.search(answer.finish_reason or ""):
            return False
        return self._context.endpoints(answer.model).thinking.outgrows(answer)

    def _options(self, request: ChatRequest) -> Iterator[ChatRequest]:
        """Yield the request to each model in turn."""
        yield request
        for model in self._context.fallbacks:
            if model != request.model:
                yield self._context.options.apply(request, model)

    async def _start(self, request: ChatRequest, window: _Window) -> None:
        await self._slots.acquire()
        key = request.call_key
        task = asyncio.create_task(self._answer(request, window))
        self._under_way[key] = task
        task.add_done_callback(lambda ended: self._finish(key, ended))

    def _finish(self, key: str, task: asyncio.Task[None]) -> None:
        del self._under_way[key]
        self._slots.release()
        problem = None if task.cancelled() else task.exception()
        if problem and not isinstance(problem, Stopping):
            self._end(problem)

    async def _finish_deferred(self) -> None:
        """Wait for what other processes are buying, and buy what they release without an answer."""
        wait = FIRST_WAIT
        while self._under_way or self._deferred:
            if self._under_way:
                await asyncio.wait(self._under_way.values())
                continue
            await asyncio.sleep(wait)
            wait = min(2 * wait, LONGEST_WAIT)
            deferred, self._deferred = self._deferred, {}
            for request, window in deferred.values():
                await self._start(request, window)

    async def _drain(self) -> None:
        """Wait for the calls in flight, which are paid for. End everything else at once."""
        self.hold()
        limit = self._context.retry_policy.drain_seconds if self._is_interrupted else None
        tasks = set(self._under_way.values())
        sent = tasks & self._runner.sending
        for task in tasks - sent:
            task.cancel()
        if sent:
            await asyncio.wait(sent, timeout=limit)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _answer(self, request: ChatRequest, window: _Window) -> None:
        """Answer one row by its own model, else by the first fallback with a usable answer."""
        try:
            answer = await self._first_usable(request, window)
        except _LockedElsewhere:
            self._deferred[request.call_key] = (request, window)
        else:
            self._receive(request.call_key, answer)
            self._tracker.step(failed=answer.status != "ok")
            self._first_answers.note(answer, is_new=True)

    async def _first_usable(self, request: ChatRequest, window: _Window) -> Answer:
        answers: list[Answer] = []
        *others, last = self._options(request)
        for option in (*others, last):
            if option.model in self._down and (answers or option is not last):
                continue
            try:
                answers.append(await self._find_or_buy(option, window))
            except ModelDown:
                self._down.add(option.model)
                if option is last and not answers:
                    raise
            else:
                if answers[-1].status == "ok":
                    return answers[-1]
        return answers[0]

    async def _find_or_buy(self, request: ChatRequest, window: _Window) -> Answer:
        """Return the answer that we buy, or that another process has bought since the lookup."""
        key_locks, key = self._context.journal.key_locks, request.call_key
        if answer := window.answers.get(key):
            self.stage_usage.reused += 1
            return answer
        if not key_locks.acquire(key):
            raise _LockedElsewhere
        try:
            if answer := await self._check_again(key, window):
                self.stage_usage.reused += 1
                return answer
            call = await self._runner.buy(request)
        finally:
            key_locks.release(key)
        self._tracker.load(self._endpoint.limiter.in_flight, self._endpoint.limiter.refused_share)
        self._tracker.spend(call.tokens_in + call.tokens_out, call.cost_usd)
        return call

    async def _check_again(self, key: str, window: _Window) -> Answer | None:
        index = self._context.journal.index
        index.refresh()
        if (answer := index.find(key)) and not self._is_outgrown(answer):
            return answer
        if self._context.store.version() != window.version:
            async with window.lock:
                await self._refresh(window)
        return window.answers.get(key)

    async def _sync_journal(self) -> None:
        while True:
            await asyncio.sleep(SYNC_EVERY)
            try:
                await in_daemon_thread(Journal.sync, self._context.journal)
            except StoreError as error:
                self._end(error)


def _chosen(answers: list[Answer | None]) -> Answer | None:
    """Return the first usable answer, else the first model's once every model's was bought."""
    usable = next((answer for answer in answers if answer and answer.status == "ok"), None)
    return usable or (answers[0] if all(answers) else None)
