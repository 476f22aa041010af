"""Buy embeddings from a provider: text by text, sent in batches.

A text is a request like any other: it has a call key, is journaled, counts against the budget and
is never bought twice. Texts travel together only on the wire.

A server that refuses a batch may take fewer texts at once, or may refuse one long text. So a
refused batch is halved, down to the text that is refused alone.
"""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import JsonValue

from persona_pipeline.llm.calls import Answer
from persona_pipeline.llm.clients.embeddings import BATCH, Vectors, unit_rows
from persona_pipeline.llm.clients.litellm_client import import_litellm, translate
from persona_pipeline.llm.clients.redirects import EMBEDDING_PATH, Redirects
from persona_pipeline.llm.errors import CallError, CallErrorKind, ModelError
from persona_pipeline.llm.gateway.attempts import MOST_PERMANENT
from persona_pipeline.llm.gateway.concurrency import Outcome, outcome_of
from persona_pipeline.llm.gateway.context import AnswerSource
from persona_pipeline.llm.gateway.endpoint import Limiter
from persona_pipeline.llm.gateway.limiter import RateLimiter
from persona_pipeline.llm.requests import ChatReply, ChatRequest, Sampling
from persona_pipeline.llm.vectors import encode_vector, vector_bytes
from persona_pipeline.stage_names import EMBEDDINGS

SCHEMA: dict[str, JsonValue] = {
    "type": "object",
    "properties": {"embedding": {"type": "string"}},
    "required": ["embedding"],
}
"""The stored answer: the vector as base64 of little-endian float32. The schema is part of the call
key, so a text sent to a chat model is another purchase."""
GATHERING, GATHERING_AGAIN = 0.005, 0.3
"""Seconds for which a text waits for others to travel with: at first, and after a failed batch,
whose texts come back one by one."""
BATCHES = 8
"""Batches in flight. A provider works on each in parallel anyway."""
NO_VECTOR = "the model gives no vector of this text"
"""How the error of a text begins that the server refuses alone, or answers with no usable vector.
Other texts are not to blame."""
LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Waiting:
    """Hold a text's request until its reply arrives."""

    request: ChatRequest
    reply: asyncio.Future[ChatReply]

    @property
    def text(self) -> str:
        return self.request.messages[0]["content"]

    def end(self, end: ChatReply | Exception) -> None:
        if self.reply.done():
            return
        if isinstance(end, Exception):
            self.reply.set_exception(end)
        else:
            self.reply.set_result(end)


def embedding_request(model: str, text: str) -> ChatRequest:
    """Return the request for one text's vector."""
    return ChatRequest(
        model=model,
        messages=({"role": "user", "content": text},),
        schema=SCHEMA,
        sampling=Sampling(temperature=0.0, top_p=1.0, max_tokens=0),
        stage=EMBEDDINGS,
    )


