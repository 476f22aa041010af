"""Compare both clients of served models on one server."""

import asyncio
from email.utils import formatdate

from persona_pipeline.llm.client import ChatClient
from persona_pipeline.llm.clients.direct import DirectChatClient
from persona_pipeline.llm.clients.litellm_client import LiteLLMChatClient
from persona_pipeline.llm.errors import CallError, CallErrorKind
from persona_pipeline.llm.prompts import object_schema
from persona_pipeline.llm.requests import ChatReply, ChatRequest, Sampling
from tests.support.faulty_server import (
    FaultyServer,
    Reply,
    Sent,
    chat,
    completion,
    no_choices,
    refuse,
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
    """Return the reply, or what matters of the error."""
    try:
        return tuple(ask(client, request_to(model)))
    except CallError as error:
        return error.kind, error.retry_after, error.maybe_billed, error.is_timeout


def meaning(sent: Sent) -> tuple[object, ...]:
    headers = [sent.headers.get(name) for name in ("authorization", "content-type")]
    return sent.method, sent.path, sent.body, headers


def both(server: FaultyServer, model: str, timeout: float = 60.0) -> list[tuple[object, ...]]:
    return [
        outcome(client(api_base=server.url, api_key=KEY, timeout=timeout), model)
        for client in CLIENTS
    ]


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
"""The two ways in which LiteLLM sends a request."""


MOVED = (
    "LiteLLM's inside moved: read its changes, then adapt persona_pipeline/llm/clients/routes.py"
)
