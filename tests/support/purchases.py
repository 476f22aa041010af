"""Provide clients that fail on demand, requests, and gateways for the tests of buying."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

from pydantic import JsonValue

from persona_pipeline.llm.calls import Answer, Call
from persona_pipeline.llm.client import ChatClient
from persona_pipeline.llm.clients.fake import FakeChatClient, instance_of_schema
from persona_pipeline.llm.errors import CallError, CallErrorKind
from persona_pipeline.llm.gateway.endpoint import ModelEndpoint, OpenEndpoint
from persona_pipeline.llm.gateway.gateway import Gateway
from persona_pipeline.llm.gateway.journal import Journal
from persona_pipeline.llm.gateway.limiter import RateLimiter
from persona_pipeline.llm.gateway.retry_policy import RetryPolicy
from persona_pipeline.llm.prices import Price
from persona_pipeline.llm.prompts import object_schema
from persona_pipeline.llm.request_options import AS_THE_PROMPTS_SAY, RequestOptions
from persona_pipeline.llm.requests import ChatReply, ChatRequest, Sampling

SCHEMA = object_schema({"persona": {"type": "string", "minLength": 3}})
GOOD = json.dumps({"persona": "A lock keeper who times barges."})
QUICK = RetryPolicy(
    first_delay=0.0,
    longest_delay=0.0,
    first_answer_seconds=1.0,
    outage_seconds=5,
    refused_seconds=5,
)

NO_FALLBACKS: Mapping[str, ChatClient] = {}

Script = Callable[[ChatRequest, int], str | ChatReply]
"""Returns the answer to a request and how often it was asked before, or raises a CallError."""


class ScriptedClient:
    """Answer as `answer` says, and count how often each request was asked."""

    def __init__(self, answer: Script, *, max_concurrency: int = 4) -> None:
        self.max_concurrency = max_concurrency
        self.asked: Counter[str] = Counter()
        self.attempts: list[int] = []
        self.samplings: list[Sampling] = []
        self.is_closed = False
        self._answer = answer

    async def complete(self, request: ChatRequest, *, attempt: int = 0) -> ChatReply:
        key = _first_asked(request)
        before = self.asked[key]
        self.asked[key] += 1
        self.attempts.append(attempt)
        self.samplings.append(request.sampling)
        await asyncio.sleep(0)
        answer = self._answer(request, before)
        return answer if isinstance(answer, ChatReply) else ChatReply(answer, "stop", 10, 1, 5)

    async def close(self) -> None:
        self.is_closed = True


def _first_asked(request: ChatRequest) -> str:
    """Return the key of this request, or of the request that it repeats."""
    return replace(request, messages=request.messages[:1], sampling=Sampling()).call_key


class ShufflingClient:
    """Answer like the fake, each time after a random delay, so that the order differs."""

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


def make_call(content: str, *, status: str = "ok", text: str | None = GOOD) -> Call:
    """Return the journal's row for a request with this content."""
    request = make_request(content)
    return Call(
        call_key=request.call_key,
        model=request.model,
        status=status,
        response=None if status == "failed" else text,
        error=None if status == "ok" else "no",
        shard="s",
        stage=request.stage,
        prompt_name="who",
        prompt_version="v1",
        params="{}",
        request=json.dumps(request.messages),
        finish_reason=None if status == "failed" else "stop",
        tokens_in=3,
        tokens_cached=1,
        tokens_out=2,
        cost_usd=None,
        latency_ms=7,
        attempts=1,
    )


def answer_of(call: Call) -> Answer:
    """Return what a stage needs to know of the call."""
    return Answer(
        call.call_key,
        call.model,
        call.status,
        call.response,
        call.error,
        finish_reason=call.finish_reason,
        params=call.params,
    )


def in_turn(*steps: str | ChatReply | CallError) -> Script:
    """Give each request the first step, then the second, ..., and repeat the last one."""

    def answer(_request: ChatRequest, before: int) -> str | ChatReply:
        step = steps[min(before, len(steps) - 1)]
        if isinstance(step, CallError):
            raise step
        return step

    return answer


