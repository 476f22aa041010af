"""Test faults, keys and limits of the direct client."""

import asyncio
import gc
import importlib.metadata
import inspect
import json
import subprocess
import sys
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from persona_pipeline.llm.clients.dialect import Dialect
from persona_pipeline.llm.clients.direct import DirectChatClient, open_served_client
from persona_pipeline.llm.clients.litellm_client import LiteLLMChatClient, import_litellm
from persona_pipeline.llm.errors import CallError, CallErrorKind
from persona_pipeline.llm.requests import ChatReply, ChatRequest
from tests.support.compared_clients import (
    CLIENTS,
    FAULTS,
    GOOD,
    HOSTED,
    KEY,
    LIBRARIES,
    MODELS,
    MOVED,
    TRANSIENT,
    Kind,
    ask,
    both,
    outcome,
    request_to,
)
from tests.support.faulty_server import (
    Reply,
    chat,
    completion,
    refuse,
    serve,
)
from tests.support.purchases import buy_one


@pytest.mark.parametrize("model", LIBRARIES)
@pytest.mark.parametrize(("reply", "expected"), FAULTS.values(), ids=FAULTS)
def test_both_clients_find_the_same_fault(
    reply: Reply, expected: tuple[object, ...], model: str
) -> None:
    with serve(reply) as server:
        timeout = 0.5 if reply.fault == "hang" else 60.0
        assert both(server, model, timeout) == [expected, expected]


@pytest.mark.parametrize("fault", ["", "reset", "cut", "hang"])
def test_the_direct_client_sends_every_request_once(fault: str) -> None:
    with serve(Reply(500, b"", fault=fault)) as server:
        client = DirectChatClient(api_base=server.url, timeout=0.5)
        assert outcome(client, "hosted_vllm/served")[0] is TRANSIENT
    assert len(server.sent) == 1


@pytest.mark.parametrize("client", CLIENTS)
def test_a_date_to_wait_for_becomes_seconds(client: Kind) -> None:
    date = formatdate(time.time() + 60, usegmt=True)
    with serve(refuse(429, retry_after=date)) as server:
        seconds = outcome(client(api_base=server.url), "openai/served")[1]
    assert isinstance(seconds, float)
    assert 50 < seconds <= 60


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("model", LIBRARIES)
@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("http://127.0.0.1:1/v1", CallErrorKind.TRANSIENT),
        ("http://no.such.host.invalid/v1", CallErrorKind.TRANSIENT),
        ("localhost:8000/v1", CallErrorKind.FATAL),
    ],
)
def test_a_request_that_was_not_sent_is_not_billed(
    client: Kind, model: str, address: str, kind: CallErrorKind
) -> None:
    assert outcome(client(api_base=address, timeout=60), model) == (kind, None, False, False)


@pytest.mark.parametrize(
    "body",
    [
        '{"choices": null}',
        '{"choices": [null]}',
        '{"choices": [{"message": "text"}]}',
        '{"choices": [{"message": {}, "finish_reason": [[]]}]}',
        '{"choices": [{"message": {}}], "usage": {"prompt_tokens": "many"}}',
        '{"choices": [{"message": {}}], "usage": [1]}',
        '{"error": "no such model loaded"}',
        '{"error": {"code": "loading"}}',
        "[]",
        "[" * 100_000,
    ],
    ids=lambda body: body[:60],
)
def test_an_answer_of_another_form_is_trouble_that_may_be_billed(body: str) -> None:
    with serve(Reply(200, body.encode())) as server:
        matches = outcome(DirectChatClient(api_base=server.url), "openai/served")
    assert matches == (TRANSIENT, None, True, False)


@pytest.mark.parametrize("body", ["null", "5", "[]", '{"error": {"code": {}}}', '{"error": [1]}'])
def test_an_error_of_another_form_is_still_an_error(body: str) -> None:
    with serve(Reply(400, body.encode())) as server:
        matches = outcome(DirectChatClient(api_base=server.url), "openai/served")
    assert matches == (CallErrorKind.PERMANENT, None, False, False)


