"""One request until it is over: sent, checked, asked again if need be, and journaled."""

import asyncio
import json
import time
from collections import Counter
from dataclasses import asdict
from functools import lru_cache

from persona_pipeline.errors import PipelineError
from persona_pipeline.llm.answers import ask_again, check_reply
from persona_pipeline.llm.calls import LONGEST_ERROR, Call, RequestUsage
from persona_pipeline.llm.errors import CallError, CallErrorKind, ModelError
from persona_pipeline.llm.gateway.budget import NOTHING, Amount, worst_case
from persona_pipeline.llm.gateway.concurrency import Outcome
from persona_pipeline.llm.gateway.context import StageContext, StageUsage
from persona_pipeline.llm.gateway.endpoint import ModelEndpoint
from persona_pipeline.llm.gateway.retry_policy import RetryState
from persona_pipeline.llm.requests import ChatReply, ChatRequest, Sampling

TURNED_DOWN, TURNED_DOWN_AFTER_ANSWERS = 20, 200
"""Requests turned down for good in a row, without an answer between them, after which it is not the
requests: a wrong parameter, or an account that was closed."""
OUTCOMES = {CallErrorKind.RATE: Outcome.REFUSED, CallErrorKind.TRANSIENT: Outcome.TROUBLE}


class ModelDown(ModelError):  # noqa: N818 - a state, of which an error message tells
    """The model does not answer at all; another one may."""


class Stopping(Exception):  # noqa: N818 - not an error
    """No new request is sent any more."""


