"""Clients that fail as asked, requests, and buyers for the tests of everything that is bought."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

from pydantic import JsonValue

from persona_pipeline.llm.buyer import Buyer, Patience
from persona_pipeline.llm.calls import Call
from persona_pipeline.llm.client import ChatClient
from persona_pipeline.llm.errors import CallError, CallErrorKind
from persona_pipeline.llm.fake import FakeChatClient, instance_of_schema
from persona_pipeline.llm.journal import Journal
from persona_pipeline.llm.requests import ChatReply, ChatRequest, Sampling
from persona_pipeline.prompting import object_schema

SCHEMA = object_schema({"persona": {"type": "string", "minLength": 3}})
GOOD = json.dumps({"persona": "A lock keeper who times barges."})
QUICK = Patience(first_delay=0.0, longest_delay=0.0, rate_limit_seconds=5.0)

Answer = Callable[[ChatRequest, int], str | ChatReply]
"""The answer to a request that was asked for so many times before; may raise a CallError."""


class ScriptedClient:
    """Answers as `answer` says, and remembers how often each request was asked for."""

    def __init__(self, answer: Answer, *, max_concurrency: int = 4) -> None:
        self.max_concurrency = max_concurrency
        self.asked: Counter[str] = Counter()
        self.attempts: list[int] = []
        self.is_closed = False
        self._answer = answer

    async def complete(self, request: ChatRequest, *, attempt: int = 0) -> ChatReply:
        before = self.asked[request.call_key]
        self.asked[request.call_key] += 1
        self.attempts.append(attempt)
        await asyncio.sleep(0)
        answer = self._answer(request, before)
        return answer if isinstance(answer, ChatReply) else ChatReply(answer, "stop", 10, 1, 5, 0.5)

    async def close(self) -> None:
        self.is_closed = True


class ShufflingClient:
    """Answers like the fake, each after a random moment, so in another order each time."""

    def __init__(
        self, seed: int, max_concurrency: int, reply: Callable[[ChatRequest], str]
    ) -> None:
        self.max_concurrency = max_concurrency
        self._random = Random(seed)
        self._fake = FakeChatClient(reply)

    async def complete(self, request: ChatRequest, *, attempt: int = 0) -> ChatReply:
        await asyncio.sleep(self._random.random() / 500)
        return await self._fake.complete(request, attempt=attempt)

    async def close(self) -> None:
        return None


def make_request(
    content: str = "Who?",
    *,
    model: str = "fake/demo",
    schema: dict[str, JsonValue] | None = None,
    stage: str = "test",
) -> ChatRequest:
    return ChatRequest(
        model, ({"role": "user", "content": content},), schema or SCHEMA, Sampling(), stage=stage
    )


def in_turn(*steps: str | ChatReply | CallError) -> Answer:
    """Each request gets the first step, then the second, ...; the last one from then on."""

    def answer(_request: ChatRequest, before: int) -> str | ChatReply:
        step = steps[min(before, len(steps) - 1)]
        if isinstance(step, CallError):
            raise step
        return step

    return answer


def by_outcome(outcomes: Sequence[str]) -> Answer:
    """A good, invalid or failed answer, drawn from `outcomes` by the request's key."""

    def answer(request: ChatRequest, _before: int) -> str:
        outcome = outcomes[int(request.call_key[:8], 16) % len(outcomes)]
        if outcome == "failed":
            raise CallError(CallErrorKind.PERMANENT, "the page is too long")
        return instance_of_schema(request) if outcome == "good" else "no JSON at all"

    return answer


def fails(kind: CallErrorKind, message: str = "trouble") -> CallError:
    return CallError(kind, message)


@contextmanager
def open_buyer(
    client: ChatClient,
    folder: Path | None = None,
    *,
    stored: Mapping[str, Call] | None = None,
    patience: Patience = QUICK,
) -> Iterator[Buyer]:
    """A buyer with its own journal; nothing stored unless given."""
    with TemporaryDirectory() as temporary:
        place = folder or Path(temporary) / "journal"
        with Journal(place) as journal:
            yield Buyer(client, journal, lambda _keys: stored or {}, patience)


def buy(
    client: ChatClient,
    requests: Sequence[ChatRequest],
    folder: Path | None = None,
    *,
    stored: Mapping[str, Call] | None = None,
) -> dict[str, Call]:
    """One round of buying."""
    with open_buyer(client, folder, stored=stored) as buyer:
        return buyer.answers(requests, shard="pages-00000", stage="test")
