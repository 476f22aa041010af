"""Buy embeddings from a provider: text by text, sent in batches.

A text is a request like any other: it has a call key, is journaled, counts against the budget and
is never bought twice. Texts travel together only on the wire.
"""

import asyncio
import base64
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from pydantic import JsonValue

from persona_pipeline.llm.calls import Answer
from persona_pipeline.llm.clients.embeddings import BATCH, Vectors, unit_rows
from persona_pipeline.llm.clients.litellm_client import import_litellm, translate
from persona_pipeline.llm.errors import CallError, CallErrorKind, ModelError
from persona_pipeline.llm.gateway.context import AnswerSource
from persona_pipeline.llm.requests import ChatReply, ChatRequest, Sampling
from persona_pipeline.stage_names import EMBEDDINGS

SCHEMA: dict[str, JsonValue] = {
    "type": "object",
    "properties": {"embedding": {"type": "string"}},
    "required": ["embedding"],
}
"""The stored answer: the vector as base64 of little-endian float32. The schema is part of the call
key, so a text sent to a chat model is another purchase."""
GATHERING = 0.005
"""Seconds for which a text waits for others to travel with."""
BATCHES = 8
"""Batches in flight. A provider works on each in parallel anyway."""


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
        self, *, api_base: str | None = None, api_key: str | None = None, timeout: float = 120.0
    ) -> None:
        """Take the arguments of a chat client."""
        self._api_key = api_key
        self._settings = {"timeout": timeout, "max_retries": 0}
        self._endpoint = {"api_base": api_base, "api_key": api_key or (api_base and "none")}
        self._gathered: list[tuple[ChatRequest, asyncio.Future[ChatReply]]] = []
        self._sending: set[asyncio.Task[None]] = set()

    async def complete(self, request: ChatRequest, *, attempt: int = 0) -> ChatReply:  # noqa: ARG002 - the protocol's
        """Return the vector of the request's text, as the JSON of `SCHEMA`."""
        loop = asyncio.get_running_loop()
        reply: asyncio.Future[ChatReply] = loop.create_future()
        self._gathered.append((request, reply))
        if len(self._gathered) == BATCH:
            self._send_gathered()
        elif len(self._gathered) == 1:
            loop.call_later(GATHERING, self._send_gathered)
        return await reply

    async def close(self) -> None:
        """Close the connections that LiteLLM keeps."""
        await import_litellm().close_litellm_async_clients()

    def _send_gathered(self) -> None:
        gathered, self._gathered = self._gathered, []
        if gathered:
            task = asyncio.create_task(self._send(gathered))
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)

    async def _send(self, batch: list[tuple[ChatRequest, asyncio.Future[ChatReply]]]) -> None:
        try:
            replies = await self._embed([request for request, _ in batch])
        except Exception as error:  # noqa: BLE001 - raised again in each text's own task
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
        else:
            for (_, future), reply in zip(batch, replies, strict=True):
                if not future.done():
                    future.set_result(reply)

    async def _embed(self, requests: Sequence[ChatRequest]) -> list[ChatReply]:
        litellm = import_litellm()
        texts = [request.messages[0]["content"] for request in requests]
        try:
            answer = await litellm.aembedding(
                model=requests[0].model, input=texts, **self._settings, **self._endpoint
            )
        except litellm.exceptions.openai.OpenAIError as error:
            raise translate(error, self._api_key) from None  # its text may contain the key
        try:
            return _replies(answer, len(texts))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            msg = f"the server's vectors cannot be read ({type(error).__name__}: {error})"
            raise CallError(CallErrorKind.TRANSIENT, msg, maybe_billed=True) from error


class ServedEmbedder:
    """Embed the texts of one shard's stage with vectors that are bought."""

    def __init__(self, model: str, source: AnswerSource, shard: str) -> None:
        """Take the model's LiteLLM name and the source of its answers."""
        self.model = model
        self._source, self._shard = source, shard

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Return an array of shape (texts, dimensions) with rows of length 1.

        Raises:
            ModelError: a text got no vector. The vectors that were bought are kept.
        """
        requests = [embedding_request(self.model, text) for text in texts]
        answers = self._source.answers(requests, shard=self._shard, stage=EMBEDDINGS)
        bought = [answers[request.call_key] for request in requests]
        missing = [answer for answer in bought if answer.status != "ok"]
        if missing:
            msg = (
                f"embedding model {self.model} gave no vector for {len(missing)} of {len(texts)} "
                f"texts ({missing[0].error}): run again, the others are kept"
            )
            raise ModelError(msg)
        return unit_rows(np.array([read_vector(answer) for answer in bought], dtype=np.float32))


def read_vector(answer: Answer) -> Vectors:
    """Return the vector in an answer."""
    encoded = json.loads(answer.response or "")["embedding"]
    vector: Vectors = np.frombuffer(base64.b64decode(encoded), dtype="<f4")
    return vector


def _replies(answer: Any, count: int) -> list[ChatReply]:  # noqa: ANN401 - LiteLLM's types are partial
    vectors = sorted(answer.data, key=lambda item: item["index"])
    if len(vectors) != count:
        msg = f"the server sent {len(vectors)} vectors for {count} texts"
        raise CallError(CallErrorKind.TRANSIENT, msg, maybe_billed=True)
    tokens = answer.usage.prompt_tokens or 0
    share, rest = divmod(tokens, count)
    return [
        ChatReply(_encode(item["embedding"]), tokens_in=share + (place < rest))
        for place, item in enumerate(vectors)
    ]


def _encode(vector: Sequence[float]) -> str:
    data = np.asarray(vector, dtype="<f4").tobytes()
    return json.dumps({"embedding": base64.b64encode(data).decode("ascii")})