class RequestRunner:
    """Asks models for one stage; many requests are in its hands at once."""

    def __init__(self, terms: StageContext) -> None:
        """`terms`: those of the stage."""
        self.totals = StageUsage()
        self.sending: set[asyncio.Task[object] | None] = set()
        self.is_stopping = False
        self._terms = terms
        self._used: dict[str, ModelEndpoint] = {}
        self._turned_down: Counter[str] = Counter()

    async def buy(self, request: ChatRequest) -> Call:
        """The call that ends this request, usable or not; it is in the journal.

        Raises:
            ModelError: no request to this model will be answered (now).
            BudgetReached: the request could pass the cap.
            Stopping: the purchase was stopped before an answer came.
        """
        lane = self._lane(request.model)
        spent = RequestUsage(lane.price)
        try:
            return await self._ask(lane, request, spent)
        except (PipelineError, Stopping, asyncio.CancelledError) as end:
            if spent.reply:  # billed and unusable: noted, and asked for again in the next run
                why = str(end) or "stopped before it was asked again"
                self._record(request, spent, CallError(CallErrorKind.TRANSIENT, why))
            raise

    async def _ask(self, lane: ModelEndpoint, request: ChatRequest, spent: RequestUsage) -> Call:
        tries, asked = RetryState(self._terms.patience), request
        unusable: CallError | None = None
        while True:
            try:
                reply = await self._send(lane, asked, spent)
                check_reply(request, reply)
            except CallError as raised:
                error = _of_request(raised, lane)
                self._refuse_hopeless(lane, error)
                self._count(error, lane, spent, tries)
                unusable = error if error.kind is CallErrorKind.INVALID else unusable
                if tries.are_over(error):
                    is_refused = error.kind is CallErrorKind.PERMANENT and unusable
                    return self._record(request, spent, unusable if is_refused else error)
                if self.is_stopping:
                    raise Stopping from error
                if error.kind is CallErrorKind.INVALID and spent.reply:
                    asked = ask_again(request, spent.reply, str(error))
                await asyncio.sleep(tries.delay(error))
            else:
                return self._record(request, spent, None)

    async def close(self) -> None:
        """Let go of the connections of all models that were asked."""
        for lane in self._used.values():
            await lane.client.close()

    def _lane(self, model: str) -> ModelEndpoint:
        if model not in self._used:
            lane = self._terms.lanes(model)
            lane.prepare()
            lane.gate.begin_stage()
            self._used[model] = lane
        return self._used[model]

    async def _send(
        self, lane: ModelEndpoint, request: ChatRequest, spent: RequestUsage
    ) -> ChatReply:
        """Within the budget: what is not known to be free counts as spent."""
        budget, stage = self._terms.budget, request.stage or self._terms.stage
        worst = worst_case(request, lane.price) if budget.is_capped or lane.is_paced else NOTHING
        await budget.reserve(stage, worst)
        actual, task = NOTHING, asyncio.current_task()
        try:
            reply = await self._pass_gate(lane, request, spent, worst)
            actual = _amount(lane, reply) if reply.is_metered else worst
        except CallError as error:
            actual = worst if error.maybe_billed else NOTHING
            raise
        except asyncio.CancelledError:
            actual = worst if task in self.sending else NOTHING
            raise
        finally:
            self.sending.discard(task)
            budget.settle(stage, worst, actual)
        return reply

    async def _pass_gate(
        self, lane: ModelEndpoint, request: ChatRequest, spent: RequestUsage, worst: Amount
    ) -> ChatReply:
        ticket = await lane.gate.enter(worst.tokens)
        outcome, used, wait = Outcome.OTHER, None, None
        self.sending.add(asyncio.current_task())
        started = time.monotonic()
        try:
            if self.is_stopping:
                raise Stopping
            reply = await lane.client.complete(request, attempt=spent.attempts)
            spent.add(reply, time.monotonic() - started)
            self._turned_down[lane.model] = 0
            outcome, used = Outcome.ANSWERED, reply.tokens_in + reply.tokens_out
        except CallError as error:
            by_kind = OUTCOMES.get(error.kind, Outcome.OTHER)
            outcome = Outcome.TIMED_OUT if error.is_timeout else by_kind
            wait = error.retry_after
            raise
        finally:
            lane.gate.leave(ticket, outcome, retry_after=wait, tokens=used)
        return reply

    def _count(
        self, error: CallError, lane: ModelEndpoint, spent: RequestUsage, tries: RetryState
    ) -> None:
        is_outage = error.kind is CallErrorKind.TRANSIENT and lane.gate.is_out
        spent.attempts += error.kind is not CallErrorKind.RATE and not is_outage
        self.totals.refused += error.kind is CallErrorKind.RATE
        tries.count(error, is_outage=is_outage)

    def _refuse_hopeless(self, lane: ModelEndpoint, error: CallError) -> None:
        """Stop the run for what concerns every request to this model."""
        if end := self._end_of(lane, error):
            self.is_stopping |= not isinstance(end, ModelDown)
            raise end from error

    def _end_of(self, lane: ModelEndpoint, error: CallError) -> ModelError | None:
        patience, gate, kept = self._terms.patience, lane.gate, "What was bought is kept."
        silent, wait = gate.out_for, error.retry_after or 0.0
        is_too_long = wait > patience.refused_seconds and not gate.answered
        match error.kind:
            case CallErrorKind.FATAL:
                return ModelError(
                    f"model {lane.model} cannot be used: {error}. Check --model, --api-base and "
                    f"the API key, then 'persona-pipeline doctor'. {kept}"
                )
            case CallErrorKind.PERMANENT if self._is_always_refused(lane):
                return ModelError(
                    f"model {lane.model} turns every request down: {error}. Look at one with "
                    f"'persona-pipeline preview'. {kept}"
                )
            case CallErrorKind.RATE if is_too_long or silent > patience.refused_seconds:
                return ModelDown(
                    f"model {lane.model} refuses every request for its pace, or asks to wait "
                    f"{max(silent, wait):.0f} s: {error}. Run again when its quota is back. {kept}"
                )
            case CallErrorKind.TRANSIENT if silent > self._outage_limit(lane):
                return ModelDown(
                    f"model {lane.model} has given no answer for {silent:.0f} s; the last error "
                    f"was: {error}. Run again when it answers. {kept}"
                )
        return None

    def _is_always_refused(self, lane: ModelEndpoint) -> bool:
        """Count one more request turned down for good since the last answer."""
        self._turned_down[lane.model] += 1
        allowed = TURNED_DOWN_AFTER_ANSWERS if lane.gate.answered else TURNED_DOWN
        return self._turned_down[lane.model] >= allowed

    def _outage_limit(self, lane: ModelEndpoint) -> float:
        patience = self._terms.patience
        is_patient = lane.gate.answered and not self._terms.fallbacks
        return patience.outage_seconds if is_patient else patience.first_answer_seconds

    def _record(self, request: ChatRequest, spent: RequestUsage, error: CallError | None) -> Call:
        reply = spent.reply
        is_invalid = error is not None and error.kind is CallErrorKind.INVALID
        call = Call(
            call_key=request.call_key,
            model=request.model,
            status="ok" if error is None else "invalid" if is_invalid else "failed",
            response=_storable(reply.text) if reply else None,
            error=str(error)[:LONGEST_ERROR] if error else None,
            shard=self._terms.shard,
            stage=request.stage,
            prompt_name=request.prompt_name,
            prompt_version=request.prompt_version,
            params=_params(request.sampling, request.sample),
            request=request.messages_json,
            finish_reason=reply.finish_reason if reply else None,
            tokens_in=spent.tokens_in,
            tokens_cached=spent.tokens_cached,
            tokens_out=spent.tokens_out,
            cost_usd=spent.cost_usd,
            latency_ms=spent.latency_ms,
            attempts=spent.attempts + (error is None),
        )
        self._terms.journal.append(call)
        self.totals.add(call)
        return call


def _of_request(error: CallError, lane: ModelEndpoint) -> CallError:
    """A status that means a wrong key or model at first is one request's own trouble later."""
    if error.kind is CallErrorKind.FATAL and error.is_doubtful and lane.gate.answered:
        return CallError(CallErrorKind.PERMANENT, str(error))
    return error


def _amount(lane: ModelEndpoint, reply: ChatReply) -> Amount:
    price = lane.price
    usd = price.cost(reply.tokens_in, reply.tokens_cached, reply.tokens_out) if price else 0.0
    return Amount(reply.tokens_in + reply.tokens_out, usd)


@lru_cache(maxsize=256)
def _params(sampling: Sampling, sample: int) -> str:
    return json.dumps({**asdict(sampling), "sample": sample})


def _storable(text: str) -> str:
    """Without half characters, which no table holds."""
    return text.encode("utf-8", "replace").decode()
