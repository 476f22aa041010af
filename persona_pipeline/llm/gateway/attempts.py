"""Take one request to its end: send it, check the reply, retry if needed, and journal the call."""

import asyncio
import json
import time
from collections import Counter
from dataclasses import asdict
from functools import lru_cache

from persona_pipeline.control_characters import clean_text
from persona_pipeline.errors import PipelineError
from persona_pipeline.llm.answers import ask_again, check_reply
from persona_pipeline.llm.calls import LONGEST_ERROR, Call, RequestUsage
from persona_pipeline.llm.errors import CallError, CallErrorKind, ModelError
from persona_pipeline.llm.gateway.budget import NOTHING, Amount, worst_case
from persona_pipeline.llm.gateway.concurrency import Outcome, outcome_of
from persona_pipeline.llm.gateway.context import StageContext, StageUsage
from persona_pipeline.llm.gateway.endpoint import ModelEndpoint
from persona_pipeline.llm.gateway.probe import Probe
from persona_pipeline.llm.gateway.retry_policy import RetryState
from persona_pipeline.llm.gateway.thinking import ROOM
from persona_pipeline.llm.requests import ChatReply, ChatRequest, Sampling

MOST_PERMANENT, MOST_PERMANENT_ONCE_ANSWERED = 20, 200
"""Permanent failures in a row after which the requests are not to blame, but a wrong parameter or a
closed account. The second number holds once the model has answered."""


class ModelDown(ModelError):  # noqa: N818 - the name of a state
    """Report a model that does not answer at all. Another model may."""


class Stopping(Exception):  # noqa: N818 - a signal, not an error
    """Say that no new request is sent any more."""


