"""Test the embedded model's requests and replies against an invented server."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from persona_pipeline.llm.clients import embedded
from persona_pipeline.llm.clients.embedded import EmbeddedChatClient
from persona_pipeline.llm.errors import CallError, CallErrorKind
from persona_pipeline.llm.grammars import MAX_REPETITIONS
from persona_pipeline.llm.prompts import object_schema
from persona_pipeline.llm.requests import ChatReply, ChatRequest
from tests.support.purchases import GOOD, make_request


class MadeUpServer:
    def __init__(self, answer: dict[str, Any]) -> None:
        self.answer = answer
        self.bodies: list[dict[str, Any]] = []

    def handle_chat_completions(self, body: dict[str, Any]) -> dict[str, Any]:
        self.bodies.append(body)
        return self.answer


def completion(content: str | None = GOOD, **usage: object) -> dict[str, Any]:
    return {
        "choices": [{"message": {"content": content}, "finish_reason": "stop"}],
        "usage": usage,
    }


def ask(
    server: MadeUpServer, monkeypatch: pytest.MonkeyPatch, request: ChatRequest, attempt: int = 0
) -> ChatReply:
    monkeypatch.setattr(embedded, "_load", lambda _path: server)
    return asyncio.run(EmbeddedChatClient(Path("m.gguf")).complete(request, attempt=attempt))


def test_an_answer_comes_with_its_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    cached = {"cached_tokens": 4}
    server = MadeUpServer(
        completion(prompt_tokens=9, completion_tokens=3, prompt_tokens_details=cached)
    )
    assert ask(server, monkeypatch, make_request()) == ChatReply(GOOD, "stop", 9, 4, 3)


def test_an_answer_without_text_or_usage_is_an_empty_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reply = ask(MadeUpServer(completion(None)), monkeypatch, make_request())
    assert reply == ChatReply("", "stop", 0, 0, 0)


def test_the_same_request_has_the_same_seed_and_another_attempt_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = MadeUpServer(completion())
    for attempt in (0, 0, 1):
        ask(server, monkeypatch, make_request(), attempt)
    ask(server, monkeypatch, make_request("Who else?"))
    first, again, second, other = (body["seed"] for body in server.bodies)
    assert first == again
    assert len({first, second, other}) == 3


def test_the_grammar_gets_the_schema_without_the_bounds_it_cannot_hold(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    long: Any = {"type": "string", "minLength": 3, "maxLength": MAX_REPETITIONS + 1}
    short: Any = {"type": "array", "items": {"type": "string", "maxLength": 9}, "maxItems": 2}
    server = MadeUpServer(completion())
    ask(server, monkeypatch, make_request(schema=object_schema({"long": long, "short": short})))
    shown = server.bodies[0]["response_format"]["json_schema"]["schema"]["properties"]
    assert shown == {"long": {"type": "string", "minLength": 3}, "short": short}


def test_what_the_server_refuses_will_never_be_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    server = MadeUpServer({"error": {"message": "the prompt is too long"}})
    with pytest.raises(CallError, match="the prompt is too long") as caught:
        ask(server, monkeypatch, make_request())
    assert caught.value.kind is CallErrorKind.PERMANENT


def test_a_request_reaches_the_server_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    server = MadeUpServer(completion())
    ask(server, monkeypatch, make_request())
    body = json.loads(json.dumps(server.bodies[0]))
    assert body["messages"] == [{"role": "user", "content": "Who?"}]
    assert (body["temperature"], body["top_p"], body["max_tokens"]) == (0.7, 0.9, 256)
