"""Test served models through LiteLLM, with a server that fails in every way we know."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from persona_pipeline.llm.clients.dialect import Dialect, request_params
from persona_pipeline.llm.clients.litellm_client import LiteLLMChatClient
from persona_pipeline.llm.clients.served import without_bounds
from persona_pipeline.llm.errors import CallError, CallErrorKind, ModelError
from persona_pipeline.llm.requests import ChatReply
from tests.support.faulty_server import (
    FaultyServer,
    Reply,
    chat,
    no_choices,
    refuse,
    serve,
)
from tests.support.purchases import GOOD, SCHEMA, buy_one, make_request

MODEL = "openai/served"
CANARY = "sk-canary-5f1d"
NOBODY = "http://127.0.0.1:1/v1"


def ask(url: str, model: str = MODEL) -> ChatReply:
    client = LiteLLMChatClient(api_base=url, timeout=60)

    async def once() -> ChatReply:
        try:
            return await client.complete(make_request(model=model))
        finally:
            await client.close()

    return asyncio.run(once())


def buy_from(server: FaultyServer, folder: Path, api_key: str | None = None) -> tuple[str, int]:
    """Return the status of the call, and how often the server was asked."""
    client = LiteLLMChatClient(api_base=server.url, timeout=60, api_key=api_key)
    call = buy_one(client, make_request(model=MODEL), folder)
    return call.status, len(server.bodies)


def written_in(folder: Path) -> str:
    return "".join(path.read_text() for path in folder.rglob("*") if path.is_file())


def test_an_answer_comes_with_its_tokens() -> None:
    with serve(chat(GOOD)) as server:
        assert ask(server.url) == ChatReply(GOOD, "stop", 7, 2, 3)
    body = server.bodies[0]
    assert body["model"] == "served"
    assert body["messages"] == [{"role": "user", "content": "Who?"}]
    assert (body["temperature"], body["top_p"], body["max_tokens"]) == (0.7, 0.9, 256)


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (refuse(401, "bad key"), CallErrorKind.FATAL),
        (refuse(402, "out of money"), CallErrorKind.FATAL),
        (refuse(403, "not for you"), CallErrorKind.FATAL),
        (refuse(404, "no such model"), CallErrorKind.FATAL),
        (refuse(429, "slow down"), CallErrorKind.RATE),
        (refuse(400, "bad request"), CallErrorKind.PERMANENT),
        (refuse(400, "This model's maximum context length is 10"), CallErrorKind.PERMANENT),
        (refuse(413, "too large"), CallErrorKind.PERMANENT),
        (refuse(422, "cannot"), CallErrorKind.PERMANENT),
        (refuse(500, "boom"), CallErrorKind.TRANSIENT),
        (refuse(503, "busy"), CallErrorKind.TRANSIENT),
        (Reply(200, b"<html>not JSON"), CallErrorKind.TRANSIENT),
        (no_choices(), CallErrorKind.TRANSIENT),
    ],
    ids=str,
)
def test_every_fault_of_a_server_is_one_of_the_kinds(reply: Reply, kind: CallErrorKind) -> None:
    with serve(reply) as server, pytest.raises(CallError) as caught:
        ask(server.url)
    assert caught.value.kind is kind
    assert len(server.bodies) == 1


@pytest.mark.parametrize("model", [MODEL, "hosted_vllm/served"])
def test_a_server_that_is_not_there_may_come_back(model: str) -> None:
    with pytest.raises(CallError) as caught:
        ask(NOBODY, model)
    assert caught.value.kind is CallErrorKind.TRANSIENT


@pytest.mark.parametrize("model", ["nonsense", "openai/gpt-4o", "anthropic/claude-x"])
def test_a_name_without_a_provider_or_a_key_is_fatal(
    model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY"):
        monkeypatch.delenv(variable, raising=False)
    client = LiteLLMChatClient(timeout=60)
    with pytest.raises(CallError) as caught:
        asyncio.run(client.complete(make_request(model=model)))
    assert caught.value.kind is CallErrorKind.FATAL


def test_of_a_name_without_a_provider_it_is_said_how_to_write_it() -> None:
    client = LiteLLMChatClient(api_base="http://127.0.0.1:9/v1", timeout=60)
    with pytest.raises(CallError, match=r"does not begin with a provider .* write openai/NAME"):
        asyncio.run(client.complete(make_request(model="my-model")))


@pytest.mark.parametrize(("header", "seconds"), [("3", 3.0), ("1.5", 1.5), ("tomorrow", None)])
def test_the_seconds_to_wait_are_taken_from_the_headers(header: str, seconds: float | None) -> None:
    with serve(refuse(429, retry_after=header)) as server, pytest.raises(CallError) as caught:
        ask(server.url)
    assert caught.value.retry_after == seconds


def test_a_refusal_of_the_model_is_not_an_answer() -> None:
    with serve(chat(None, refusal="I cannot help with that.")) as server:
        reply = ask(server.url)
    assert (reply.text, reply.finish_reason) == ("I cannot help with that.", "refused")


@pytest.mark.parametrize(
    ("replies", "status", "asked"),
    [
        ([refuse(429, retry_after="0"), chat(GOOD)], "ok", 2),
        ([refuse(500), Reply(200, b"oops"), chat(GOOD)], "ok", 3),
        ([chat("{broken"), chat(GOOD)], "ok", 2),
        ([chat("{broken")], "invalid", 2),
        ([chat(GOOD[:10], "length")], "invalid", 2),
        ([chat("")], "invalid", 2),
        ([chat(None, refusal="no")], "invalid", 2),
        ([chat(GOOD, "content_filter")], "invalid", 2),
        ([refuse(400)], "failed", 1),
    ],
    ids=["429", "500", "mended", "broken", "cut", "empty", "refused", "filtered", "400"],
)
def test_a_row_ends_as_it_must_whatever_the_server_does(
    tmp_path: Path, replies: list[Reply], status: str, asked: int
) -> None:
    with serve(*replies) as server:
        assert buy_from(server, tmp_path) == (status, asked)


def test_a_server_that_fails_each_request_ends_the_run(tmp_path: Path) -> None:
    with serve(refuse(500)) as server, pytest.raises(ModelError, match=r"no request .*HTTP 500"):
        buy_from(server, tmp_path)


@pytest.mark.parametrize("status", [401, 404])
def test_a_bad_key_or_model_stops_the_run_with_what_to_do(tmp_path: Path, status: int) -> None:
    message = "model openai/served cannot be used: .*Check --model, --api-base and the API key"
    with serve(refuse(status)) as server, pytest.raises(ModelError, match=message):
        buy_from(server, tmp_path)
    assert len(server.bodies) == 1


def test_the_key_is_sent_to_the_server_and_to_no_file(tmp_path: Path) -> None:
    replies = [refuse(500, f"trouble with {CANARY[:4]}"), chat("{broken"), chat(GOOD)]
    with serve(*replies) as server:
        buy_from(server, tmp_path, api_key=CANARY)
    assert set(server.keys) == {f"Bearer {CANARY}"}
    assert CANARY not in written_in(tmp_path)


def test_a_key_that_the_server_repeats_is_in_no_row(tmp_path: Path) -> None:
    with serve(refuse(400, f"Incorrect key {CANARY}")) as server:
        buy_from(server, tmp_path, api_key=CANARY)
    assert CANARY not in written_in(tmp_path)


def test_a_server_of_ones_own_needs_no_key() -> None:
    with serve(chat(GOOD)) as server:
        ask(server.url)
    assert server.keys == ["Bearer none"]


@pytest.mark.parametrize(
    ("model", "api_base", "is_whole"),
    [
        ("openai/gpt-4o", None, False),
        ("anthropic/claude", None, False),
        ("hosted_vllm/qwen", None, True),
        ("ollama/qwen", None, True),
        ("ollama_chat/qwen", None, True),
        ("openai/served", NOBODY, True),
    ],
)
def test_hosted_providers_get_the_schema_without_bounds_and_other_servers_all_of_it(
    model: str, api_base: str | None, *, is_whole: bool
) -> None:
    request = make_request(model=model)
    params = request_params(request, Dialect(), is_own_server=api_base is not None)
    expected = SCHEMA if is_whole else without_bounds(SCHEMA)
    shown = {"name": "answer", "schema": expected, "strict": True}
    assert params["response_format"] == {"type": "json_schema", "json_schema": shown}


def test_only_bounds_are_taken_from_a_schema() -> None:
    items: Any = {"type": "string", "pattern": "a", "enum": ["minLength"]}
    schema: Any = {
        "type": "array",
        "minItems": 1,
        "maxItems": 2,
        "items": items,
        "required": ["a"],
    }
    expected = {"type": "string", "enum": ["minLength"]}
    assert without_bounds(schema) == {"type": "array", "items": expected, "required": ["a"]}


def test_a_field_that_is_named_like_a_bound_stays() -> None:
    schema: Any = {
        "type": "object",
        "properties": {"pattern": {"type": "string", "minLength": 1}},
    }
    assert without_bounds(schema) == {
        "type": "object",
        "properties": {"pattern": {"type": "string"}},
    }
