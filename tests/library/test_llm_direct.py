"""The direct client asks and answers as LiteLLM does, on a real server, at a tenth of its price."""

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
from typing import Any

import aiohttp
import pytest

from persona_pipeline.llm.client import ChatClient
from persona_pipeline.llm.clients.direct import (
    DIRECT_PROVIDERS,
    DirectChatClient,
    open_served_client,
)
from persona_pipeline.llm.clients.litellm_client import LiteLLMChatClient, import_litellm
from persona_pipeline.llm.errors import CallError, CallErrorKind
from persona_pipeline.llm.requests import ChatReply, ChatRequest, Sampling
from persona_pipeline.prompting import object_schema
from tests.library.faulty_server import (
    FaultyServer,
    Reply,
    Sent,
    chat,
    completion,
    no_choices,
    refuse,
    serve,
)

GOOD = '{"persona": "A lock keeper who times barges."}'
SCHEMA = object_schema({"persona": {"type": "string", "minLength": 3}})
KEY = "sk-canary-5f1d"
MODELS = {
    "openai": "openai/gpt-4.1-mini",
    "hosted_vllm": "hosted_vllm/Qwen/Qwen3-8B",
    "lm_studio": "lm_studio/qwen3-8b",
    "llamafile": "llamafile/mistral-7b",
    "custom_openai": "custom_openai/served",
    "openrouter": "openrouter/qwen/qwen3-8b",
    "together_ai": "together_ai/Qwen/Qwen2.5-7B-Instruct-Turbo",
    "groq": "groq/openai/gpt-oss-120b",
    "deepseek": "deepseek/deepseek-chat",
    "mistral": "mistral/mistral-small-latest",
    "fireworks_ai": "fireworks_ai/accounts/fireworks/models/qwen3-8b",
    "perplexity": "perplexity/sonar",
}
HOSTED = [name for name in MODELS if name not in {"hosted_vllm", "lm_studio", "custom_openai"}]
SPECIAL = [
    "openai/served",
    "openai/gpt-4o",
    "gpt-4.1-mini",
    "groq/llama-3.3-70b-versatile",  # LiteLLM makes a tool of the schema
]
Kind = type[DirectChatClient] | type[LiteLLMChatClient]
CLIENTS: list[Kind] = [DirectChatClient, LiteLLMChatClient]
TRANSIENT = CallErrorKind.TRANSIENT
MESSAGES = (
    {"role": "system", "content": "You write personas."},
    {"role": "user", "content": "Wer bist du? 🛶"},
    {"role": "assistant", "content": GOOD},
    {"role": "user", "content": "Another one."},
)


def request_to(model: str) -> ChatRequest:
    return ChatRequest(model, MESSAGES, SCHEMA, Sampling(0.4, 0.8, 99))


def ask(client: ChatClient, *requests: ChatRequest) -> list[ChatReply]:
    async def all_of_them() -> list[ChatReply]:
        try:
            return [await client.complete(request) for request in requests]
        finally:
            await client.close()

    return asyncio.run(all_of_them())


def outcome(client: ChatClient, model: str) -> tuple[object, ...]:
    """The reply, or what matters of the error."""
    try:
        return tuple(ask(client, request_to(model)))
    except CallError as error:
        return error.kind, error.retry_after, error.maybe_billed, error.is_timeout


def meaning(sent: Sent) -> tuple[object, ...]:
    headers = [sent.headers.get(name) for name in ("authorization", "content-type")]
    return sent.method, sent.path, sent.body, headers


def both(server: FaultyServer, model: str, timeout: float = 5.0) -> list[tuple[object, ...]]:
    return [
        outcome(client(api_base=server.url, api_key=KEY, timeout=timeout), model)
        for client in CLIENTS
    ]


def test_every_direct_provider_is_compared() -> None:
    assert set(MODELS) == set(DIRECT_PROVIDERS)


@pytest.mark.parametrize("model", [*MODELS.values(), *SPECIAL])
def test_both_clients_send_the_same_request_and_read_the_same_reply(model: str) -> None:
    with serve(chat(GOOD)) as server:
        replies = [
            ask(client(api_base=server.url, api_key=KEY), *[request_to(model)] * 2)
            for client in CLIENTS
        ]
    assert replies[0] == replies[1]
    first, second, third, fourth = map(meaning, server.sent)
    assert first == second == third == fourth


@pytest.mark.parametrize("variable", ["OPENAI_ORGANIZATION", "OPENAI_ORG_ID"])
def test_both_clients_tell_openai_who_pays(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, "org-1")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "project-1")
    with serve(chat(GOOD)) as server:
        both(server, MODELS["openai"])
    for sent in server.sent:
        assert sent.headers["openai-organization"] == "org-1"
        assert sent.headers["openai-project"] == "project-1"


