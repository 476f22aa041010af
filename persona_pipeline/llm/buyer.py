"""Buys answers: each call key once, every answer journaled the moment it arrives."""

import asyncio
import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from persona_pipeline.llm.answers import check_reply
from persona_pipeline.llm.calls import Call, Spent, make_call
from persona_pipeline.llm.client import ChatClient
from persona_pipeline.llm.errors import CallError, CallErrorKind, ModelError
from persona_pipeline.llm.journal import Journal
from persona_pipeline.llm.requests import ChatReply, ChatRequest
from persona_pipeline.progress import Tracker, stage_progress

Lookup = Callable[[list[str]], Mapping[str, Call]]
"""The calls in the database with these keys."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a request is asked for again."""

    transient_attempts: int = 5
    invalid_attempts: int = 2
    first_delay: float = 0.5
    longest_delay: float = 30.0
    rate_limit_seconds: float = 900.0
    """Refusals for pace do not use up attempts, but not for ever."""
    dead_after: int = 20
    """Failures in a row, with no answer between them, after which the model counts as down; the
    calls in flight come on top, because one break of the connection fails all of them."""


@dataclass
class Buyer:
    """Answers requests from what was bought before, and buys the rest."""

    client: ChatClient
    journal: Journal
    lookup: Lookup
    patience: Patience = field(default_factory=Patience)

    def answers(
        self, requests: Iterable[ChatRequest], *, shard: str, stage: str
    ) -> dict[str, Call]:
        """One call per distinct call key; those not in the store are bought now.

        Raises:
            ModelError: the model cannot be used at all (bad key, no such model, no answers).
        """
        wanted = {request.call_key: request for request in requests}
        known = (*self.journal.read().values(), *self.lookup(list(wanted)).values())
        answers = {call.call_key: call for call in known if call.is_answer}
        found = {key: answers[key] for key in wanted if key in answers}
        missing = [request for key, request in wanted.items() if key not in found]
        with stage_progress(stage, len(missing)) as tracker:
            bought = asyncio.run(self._buy(missing, shard, tracker)) if missing else {}
        return found | bought

    async def _buy(
        self, requests: list[ChatRequest], shard: str, tracker: Tracker
    ) -> dict[str, Call]:
        queue = iter(requests)
        in_flight = min(self.client.max_concurrency, len(requests))
        purchase = _Purchase(self, shard, tracker, in_flight)
        workers = [asyncio.create_task(purchase.work(queue)) for _ in range(in_flight)]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
            await self.client.close()
        return purchase.calls


@dataclass
class _Purchase:
    """The requests of one stage, bought side by side."""

    buyer: Buyer
    shard: str
    tracker: Tracker
    in_flight: int
    calls: dict[str, Call] = field(default_factory=dict)
    failures_in_a_row: int = 0

    async def work(self, queue: Iterator[ChatRequest]) -> None:
        for request in queue:
            call = await self._ask_until_over(request)
            self.buyer.journal.append(call)
            self.calls[call.call_key] = call
            tokens = call.tokens_in + call.tokens_out
            self.tracker.step(tokens=tokens, failed=call.status != "ok")

    async def _ask_until_over(self, request: ChatRequest) -> Call:
        spent, counts = Spent(), dict.fromkeys(CallErrorKind, 0)
        deadline = time.monotonic() + self.buyer.patience.rate_limit_seconds
        while True:
            reply: ChatReply | None = None
            try:
                reply = await self._ask(request, spent)
                check_reply(request, reply)
            except CallError as error:
                counts[error.kind] += 1
                if self._is_over(error, counts, deadline):
                    return self._ended(request, spent, reply, error)
                await asyncio.sleep(self._delay(error, counts[error.kind]))
            else:
                return make_call(request, self.shard, spent, status="ok", reply=reply, error=None)

    async def _ask(self, request: ChatRequest, spent: Spent) -> ChatReply:
        started = time.monotonic()
        attempt = spent.attempts
        spent.attempts += 1
        try:
            reply = await self.buyer.client.complete(request, attempt=attempt)
        except CallError as error:
            if error.kind is CallErrorKind.RATE:
                spent.attempts -= 1
            self._count_failure(request, error)
            raise
        self.failures_in_a_row = 0
        spent.add(reply, time.monotonic() - started)
        return reply

    def _count_failure(self, request: ChatRequest, error: CallError) -> None:
        if error.kind is CallErrorKind.FATAL:
            msg = (
                f"model {request.model} cannot be used: {error}. Check --model, --api-base and "
                "the API key, then 'persona-pipeline doctor'. What was bought is kept."
            )
            raise ModelError(msg) from error
        self.failures_in_a_row += error.kind is not CallErrorKind.RATE
        if self.failures_in_a_row >= self.buyer.patience.dead_after + self.in_flight:
            msg = (
                f"model {request.model} gave no answer to {self.failures_in_a_row} requests in a "
                f"row; the last error was: {error}. Run again when it answers; what was bought is "
                "kept."
            )
            raise ModelError(msg) from error

    def _is_over(
        self, error: CallError, counts: Mapping[CallErrorKind, int], deadline: float
    ) -> bool:
        patience = self.buyer.patience
        match error.kind:
            case CallErrorKind.RATE:
                return time.monotonic() + (error.retry_after or 0.0) > deadline
            case CallErrorKind.TRANSIENT:
                return counts[error.kind] >= patience.transient_attempts
            case CallErrorKind.INVALID:
                return counts[error.kind] >= patience.invalid_attempts
            case _:
                return True

    def _ended(
        self, request: ChatRequest, spent: Spent, reply: ChatReply | None, error: CallError
    ) -> Call:
        status = "invalid" if error.kind is CallErrorKind.INVALID else "failed"
        return make_call(request, self.shard, spent, status=status, reply=reply, error=str(error))

    def _delay(self, error: CallError, count: int) -> float:
        if error.kind is CallErrorKind.INVALID:
            return 0.0
        patience = self.buyer.patience
        backoff = min(patience.first_delay * 2.0 ** min(count - 1, 30), patience.longest_delay)
        jitter = random.uniform(0.5, 1.0)  # noqa: S311 - not secret
        return max(error.retry_after or 0.0, backoff * jitter)