class EmbeddingClient:
    """Send the texts of requests that arrive within a few milliseconds as one call."""

    max_concurrency = BATCH * BATCHES

    def __init__(
        self,
        *,
        api_base: str | None = None,
        api_key: str | None = None,
        timeout: float = 120.0,
        limiter: Limiter | None = None,
    ) -> None:
        """Take the arguments of a chat client, and the limiter that the batches wait for."""
        self.limiter = limiter or RateLimiter(BATCHES, start=BATCHES)
        self._api_key = api_key
        self._redirects = Redirects(api_base, EMBEDDING_PATH)
        self._settings = {"timeout": timeout, "max_retries": 0}
        self._endpoint = {"api_base": api_base, "api_key": api_key or (api_base and "none")}
        self._most, self._gathering = BATCH, GATHERING
        self._gathered: list[_Waiting] = []
        self._refused_alone: list[CallError] = []
        self._sending: set[asyncio.Task[bool]] = set()

    async def complete(self, request: ChatRequest, *, attempt: int = 0) -> ChatReply:  # noqa: ARG002 - the protocol's
        """Return the vector of the request's text, as the JSON of `SCHEMA`."""
        loop = asyncio.get_running_loop()
        waiting = _Waiting(request, loop.create_future())
        self._gathered.append(waiting)
        if len(self._gathered) >= self._most:
            self._send_gathered()
        elif len(self._gathered) == 1:
            loop.call_later(self._gathering, self._send_gathered)
        return await waiting.reply

    async def close(self) -> None:
        """Close the connections that LiteLLM keeps."""
        await import_litellm().close_litellm_async_clients()

    def _send_gathered(self) -> None:
        gathered, self._gathered = self._gathered, []
        if gathered:
            task = asyncio.create_task(self._send(gathered))
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)

    async def _send(self, batch: Sequence[_Waiting]) -> bool:
        """Send a batch, or its halves if the server refuses it. Return whether nothing failed."""
        batch = [waiting for waiting in batch if not waiting.reply.done()]
        if not batch:
            return True
        if len(self._refused_alone) >= MOST_PERMANENT and not self.limiter.answered:
            _end_all(batch, self._refused_alone[-1])  # the gateway stops, and does not tell us
            return False
        try:
            replies = await self._embed(batch)
        except CallError as error:
            if error.kind is CallErrorKind.PERMANENT and len(batch) > 1:
                return await self._send_halves(batch)
            self._gathering = GATHERING_AGAIN
            if error.kind is CallErrorKind.PERMANENT:
                self._refused_alone.append(error)
            _end_all(batch, error)
            return False
        except Exception as error:  # noqa: BLE001 - raised again in each text's own task
            for waiting in batch:
                waiting.end(error)
            return False
        self._gathering = GATHERING
        self._refused_alone.clear()
        for waiting, reply in zip(batch, replies, strict=True):
            waiting.end(reply)
        return True

    async def _send_halves(self, batch: Sequence[_Waiting]) -> bool:
        """Send both halves. If no text of them is refused, the size was: keep to theirs."""
        middle = (len(batch) + 1) // 2
        is_first_fine = await self._send(batch[:middle])
        is_fine = await self._send(batch[middle:]) and is_first_fine
        if is_fine and middle < self._most:
            self._most = middle
            LOG.warning("the embedding server takes %s texts at once, not %s", middle, len(batch))
        return is_fine

    async def _embed(self, batch: Sequence[_Waiting]) -> list[ChatReply | CallError]:
        """Send one request when the limiter admits it, and report its outcome there."""
        permit = await self.limiter.enter(sum(len(waiting.text.encode()) for waiting in batch))
        outcome, wait, used = Outcome.OTHER, None, None
        try:
            answer = await self._ask(batch)
            replies = _replies(answer, len(batch))
            outcome, used = Outcome.ANSWERED, answer.usage.prompt_tokens or None
        except CallError as error:
            outcome, wait = outcome_of(error), error.retry_after
            raise
        finally:
            self.limiter.leave(permit, outcome, retry_after=wait, tokens=used)
        return replies

    async def _ask(self, batch: Sequence[_Waiting]) -> Any:  # noqa: ANN401 - LiteLLM's types are partial
        litellm = import_litellm()
        try:
            return await litellm.aembedding(
                model=batch[0].request.model,
                input=[waiting.text for waiting in batch],
                **self._settings,
                **self._endpoint,
            )
        except litellm.exceptions.openai.OpenAIError as error:
            refusal = _translated(error, self._api_key)  # its text may contain the key
            raise await self._redirects.explain(refusal) from None