@pytest.mark.parametrize("provider", HOSTED)
def test_both_clients_know_the_same_address_and_key_of_a_hosted_provider(
    provider: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    request = aiohttp.ClientSession._request  # noqa: SLF001 - the last step both take

    async def redirect(
        session: aiohttp.ClientSession,
        method: str,
        url: object,
        **options: Any,  # noqa: ANN401 - aiohttp's
    ) -> aiohttp.ClientResponse:
        asked.append(str(url))
        return await request(session, method, f"{server.url}/hosted", **options)

    monkeypatch.setattr(aiohttp.ClientSession, "_request", redirect)
    monkeypatch.setenv(f"{provider.upper()}_API_KEY", KEY)
    with serve(chat(GOOD)) as server:
        for client in CLIENTS:
            ask(client(), request_to(MODELS[provider]))
    assert asked[0] == asked[1]
    direct, litellm = map(meaning, server.sent)
    assert direct == litellm


REPLIES = {
    "plain": chat(GOOD),
    "refused": chat(None, refusal="I cannot help with that."),
    "empty": chat(""),
    "nothing": chat(None),
    "cut": chat(GOOD[:10], "length"),
    "filtered": chat(GOOD, "content_filter"),
    "eos": chat(GOOD, "eos"),
    "no reason": chat(GOOD, None),
    "thinking": chat(f"<think>Hm.</think>{GOOD}"),
    "half": chat("a\ud800b"),
    "no usage": completion([{"index": 0, "message": {"role": "assistant", "content": GOOD}}], None),
}
FAULTS: dict[str, tuple[Reply, tuple[object, ...]]] = {
    **{
        str(status): (refuse(status), (kind, None, False, status in {408, 504}))
        for kind, statuses in {
            CallErrorKind.FATAL: (401, 402, 403, 404),
            CallErrorKind.PERMANENT: (400, 413, 422),
            CallErrorKind.TRANSIENT: (408, 409, 500, 502, 503, 504, 529),
            CallErrorKind.RATE: (429,),
        }.items()
        for status in statuses
    },
    "after 3": (refuse(429, retry_after="3"), (CallErrorKind.RATE, 3.0, False, False)),
    "after ms": (
        refuse(429, retry_after_ms="1500", retry_after="2"),
        (CallErrorKind.RATE, 1.5, False, False),
    ),
    "after nan": (refuse(429, retry_after="nan"), (CallErrorKind.RATE, None, False, False)),
    "after -1": (refuse(429, retry_after="-1"), (CallErrorKind.RATE, 0.0, False, False)),
    "some day": (refuse(429, retry_after="some day"), (CallErrorKind.RATE, None, False, False)),
    "far day": (
        refuse(429, retry_after="Fri, 31 Dec 99999 23:59:59 GMT"),
        (CallErrorKind.RATE, None, False, False),
    ),
    "past": (refuse(429, retry_after=formatdate(0)), (CallErrorKind.RATE, 0.0, False, False)),
    "busy": (refuse(503, retry_after="7"), (TRANSIENT, 7.0, False, False)),
    "no credit": (
        Reply(429, b'{"error": {"message": "pay", "code": "insufficient_quota"}}'),
        (CallErrorKind.FATAL, None, False, False),
    ),
    "too long": (
        refuse(500, "This model's maximum context length is 10"),
        (CallErrorKind.PERMANENT, None, False, False),
    ),
    "forbidden": (
        Reply(400, b'{"error": {"message": "no", "code": "content_policy_violation"}}'),
        (CallErrorKind.PERMANENT, None, False, False),
    ),
    "page": (Reply(502, b"<html><h1>Bad Gateway</h1></html>"), (TRANSIENT, None, False, False)),
    "not JSON": (Reply(200, b"<html>not JSON"), (TRANSIENT, None, True, False)),
    "half a JSON": (Reply(200, b'{"choices": [{"mess'), (TRANSIENT, None, True, False)),
    "null": (Reply(200, b"null"), (TRANSIENT, None, True, False)),
    "no choices": (no_choices(), (TRANSIENT, None, True, False)),
    "reset": (Reply(200, b"", fault="reset"), (TRANSIENT, None, True, False)),
    "cut body": (Reply(200, b"{}", fault="cut"), (TRANSIENT, None, True, False)),
    "hang": (Reply(200, b"", fault="hang"), (TRANSIENT, None, True, True)),
}
LIBRARIES = ["openai/served", "hosted_vllm/served"]
"""LiteLLM's two ways to send a request."""


@pytest.mark.parametrize("model", [*LIBRARIES, "groq/openai/gpt-oss-120b", "mistral/small"])
@pytest.mark.parametrize("reply", REPLIES.values(), ids=REPLIES)
def test_both_clients_read_an_answer_alike(reply: Reply, model: str) -> None:
    with serve(reply) as server:
        direct, litellm = both(server, model)
    assert direct == litellm


@pytest.mark.parametrize("model", LIBRARIES)
@pytest.mark.parametrize(("reply", "expected"), FAULTS.values(), ids=FAULTS)
def test_both_clients_find_the_same_fault(
    reply: Reply, expected: tuple[object, ...], model: str
) -> None:
    with serve(reply) as server:
        timeout = 0.5 if reply.fault == "hang" else 5.0
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
    assert outcome(client(api_base=address, timeout=5), model) == (kind, None, False, False)


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
        found = outcome(DirectChatClient(api_base=server.url), "openai/served")
    assert found == (TRANSIENT, None, True, False)


@pytest.mark.parametrize("body", ["null", "5", "[]", '{"error": {"code": {}}}', '{"error": [1]}'])
def test_an_error_of_another_form_is_still_an_error(body: str) -> None:
    with serve(Reply(400, body.encode())) as server:
        found = outcome(DirectChatClient(api_base=server.url), "openai/served")
    assert found == (CallErrorKind.PERMANENT, None, False, False)


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
def test_an_error_says_what_the_provider_said(
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
    async def complete(_client: LiteLLMChatClient, request: ChatRequest, **_: int) -> ChatReply:
        return ChatReply(request.model)

    monkeypatch.setattr(LiteLLMChatClient, "complete", complete)
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


MOVED = (
    "LiteLLM's inside moved: read its changes, then adapt persona_pipeline/llm/clients/direct.py"
)


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
    found = import_litellm()
    for name in path.split("."):
        assert hasattr(found, name), f"{path} is gone. {MOVED}"
        found = getattr(found, name)
    assert parameters <= set(inspect.signature(found).parameters), f"{path}. {MOVED}"