class RequestRunner:
    """Send the requests of one stage to their models. Many requests run at once."""

    def __init__(self, context: StageContext) -> None:
        """Take what all requests of the stage share."""
        self.stage_usage = StageUsage()
        self.sending: set[asyncio.Task[object] | None] = set()
        self.is_stopping = False
        self._context = context
        self._used: dict[str, ModelEndpoint] = {}
        self._permanent_failures: Counter[str] = Counter()
        self._probe = Probe()
        self._last_transient: CallError | None = None

    async def buy(self, request: ChatRequest) -> Call:
        """Return the call that ends this request, usable or not. The call is in the journal.

        Raises:
            ModelError: this model answers no request (now).
            BudgetExceeded: the request could exceed the cap.
            Stopping: the purchase was stopped before an answer arrived.
        """
        endpoint = self._endpoint(request.model)
        usage = RequestUsage(endpoint.price)
        try:
            return await self._ask(endpoint, request, usage)
        except (PipelineError, Stopping, asyncio.CancelledError) as end:
            if usage.reply:  # billed and unusable: journaled, and retried by the next run
                why = str(end) or "stopped before the retry"
                self._record(request, usage, CallError(CallErrorKind.TRANSIENT, why))
            raise

    async def _ask(
        self, endpoint: ModelEndpoint, request: ChatRequest, usage: RequestUsage
    ) -> Call:
        retry_state, thinking = RetryState(self._context.retry_policy), endpoint.thinking
        asked = thinking.with_room(request)
        unusable: CallError | None = None
        while True:
            try:
                async with self._probe.turn(usage.reply):
                    reply = await self._send(endpoint, asked, usage)
                thinking.learn(reply)
                usage.reply = check_reply(asked, reply)
            except CallError as raised:
                error = _of_request(raised, endpoint)
                self._refuse_hopeless(endpoint, error)
                self._count(error, endpoint, usage, retry_state)
                unusable = error if error.kind is CallErrorKind.INVALID else unusable
                if retry_state.is_exhausted(error):
                    if error.kind is CallErrorKind.TRANSIENT:
                        self._last_transient = error
                    is_refused = error.kind is CallErrorKind.PERMANENT and unusable
                    return self._record(request, usage, unusable if is_refused else error)
                if self.is_stopping:
                    raise Stopping from error
                if error.kind is CallErrorKind.INVALID and usage.reply:
                    asked = ask_again(asked, usage.reply, str(error), room=thinking.room)
                await asyncio.sleep(retry_state.delay(error))
            else:
                return self._record(request, usage, None)

    @property
    def silence(self) -> CallError | None:
        """The last error, if a request was given up and no model has answered any."""
        has_answer = any(endpoint.limiter.answered for endpoint in self._used.values())
        return None if has_answer else self._last_transient

    async def close(self) -> None:
        """Close the connections of all models that were asked."""
        for endpoint in self._used.values():
            await endpoint.client.close()

    def _endpoint(self, model: str) -> ModelEndpoint:
        if model not in self._used:
            endpoint = self._context.endpoints(model)
            endpoint.prepare()
            endpoint.limiter.begin_stage()
            self._used[model] = endpoint
        return self._used[model]

    async def _send(
        self, endpoint: ModelEndpoint, request: ChatRequest, usage: RequestUsage
    ) -> ChatReply:
        """Send the request within the budget.

        A cost that is not known to be zero counts as spent.
        """
        budget, stage = self._context.budget, request.stage or self._context.stage
        worst = (
            worst_case(request, endpoint.price)
            if budget.is_capped or endpoint.is_paced
            else NOTHING
        )
        await budget.reserve(stage, worst)
        actual, task = NOTHING, asyncio.current_task()
        try:
            reply = await self._send_when_admitted(endpoint, request, usage, worst)
            actual = _amount(endpoint, reply) if reply.is_metered else worst
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

    async def _send_when_admitted(
        self, endpoint: ModelEndpoint, request: ChatRequest, usage: RequestUsage, worst: Amount
    ) -> ChatReply:
        permit = await endpoint.limiter.enter(worst.tokens)
        outcome, used, wait = Outcome.OTHER, None, None
        self.sending.add(asyncio.current_task())
        started = time.monotonic()
        try:
            if self.is_stopping:
                raise Stopping
            reply = await endpoint.client.complete(request, attempt=usage.attempts)
            usage.add(reply, time.monotonic() - started)
            self._permanent_failures[endpoint.model] = 0
            outcome, used = Outcome.ANSWERED, reply.tokens_in + reply.tokens_out
        except CallError as error:
            outcome, wait = outcome_of(error), error.retry_after
            raise
        finally:
            endpoint.limiter.leave(permit, outcome, retry_after=wait, tokens=used)
        return reply

    def _count(
        self,
        error: CallError,
        endpoint: ModelEndpoint,
        usage: RequestUsage,
        retry_state: RetryState,
    ) -> None:
        is_outage = error.kind is CallErrorKind.TRANSIENT and endpoint.limiter.is_outage
        usage.attempts += error.kind is not CallErrorKind.RATE and not is_outage
        self.stage_usage.refused += error.kind is CallErrorKind.RATE and not error.is_repeated
        retry_state.count(error, is_outage=is_outage)

    def _refuse_hopeless(self, endpoint: ModelEndpoint, error: CallError) -> None:
        """Stop the run for an error that concerns every request to this model."""
        if end := self._end_of(endpoint, error):
            self.is_stopping |= not isinstance(end, ModelDown)
            raise end from error

    def _end_of(self, endpoint: ModelEndpoint, error: CallError) -> ModelError | None:
        retry_policy, limiter = self._context.retry_policy, endpoint.limiter
        model, kept = endpoint.model, "What was bought is kept."
        silent, wait = limiter.silent_seconds, error.retry_after or 0.0
        is_too_long = wait > retry_policy.refused_seconds and not limiter.answered
        match error.kind:
            case CallErrorKind.FATAL if error.is_unpaid:
                return ModelError(
                    f"the account of model {model} has no money or quota left: {error}. Top it up, "
                    f"or give another API key, then run again. {kept}"
                )
            case CallErrorKind.FATAL:
                return ModelError(
                    f"model {model} cannot be used: {error}. Check --model, --api-base and the API "
                    f"key, then run 'persona-pipeline doctor'. {kept}"
                )
            case CallErrorKind.PERMANENT if self._is_always_refused(endpoint):
                return ModelError(
                    f"model {model} turns every request down: {error}. Look at one with "
                    f"'persona-pipeline preview'. {kept}"
                )
            case CallErrorKind.RATE if is_too_long or silent > retry_policy.refused_seconds:
                return ModelDown(
                    f"model {model} refuses every request for its pace, or asks to wait "
                    f"{max(silent, wait):.0f} s: {error}. Run again when its quota is back. {kept}"
                )
            case CallErrorKind.TRANSIENT if silent > self._outage_limit(endpoint):
                return ModelDown(
                    f"model {model} has given no answer for {silent:.0f} s; the last error was: "
                    f"{error}. Run again when it answers. {kept}"
                )
        return None

    def _is_always_refused(self, endpoint: ModelEndpoint) -> bool:
        """Count a permanent failure, and say whether there were too many since the last answer."""
        self._permanent_failures[endpoint.model] += 1
        allowed = MOST_PERMANENT_ONCE_ANSWERED if endpoint.limiter.answered else MOST_PERMANENT
        return self._permanent_failures[endpoint.model] >= allowed

    def _outage_limit(self, endpoint: ModelEndpoint) -> float:
        retry_policy = self._context.retry_policy
        can_wait = endpoint.limiter.answered and not self._context.fallbacks
        return retry_policy.outage_seconds if can_wait else retry_policy.first_answer_seconds

    def _record(self, request: ChatRequest, usage: RequestUsage, error: CallError | None) -> Call:
        reply = usage.reply
        is_invalid = error is not None and error.kind is CallErrorKind.INVALID
        call = Call(
            call_key=request.call_key,
            model=request.model,
            status="ok" if error is None else "invalid" if is_invalid else "failed",
            response=_storable(reply.text) if reply else None,
            error=clean_text(str(error))[:LONGEST_ERROR] if error else None,
            shard=self._context.shard,
            stage=request.stage,
            prompt_name=request.prompt_name,
            prompt_version=request.prompt_version,
            params=_params(request, self._used[request.model].thinking.room),
            request=request.messages_json,
            finish_reason=reply.finish_reason if reply else None,
            tokens_in=usage.tokens_in,
            tokens_cached=usage.tokens_cached,
            tokens_out=usage.tokens_out,
            cost_usd=usage.cost_usd,
            latency_ms=usage.latency_ms,
            attempts=usage.attempts + (error is None),
            reasoning=(_storable(reply.reasoning) or None) if reply else None,
        )
        if error is None:
            self._probe.open()
        self._context.journal.append(call)
        self.stage_usage.add(call)
        return call