@pytest.mark.parametrize("model", ["nonsense", "meta-llama/Llama-3", "openai_like/served"])
def test_a_name_that_litellm_cannot_call_is_fatal(model: str) -> None:
    with serve(chat(GOOD)) as server:
        expected = (CallErrorKind.FATAL, None, False, False)
        assert both(server, model) == [expected, expected]


def test_the_parts_of_an_answer_are_joined_without_the_thinking() -> None:
    parts = [
        {"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]},
        {"type": "text", "text": '{"persona": '},
        {"type": "text", "text": '"A diver."}'},
    ]
    with serve(chat(parts)) as server:
        [reply] = ask(DirectChatClient(api_base=server.url), request_to("openai/served"))
    assert reply.text == '{"persona": "A diver."}'
    assert reply.reasoning == "Hm."


THOUGHTS: dict[str, tuple[str, dict[str, Any]]] = {
    "in the text": (f"<think>\nHm.\n</think>{GOOD}", {}),
    "vLLM's": (GOOD, {"reasoning_content": "Hm."}),
    "OpenRouter's": (GOOD, {"reasoning": "Hm."}),
    "in details": (GOOD, {"reasoning_details": [{"type": "reasoning.text", "text": "Hm."}]}),
    "a field and the text": (f"<think>Hm.</think>{GOOD}", {"reasoning_content": "Hm."}),
}


@pytest.mark.parametrize(("text", "more"), THOUGHTS.values(), ids=THOUGHTS)
def test_thoughts_are_kept_apart_from_the_answer(text: str, more: dict[str, Any]) -> None:
    with serve(chat(text, **more)) as server:
        [reply] = ask(DirectChatClient(api_base=server.url), request_to("openai/served"))
    assert (reply.text.strip(), reply.reasoning) == (GOOD, "Hm.")


@pytest.mark.parametrize("name", ["in the text", "vLLM's", "a field and the text"])
def test_both_clients_keep_the_same_thoughts(name: str) -> None:
    text, more = THOUGHTS[name]
    with serve(chat(text, **more)) as server:
        replies = [
            ask(client(api_base=server.url), request_to("hosted_vllm/served"))[0].reasoning
            for client in CLIENTS
        ]
    assert replies == ["Hm.", "Hm."]


def test_an_answer_without_thoughts_has_none() -> None:
    with serve(chat(GOOD, reasoning_content=None)) as server:
        [reply] = ask(DirectChatClient(api_base=server.url), request_to("openai/served"))
    assert reply.reasoning == ""


def test_the_thoughts_of_an_answer_are_journaled(tmp_path: Path) -> None:
    with serve(chat(GOOD, reasoning_content="Hm.")) as server:
        call = buy_one(DirectChatClient(api_base=server.url), request_to("openai/served"), tmp_path)
    assert (call.status, call.response, call.reasoning) == ("ok", GOOD, "Hm.")


def test_the_tokens_that_deepseek_found_in_its_cache_are_counted_by_both() -> None:
    usage = {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}
    message = {"role": "assistant", "content": GOOD}
    choice = {"index": 0, "finish_reason": "stop", "message": message}
    reply = completion([choice], {**usage, "prompt_cache_hit_tokens": 6})
    with serve(reply) as server:
        assert both(server, "deepseek/deepseek-chat") == [(ChatReply(GOOD, "stop", 9, 6, 4),)] * 2


@pytest.mark.parametrize(("code", "kind"), [(429, CallErrorKind.RATE), (503, TRANSIENT)])
def test_an_error_with_a_status_of_200_is_an_error(code: int, kind: CallErrorKind) -> None:
    body = json.dumps({"error": {"message": "Provider returned error", "code": code}})
    with serve(Reply(200, body.encode())) as server:
        direct, litellm = both(server, "openrouter/qwen/qwen3-8b")
    assert direct[0] is litellm[0] is kind


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("model", LIBRARIES)
@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (refuse(401, "Incorrect key"), "HTTP 401: Incorrect key"),
        (Reply(400, b'{"detail": "bad field"}'), "HTTP 400: bad field"),
        (Reply(404, b'{"error": "model not found"}'), "HTTP 404: model not found"),
        (Reply(400, b'[{"error": {"message": "listed"}}]'), "HTTP 400: listed"),
        (Reply(500, b"a" * 1000), "HTTP 500: " + "a" * 290),
        (
            Reply(502, b"<html><style>b{}</style><h1>Bad\nGateway</h1></html>"),
            "HTTP 502: Bad Gateway",
        ),
    ],
    ids=["OpenAI", "FastAPI", "Ollama", "Google", "long", "page"],
)
def test_an_error_has_the_provider_s_words(
    client: Kind, model: str, reply: Reply, message: str
) -> None:
    with serve(reply) as server, pytest.raises(CallError) as caught:
        ask(client(api_base=server.url), request_to(model))
    assert str(caught.value) == message


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("model", LIBRARIES)
@pytest.mark.parametrize("is_ours", [True, False])
@pytest.mark.parametrize(
    "reply",
    [
        refuse(401, f"Incorrect API key {KEY}"),
        refuse(500, f"Bearer {KEY}"),
        Reply(400, f"{'a' * 280}{KEY}".encode()),
        Reply(200, f"<html>{KEY}".encode()),
        Reply(200, json.dumps({"error": {"message": KEY, "code": 500}}).encode()),
    ],
    ids=["401", "500", "at the cut", "not JSON", "in a 200"],
)
def test_no_error_shows_the_key(
    client: Kind,
    model: str,
    reply: Reply,
    monkeypatch: pytest.MonkeyPatch,
    *,
    is_ours: bool,
) -> None:
    monkeypatch.setenv("SOME_API_KEY", "" if is_ours else KEY)
    key = f"{KEY}\n" if is_ours else None
    with serve(reply) as server, pytest.raises(CallError) as caught:
        ask(client(api_base=server.url, api_key=key), request_to(model))
    assert KEY[:10] not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("provider", [name for name in HOSTED if name != "llamafile"])