class ServedEmbedder:
    """Embed the texts of one shard's stage with vectors that are bought."""

    def __init__(self, model: str, source: AnswerSource, shard: str) -> None:
        """Take the model's LiteLLM name and the source of its answers."""
        self.model = model
        self._source, self._shard = source, shard

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Return an array of shape (texts, dimensions) with rows of length 1.

        The row of a text that the model gives no vector of is NaN, and the log says why.

        Raises:
            ModelError: the model gave too few vectors for another reason, or vectors of different
                lengths. The vectors that were bought are kept.
        """
        requests = [embedding_request(self.model, text) for text in texts]
        answers = self._source.answers(requests, shard=self._shard, stage=EMBEDDINGS)
        bought = [answers[request.call_key] for request in requests]
        vectors = [read_vector(answer) for answer in bought]
        self._check_missing(
            [answer for answer, vector in zip(bought, vectors, strict=True) if vector is None],
            len(texts),
        )
        return unit_rows(self._stacked(vectors))

    def _check_missing(self, missing: Sequence[Answer], count: int) -> None:
        others = [answer for answer in missing if not (answer.error or "").startswith(NO_VECTOR)]
        if others:
            msg = (
                f"embedding model {self.model} gave no vector for {len(others)} of {count} texts "
                f"({others[0].error}): run again, the others are kept"
            )
            raise ModelError(msg)
        if missing:
            words = "%s of %s texts of %s are compared by their words only. The first: %s"
            LOG.warning(words, len(missing), count, self._shard, missing[0].error)

    def _stacked(self, vectors: Sequence[Vectors | None]) -> Vectors:
        lengths = sorted({len(vector) for vector in vectors if vector is not None})
        if len(lengths) > 1:
            msg = (
                f"embedding model {self.model} gave vectors of {lengths} numbers: another model "
                "answers under this name now. Set embedding_model to a name of its own"
            )
            raise ModelError(msg)
        none = np.full(lengths[0] if lengths else 1, np.nan, dtype=np.float32)
        rows = [none if vector is None else vector for vector in vectors]
        return np.array(rows, dtype=np.float32)


def read_vector(answer: Answer) -> Vectors | None:
    """Return the vector in an answer, or None if it holds none."""
    if answer.status != "ok" or not answer.is_bought:
        return None
    vector: Vectors = np.frombuffer(vector_bytes(answer.response or ""), dtype="<f4")
    return vector


def _end_all(batch: Sequence[_Waiting], error: CallError) -> None:
    """End all texts of a batch by one error, which is counted once."""
    if len(batch) == 1 and error.kind is CallErrorKind.PERMANENT:
        error = CallError(error.kind, f"{NO_VECTOR}: {error}")
    first, *others = batch
    first.end(error)
    for waiting in others:
        waiting.end(error.repeated())


def _translated(error: Exception, api_key: str | None) -> CallError:
    """Translate LiteLLM's exception. Without a status, it was an error in a 200: no refusal."""
    translated = translate(error, api_key)
    words = str(translated)
    if translated.kind is CallErrorKind.PERMANENT and not words.startswith("HTTP"):
        translated = CallError(CallErrorKind.TRANSIENT, words, maybe_billed=True)
    if not words:
        translated.args = ("the server answered with an error in place of vectors",)
    return translated


def _replies(answer: Any, count: int) -> list[ChatReply | CallError]:  # noqa: ANN401 - LiteLLM's types are partial
    """Return a reply for each text, or the error of a text whose vector is none.

    Raises:
        CallError: the vectors cannot be told apart.
    """
    try:
        vectors = sorted(answer.data, key=lambda item: item["index"])
        tokens = int(answer.usage.prompt_tokens or 0)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        msg = f"the server's vectors cannot be read ({type(error).__name__}: {error})"
        raise CallError(CallErrorKind.TRANSIENT, msg, maybe_billed=True) from error
    if len(vectors) != count:
        msg = f"the server sent {len(vectors)} vectors for {count} texts"
        raise CallError(CallErrorKind.TRANSIENT, msg, maybe_billed=True)
    share, rest = divmod(tokens, count)
    return [_reply(item["embedding"], share + (place < rest)) for place, item in enumerate(vectors)]


def _reply(vector: object, tokens: int) -> ChatReply | CallError:
    try:
        return ChatReply(encode_vector(vector), tokens_in=tokens)
    except (ValueError, TypeError) as error:
        message = f"{NO_VECTOR}: the server sent {error}"
        return CallError(CallErrorKind.TRANSIENT, message, maybe_billed=True)