def _of_request(error: CallError, endpoint: ModelEndpoint) -> CallError:
    """Blame a doubtful status on this one request, if the model has answered another.

    The same status means a wrong key or model name before the first answer.
    """
    if error.kind is CallErrorKind.FATAL and error.is_doubtful and endpoint.limiter.answered:
        return CallError(CallErrorKind.PERMANENT, str(error))
    return error


def _amount(endpoint: ModelEndpoint, reply: ChatReply) -> Amount:
    price = endpoint.price
    usd = price.cost(reply.tokens_in, reply.tokens_cached, reply.tokens_out) if price else 0.0
    return Amount(reply.tokens_in + reply.tokens_out, usd)


def _params(request: ChatRequest, room: int) -> str:
    """Return what the request asked for, beside its messages and schema."""
    if not request.parameters:
        return _sampling_params(request.sampling, request.sample, room)
    known = json.loads(_sampling_params(request.sampling, request.sample, room))
    return json.dumps({**known, "parameters": request.parameters})


@lru_cache(maxsize=256)
def _sampling_params(sampling: Sampling, sample: int, room: int) -> str:
    return json.dumps({**asdict(sampling), "sample": sample, **({ROOM: room} if room else {})})


def _storable(text: str) -> str:
    """Replace lone surrogates, which no table can store."""
    return text.encode("utf-8", "replace").decode()