def test_a_missing_key_is_fatal_and_its_variable_is_named(
    provider: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    variable = f"{provider.upper()}_API_KEY"
    monkeypatch.delenv(variable, raising=False)
    with pytest.raises(CallError, match=variable) as caught:
        ask(DirectChatClient(), request_to(MODELS[provider]))
    assert caught.value.kind is CallErrorKind.FATAL


@pytest.mark.parametrize("provider", ["hosted_vllm", "lm_studio", "custom_openai"])
def test_ones_own_server_needs_an_address_and_is_never_sought_at_openai(provider: str) -> None:
    client = DirectChatClient(api_key="some-key")
    with pytest.raises(CallError, match=f"no address for {provider}") as caught:
        ask(client, request_to(MODELS[provider]))
    assert caught.value.kind is CallErrorKind.FATAL


def test_a_model_of_the_responses_api_is_left_to_litellm(monkeypatch: pytest.MonkeyPatch) -> None:
    async def complete(_client: LiteLLMChatClient, request: ChatRequest, _: Dialect) -> ChatReply:
        return ChatReply(request.model)

    monkeypatch.setattr(LiteLLMChatClient, "complete_in", complete)
    for model in ("openai/responses/gpt-4.1-mini", "openai/o1-pro", "anthropic/claude"):
        client = DirectChatClient(api_base="http://127.0.0.1:1/v1")
        assert ask(client, request_to(model)) == [ChatReply(model)]


@pytest.mark.parametrize("model", ["openai/gpt-5-mini", "openai/o3-mini"])
def test_sampling_that_a_model_does_not_take_is_left_out_by_both(model: str) -> None:
    with serve(chat(GOOD)) as server:
        both(server, model)
    for sent in server.sent:
        assert not sent.body.keys() & {"temperature", "top_p", "max_tokens"}
        assert sent.body["max_completion_tokens"] == request_to(model).sampling.max_tokens
        assert sent.body["response_format"]["type"] == "json_schema"


@pytest.mark.parametrize(
    ("model", "client"),
    [
        ("openai/gpt-4.1", DirectChatClient),
        ("gpt-4.1", DirectChatClient),
        ("groq/qwen", DirectChatClient),
        ("anthropic/claude", LiteLLMChatClient),
        ("ollama_chat/qwen", LiteLLMChatClient),
        ("xai/grok", LiteLLMChatClient),
        ("meta-llama/Llama-3", LiteLLMChatClient),
    ],
)
def test_the_provider_decides_who_sends(model: str, client: type) -> None:
    opened = open_served_client(model, api_base=None, api_key=None, max_concurrency=7, timeout=9.0)
    assert type(opened) is client
    assert opened.max_concurrency == 7


def test_nothing_heavy_is_imported_before_the_first_call() -> None:
    code = (
        "import sys, persona_pipeline.llm.clients.served;"
        "import persona_pipeline.llm.clients.litellm_client;"
        "from persona_pipeline.llm.clients.direct import open_served_client as o;"
        "o('gpt-4.1', api_base=None, api_key=None, max_concurrency=1, timeout=1.0);"
        "print(sorted({'litellm', 'openai', 'aiohttp', 'httpx'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_one_client_serves_two_event_loops_in_turn_and_leaves_nothing_open() -> None:
    request = request_to("openai/served")
    with serve(chat(GOOD), keeps_alive=True) as server:
        client = DirectChatClient(api_base=server.url)
        for _ in range(2):
            assert asyncio.run(client.complete(request)).text == GOOD
        assert ask(client, request, request)[1].text == GOOD
        asyncio.run(client.close())
        gc.collect()
    assert len({sent.port for sent in server.sent}) == 3


def test_one_client_serves_event_loops_in_several_threads_at_once() -> None:
    def in_a_thread(_: int) -> str:
        return ask(client, *[request_to("openai/served")] * 5)[-1].text

    with serve(chat(GOOD), keeps_alive=True) as server:
        client = DirectChatClient(api_base=server.url)
        with ThreadPoolExecutor(8) as threads:
            assert set(threads.map(in_a_thread, range(40))) == {GOOD}
        gc.collect()
    assert len(server.sent) == 200


def test_a_proxy_is_used_as_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    with serve(chat(GOOD)) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url.removesuffix("/v1"))
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        client = DirectChatClient(api_base="http://model.invalid/v1")
        [reply] = ask(client, request_to("openai/served"))
        with serve(chat(GOOD)) as near:
            ask(DirectChatClient(api_base=near.url), request_to("openai/served"))
    assert reply.text == GOOD
    assert [sent.path for sent in proxy.sent] == ["http://model.invalid/v1/chat/completions"]


def test_a_request_is_not_changed_by_sending_it() -> None:
    request = request_to("openai/served")
    with serve(chat(GOOD)) as server:
        ask(DirectChatClient(api_base=server.url), request, request)
    assert request == request_to("openai/served")
    assert all(one.body == other.body for one, other in pairwise(server.sent))


def test_the_version_of_litellm_is_the_one_that_was_read() -> None:
    assert importlib.metadata.version("litellm") == "1.106.2", MOVED


@pytest.mark.parametrize(
    ("path", "parameters"),
    [
        ("get_llm_provider", {"model", "api_base", "api_key"}),
        ("main.responses_api_bridge_check", {"model", "custom_llm_provider", "api_base"}),
        ("utils.ProviderConfigManager.get_provider_chat_config", {"model", "provider"}),
        (
            "utils.get_optional_params",
            {"model", "custom_llm_provider", "messages", "max_retries", "temperature", "top_p"}
            | {"max_tokens", "response_format"},
        ),
        ("OpenAIGPTConfig.get_api_base", {"api_base"}),
        ("OpenAIGPTConfig.transform_request", {"model", "messages", "optional_params"}),
        ("OpenAIGPTConfig.get_complete_url", {"api_base", "api_key", "model", "stream"}),
        ("OpenAIGPTConfig.validate_environment", {"headers", "model", "api_key", "api_base"}),
        ("llms.custom_httpx.http_handler.get_ssl_configuration", set()),
    ],
)
def test_what_is_used_of_litellms_inside_is_still_there(path: str, parameters: set[str]) -> None:
    matches = import_litellm()
    for name in path.split("."):
        assert hasattr(matches, name), f"{path} is gone. {MOVED}"
        matches = getattr(matches, name)
    assert parameters <= set(inspect.signature(matches).parameters), f"{path}. {MOVED}"
