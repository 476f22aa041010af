"""Call OpenAI-compatible servers: LiteLLM decides what is sent, and aiohttp sends it.

A call takes a tenth of the CPU time of `litellm.acompletion`. This uses internals of LiteLLM, whose
version is pinned: `tests/llm/test_direct.py` compares the requests of both.
"""

import asyncio
import json
import os
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from persona_pipeline.llm.client import ChatClient
from persona_pipeline.llm.clients.litellm_client import LiteLLMChatClient, import_litellm, translate
from persona_pipeline.llm.clients.served import (
    SAMPLING,
    read_reply,
    refused,
    refused_in_answer,
    request_params,
    unanswered,
    without_markup,
)
from persona_pipeline.llm.clients.sessions import account_headers, open_session, proxy_of
from persona_pipeline.llm.errors import CallError, CallErrorKind
from persona_pipeline.llm.requests import ChatReply, ChatRequest, Message, Sampling

if TYPE_CHECKING:
    from aiohttp import ClientSession


DIRECT_PROVIDERS = (
    "openai",
    "hosted_vllm",
    "lm_studio",
    "llamafile",
    "custom_openai",
    "openrouter",
    "together_ai",
    "groq",
    "deepseek",
    "mistral",
    "fireworks_ai",
    "perplexity",
)
"""LiteLLM's names. The tests prove for each that both clients send and read the same. Not xai,
whose token counts LiteLLM rewrites."""
ADDRESSES = {"openrouter": "https://openrouter.ai/api/v1"}
"""Addresses where `get_llm_provider` returns none."""

SENT_PARAMS = {"temperature", "top_p", "max_tokens", "max_completion_tokens", "response_format"}
LITELLM_PARAMS = {"max_retries", "fake_stream", "extra_body"}
"""Parameters that LiteLLM removes before it sends the rest."""

ROUTES = 1024
"""The most combinations of model, sampling and schema whose routes are cached."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Hold what a model's name stands for: its provider, its address, and its key."""

    name: str
    provider: str
    address: str
    key: str


@dataclass(frozen=True, slots=True)
class _Route:
    """Hold what calls with the same model, sampling and schema have in common."""

    model: str
    config: Any
    url: str
    proxy: str | None
    headers: dict[str, str]
    params: dict[str, Any]

    def body(self, messages: Sequence[Message]) -> bytes:
        """Return the request in the provider's form."""
        turns = [{**message} for message in messages]
        sent = self.config.transform_request(
            self.model, turns, {**self.params}, {}, {**self.headers}
        )
        return json.dumps(sent).encode()


@dataclass(frozen=True, slots=True)
class _Opened:
    """Hold the connections of one event loop. Closing `lifetime` closes them."""

    session: "ClientSession"
    lifetime: AsyncGenerator["ClientSession", None]


class DirectChatClient:
    """Call the servers of `DIRECT_PROVIDERS`, and leave all others to LiteLLM."""

    def __init__(
        self,
        *,
        api_base: str | None = None,
        api_key: str | None = None,
        max_concurrency: int = 32,
        timeout: float = 120.0,
    ) -> None:
        """Take the server's address and key.

        `timeout`: seconds for one answer. Without a key, the provider's environment variable is
        read.
        """
        self.max_concurrency = max_concurrency
        self._api_base = api_base
        self._api_key = (api_key or "").strip() or None
        self._timeout = timeout
        self._routes: dict[tuple[str, Sampling, str], _Route | None] = {}
        self._opened: dict[asyncio.AbstractEventLoop, _Opened] = {}
        self._uses_litellm = False
        self._litellm_client = LiteLLMChatClient(
            api_base=api_base, api_key=api_key, max_concurrency=max_concurrency, timeout=timeout
        )

    async def complete(self, request: ChatRequest, *, attempt: int = 0) -> ChatReply:
        """Return one answer. Every error is a `CallError`."""
        route = self._route(request)
        if route is None:
            self._uses_litellm = True
            return await self._litellm_client.complete(request, attempt=attempt)
        return self._read(await self._send(route, route.body(request.messages)))

    def body_of(self, request: ChatRequest) -> bytes | None:
        """Return the body to send for the request, or None if LiteLLM sends it in its own way."""
        route = self._route(request)
        return None if route is None else route.body(request.messages)

    async def close(self) -> None:
        """Close this event loop's connections."""
        opened = self._opened.pop(asyncio.get_running_loop(), None)
        if opened is not None:
            await opened.lifetime.aclose()
        if self._uses_litellm:
            await self._litellm_client.close()

    def _route(self, request: ChatRequest) -> _Route | None:
        """Return the route of such requests, resolved once, or None if LiteLLM must send them."""
        alike = (request.model, request.sampling, request.schema_json)
        if alike not in self._routes:
            if len(self._routes) >= ROUTES:
                self._routes.clear()
            self._routes[alike] = self._resolve(request)
        return self._routes[alike]

    def _resolve(self, request: ChatRequest) -> _Route | None:
        litellm = import_litellm()
        is_own_server = self._api_base is not None
        asked = request_params(
            request.model, request.sampling, request.schema, is_own_server=is_own_server
        )
        try:
            return _find_route(request.model, asked, self._api_base, self._api_key)
        except litellm.exceptions.openai.OpenAIError as error:
            raise translate(error, self._api_key) from None

    async def _send(self, route: _Route, body: bytes) -> bytes:
        import aiohttp  # noqa: PLC0415 - 0.3 seconds

        session = await self._session()
        try:
            async with session.post(
                route.url, data=body, headers=route.headers, proxy=route.proxy
            ) as response:
                answer = await response.read()
        except (aiohttp.ClientError, OSError) as error:
            words = str(error) or f"no answer within {self._timeout:g} seconds"
            raise unanswered(error, f"{type(error).__name__}: {words}", self._api_key) from None
        if not response.ok:
            text = answer.decode("utf-8", "replace")
            raise refused(response.status, response.headers, text, self._api_key)
        return answer

    def _read(self, body: bytes) -> ChatReply:
        try:
            answer = json.loads(body)
        except (ValueError, RecursionError) as error:
            words = without_markup(body.decode("utf-8", "replace"))
            message = f"the server's answer is not JSON: {words}"
            raise unanswered(error, message, self._api_key) from None
        if refusal := refused_in_answer(answer, self._api_key):
            raise refusal
        return read_reply(answer)

    async def _session(self) -> "ClientSession":
        """Return the connections of the running event loop, and forget those of ended loops."""
        loop = asyncio.get_running_loop()
        if loop not in self._opened:
            for ended in [known for known in list(self._opened) if known.is_closed()]:
                self._opened.pop(ended, None)
            lifetime = open_session(self._timeout)
            self._opened[loop] = _Opened(await anext(lifetime), lifetime)
        return self._opened[loop].session


