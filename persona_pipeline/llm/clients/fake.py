"""Answer for free, from the schema and the prompt's hash: the same answer every time.

`--model fake/demo` runs the whole platform without a model, to try settings and to test. Some of
its personas are near copies of others.
"""

import asyncio
import json
import random
from collections.abc import Callable

from pydantic import JsonValue

from persona_pipeline.llm.requests import ChatReply, ChatRequest

WORDS = [
    "amber", "harbour", "ledger", "violin", "orchard", "glacier", "compass", "lantern",
    "archive", "meadow", "turbine", "quarry", "beekeeper", "surveyor", "typesetter", "welder",
    "botanist", "curator", "stonemason", "ferry", "clinic", "workshop", "library", "greenhouse",
    "foundry", "observatory", "market", "valley", "island", "winter", "morning", "repair",
    "plan", "measure", "teach", "carry", "collect", "restore", "map", "test", "record",
]  # fmt: skip

REPEATED = 0.25
"""Share of the demonstration's personas that are near copies, so that there are duplicates."""
PEOPLE = 12
"""Number of personas that the copies imitate."""

Reply = Callable[[ChatRequest], str]


class FakeChatClient:
    """Answer with `reply(request)`, by default with an instance of the request's schema."""

    max_concurrency = 8

    def __init__(
        self, reply: Reply | None = None, *, seconds: float = 0.0, keeps_requests: bool = True
    ) -> None:
        """Take what a test needs.

        Args:
            reply: makes the answer.
            seconds: how long each answer takes, to test what happens meanwhile.
            keeps_requests: whether the requests are kept, for a test to read. They take 6 KB each.
        """
        self._reply = reply or instance_of_schema
        self._seconds = seconds
        self._keeps_requests = keeps_requests
        self.requests: list[ChatRequest] = []

    async def complete(self, request: ChatRequest, *, attempt: int = 0) -> ChatReply:  # noqa: ARG002 - the protocol's
        """Return the invented answer."""
        if self._keeps_requests:
            self.requests.append(request)
        await asyncio.sleep(self._seconds)
        text = self._reply(request)
        words_in = sum(len(message["content"].split()) for message in request.messages)
        return ChatReply(text, "stop", words_in, 0, len(text.split()))

    async def close(self) -> None:
        """Free nothing."""


def instance_of_schema(request: ChatRequest) -> str:
    """Return JSON of the request's schema, drawn by its call key."""
    return json.dumps(_instance(request.schema, random.Random(request.call_key)))  # noqa: S311 - not secret


def demonstrate(request: ChatRequest) -> str:
    """Return JSON as `instance_of_schema` does, with some personas that nearly repeat others."""
    rng = random.Random(f"copy {request.call_key}")  # noqa: S311 - not secret
    return json.dumps(_with_copies(json.loads(instance_of_schema(request)), rng))


def _with_copies(value: JsonValue, rng: random.Random) -> JsonValue:
    if isinstance(value, list):
        return [_with_copies(item, rng) for item in value]
    if not isinstance(value, dict):
        return value
    copied = {name: _with_copies(item, rng) for name, item in value.items()}
    if "persona" in copied and rng.random() < REPEATED:
        copied["persona"] = _near_copy(rng)
    return copied


def _near_copy(rng: random.Random) -> str:
    """Return one of a few personas: unchanged, one word longer, or with one or two words replaced.

    The Jaccard similarities of the last three to the original are 0.92, 0.83 and 0.69.
    """
    chosen = random.Random(rng.randrange(PEOPLE)).sample(WORDS, len(WORDS))  # noqa: S311 - not secret
    words, others = chosen[:10], rng.sample(chosen[10:], 2)
    change = rng.randrange(4)
    if change == 1:
        words.append(others[0])
    for place in range(change - 1):
        words[place] = others[place]
    return "A " + " ".join(words)


def _instance(schema: JsonValue, rng: random.Random) -> JsonValue:
    if not isinstance(schema, dict):
        return None
    choices = schema.get("enum")
    if isinstance(choices, list):
        return rng.choice(choices)
    draw = _DRAWS.get(str(schema.get("type")), _string)
    return draw(schema, rng)


def _object(schema: dict[str, JsonValue], rng: random.Random) -> JsonValue:
    properties = schema.get("properties")
    parts = properties if isinstance(properties, dict) else {}
    return {name: _instance(part, rng) for name, part in parts.items()}


def _array(schema: dict[str, JsonValue], rng: random.Random) -> JsonValue:
    count = max(_bound(schema, "minItems", 1), min(2, _bound(schema, "maxItems", 2)))
    return [_instance(schema.get("items", {}), rng) for _ in range(count)]


def _boolean(_schema: dict[str, JsonValue], rng: random.Random) -> JsonValue:
    return rng.choice([True, False])


def _number(schema: dict[str, JsonValue], rng: random.Random) -> JsonValue:
    least = _bound(schema, "minimum", min(0, _bound(schema, "maximum", 0)))
    return rng.randint(least, _bound(schema, "maximum", max(100, least)))


def _string(schema: dict[str, JsonValue], rng: random.Random) -> str:
    if "pattern" in schema:
        return "_".join(rng.sample(WORDS, 2))
    least, most = _bound(schema, "minLength", 1), _bound(schema, "maxLength", 400)
    text = "A " + " ".join(rng.sample(WORDS, 10))
    while len(text) < least:
        text += " " + " ".join(rng.sample(WORDS, 6))
    return text[:most]


def _bound(schema: dict[str, JsonValue], key: str, default: int) -> int:
    value = schema.get(key, default)
    return int(value) if isinstance(value, int | float) else default


_DRAWS: dict[str, Callable[[dict[str, JsonValue], random.Random], JsonValue]] = {
    "object": _object,
    "array": _array,
    "boolean": _boolean,
    "integer": _number,
    "number": _number,
}