def by_outcome(outcomes: Sequence[str]) -> Script:
    """Give a good, invalid or failed answer, drawn from `outcomes` by the request's key."""

    def answer(request: ChatRequest, _before: int) -> str:
        outcome = outcomes[int(request.call_key[:8], 16) % len(outcomes)]
        if outcome == "failed":
            raise CallError(CallErrorKind.PERMANENT, "the page is too long")
        return instance_of_schema(request) if outcome == "good" else "no JSON at all"

    return answer


def fails(kind: CallErrorKind, message: str = "trouble") -> CallError:
    return CallError(kind, message)


PRICE = Price(input=0.01, cached_input=0.001, output=0.1)
"""USD per token: the scripted answer of 10 tokens in (1 cached) and 5 out costs 0.591."""


class MemoryStore:
    """Store answers in memory. `put` is another process's commit."""

    def __init__(self, answers: Mapping[str, Answer] | None = None) -> None:
        self.held = dict(answers or {})
        self.commits = 0

    def answers(self, keys: list[str]) -> dict[str, Answer]:
        return {key: self.held[key] for key in keys if key in self.held}

    def version(self) -> object:
        return self.commits

    def put(self, answers: Mapping[str, Answer]) -> None:
        self.held |= answers
        self.commits += 1


def endpoints_of(
    client: ChatClient, fallbacks: Mapping[str, ChatClient] = NO_FALLBACKS
) -> OpenEndpoint:
    """Open `client` for every model but the fallbacks, each with its own limiter."""
    endpoints: dict[str, ModelEndpoint] = {}

    def endpoint(model: str) -> ModelEndpoint:
        asked = fallbacks.get(model, client)
        if model not in endpoints:
            endpoints[model] = ModelEndpoint(
                model, asked, RateLimiter(asked.max_concurrency), PRICE
            )
        return endpoints[model]

    return endpoint


@contextmanager
def open_gateway(  # noqa: PLR0913 - each is the choice of some test
    client: ChatClient,
    folder: Path | None = None,
    *,
    stored: Mapping[str, Answer] | None = None,
    retry_policy: RetryPolicy = QUICK,
    fallbacks: Mapping[str, ChatClient] = NO_FALLBACKS,
    options: RequestOptions = AS_THE_PROMPTS_SAY,
) -> Iterator[Gateway]:
    """Open a gateway with its own journal, and a store that holds `stored`."""
    with TemporaryDirectory() as temporary:
        place = folder or Path(temporary) / "journal"
        with Journal(place) as journal:
            yield Gateway(
                endpoints=endpoints_of(client, fallbacks),
                journal=journal,
                store=MemoryStore(stored),
                fallbacks=tuple(fallbacks),
                retry_policy=retry_policy,
                options=options,
            )


def buy(
    client: ChatClient,
    requests: Sequence[ChatRequest],
    folder: Path | None = None,
    *,
    stored: Mapping[str, Answer] | None = None,
    fallbacks: Mapping[str, ChatClient] = NO_FALLBACKS,
) -> dict[str, Answer]:
    """Buy the answers to the requests once."""
    with open_gateway(client, folder, stored=stored, fallbacks=fallbacks) as gateway:
        return gateway.answers(requests, shard="pages-00000", stage="test")


def buy_one(client: ChatClient, request: ChatRequest, folder: Path | None = None) -> Call:
    """Buy one request, and return its call as journaled."""
    with open_gateway(client, folder) as gateway:
        gateway.answers([request], shard="pages-00000", stage="test")
        return journaled(gateway)[request.call_key]


def journaled(gateway: Gateway) -> dict[str, Call]:
    """Return the last line of each key in the journals that the next commit would include."""
    lines = [
        line for path in gateway.journal.to_commit() for line in path.read_bytes().splitlines()
    ]
    calls = [Call(**json.loads(line)) for line in lines]
    return {call.call_key: call for call in calls}


def replace_endpoints(gateway: Gateway, endpoint: ModelEndpoint) -> Gateway:
    """Return the gateway with this endpoint for every model."""
    return replace(gateway, endpoints=lambda _model: endpoint)


def ignore(_key: str, _answer: Answer) -> None:
    """Receive nothing."""