def open_served_client(
    model: str, *, api_base: str | None, api_key: str | None, max_concurrency: int, timeout: float
) -> ChatClient:
    """Open the cheapest client that can call the model. Names without a provider are looked up."""
    provider, slash, _ = model.partition("/")
    is_direct = provider in DIRECT_PROVIDERS or not slash
    return (DirectChatClient if is_direct else LiteLLMChatClient)(
        api_base=api_base, api_key=api_key, max_concurrency=max_concurrency, timeout=timeout
    )


def _find_route(
    model: str, asked: Mapping[str, Any], api_base: str | None, api_key: str | None
) -> _Route | None:
    """Repeat LiteLLM's steps before it sends a chat request, in its order.

    Return None if LiteLLM would send the request in another way.
    """
    endpoint = find_endpoint(model, api_base, api_key)
    if endpoint is None:
        return None
    litellm, name, provider = import_litellm(), endpoint.name, endpoint.provider
    config = litellm.utils.ProviderConfigManager.get_provider_chat_config(
        model=name, provider=litellm.LlmProviders(provider)
    )
    params = mapped_params(name, provider, asked)
    if params.keys() - SENT_PARAMS - LITELLM_PARAMS:
        return None  # tools instead of a schema: the answer is in another place
    url = config.get_complete_url(endpoint.address, endpoint.key, name, params, {}, stream=False)
    headers = config.validate_environment(
        headers=account_headers(provider),
        model=name,
        messages=[],
        optional_params=params,
        litellm_params={},
        api_key=endpoint.key,
        api_base=endpoint.address,
    )
    sent = {name: value for name, value in params.items() if name in SENT_PARAMS}
    return _Route(name, config, url, proxy_of(url), headers, sent)


def find_endpoint(model: str, api_base: str | None, api_key: str | None) -> Endpoint | None:
    """Return where the model answers, or None if that is no OpenAI-compatible chat route."""
    known_key = api_key or (api_base and "none")
    name, provider, key, base = import_litellm().get_llm_provider(
        model, api_base=api_base, api_key=known_key
    )
    if provider not in DIRECT_PROVIDERS or _is_bridged(name, provider, base):
        return None
    key = (key or known_key or _key_in_environment(provider)).strip()
    return Endpoint(name, provider, _address_of(provider, base), key)


def mapped_params(name: str, provider: str, asked: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters under the model's names, without sampling that it does not allow."""
    litellm = import_litellm()
    options = {"messages": [], "max_retries": 0, "stream": None, **asked}
    find = partial(litellm.utils.get_optional_params, model=name, custom_llm_provider=provider)
    try:
        params: dict[str, Any] = find(**options)
    except litellm.UnsupportedParamsError:
        params = find(**options, additional_drop_params=SAMPLING)
    return params


def _is_bridged(name: str, provider: str, api_base: str | None) -> bool:
    """Return whether LiteLLM sends this model's chats to the Responses API."""
    info, _ = import_litellm().main.responses_api_bridge_check(
        model=name, custom_llm_provider=provider, api_base=api_base
    )
    return bool(info.get("mode") == "responses")


def _key_in_environment(provider: str) -> str:
    variable = f"{provider.upper()}_API_KEY"
    key = os.environ.get(variable, "")
    if not key.strip():
        raise CallError(CallErrorKind.FATAL, f"no API key for {provider}: set {variable}")
    return key


def _address_of(provider: str, base: str | None) -> str:
    """Return the server's address.

    For one's own server it is never OpenAI's, which is LiteLLM's fallback.
    """
    if provider == "openai":
        return str(import_litellm().OpenAIGPTConfig.get_api_base(base))
    known = base or os.environ.get(f"{provider.upper()}_API_BASE") or ADDRESSES.get(provider)
    if not known:
        raise CallError(CallErrorKind.FATAL, f"no address for {provider}: give --api-base")
    return known
