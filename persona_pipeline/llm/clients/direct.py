"""Call OpenAI-compatible servers: LiteLLM decides what is sent, and aiohttp sends it.

A call takes a tenth of the CPU time of `litellm.acompletion`. This uses internals of LiteLLM, whose
version is pinned: `tests/llm/test_direct.py` compares the requests of both.
"""

import asyncio
import json
from collections.abc import AsyncGenerator
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from persona_pipeline.hashing import canonical_json
from persona_pipeline.llm.client import ChatClient
from persona_pipeline.llm.clients.dialect import (
    Dialect,
    Dialects,
    extra_params,
    messages_in,
    request_params,
)
from persona_pipeline.llm.clients.litellm_client import LiteLLMChatClient, import_litellm, translate
from persona_pipeline.llm.clients.redirects import CHAT_PATH, Redirects
from persona_pipeline.llm.clients.routes import DIRECT_PROVIDERS, Route, find_route, renamed
from persona_pipeline.llm.clients.served import (
    read_reply,
    refused,
    refused_in_answer,
    unanswered,
    without_markup,
)
from persona_pipeline.llm.clients.sessions import open_session
from persona_pipeline.llm.requests import ChatReply, ChatRequest

if TYPE_CHECKING:
    from aiohttp import ClientSession


ROUTES = 1024
"""The most combinations of model, sampling and schema whose routes are cached."""


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
        dialects: Dialects | None = None,
    ) -> None:
        """Take the server's address and key.

        `timeout`: seconds for one answer. Without a key, the provider's environment variable is
        read. `dialects`: how each model is asked.
        """
        self._dialects = dialects or Dialects()
        self.max_concurrency = max_concurrency
        self._api_base = api_base
        self._api_key = (api_key or "").strip() or None
        self._timeout = timeout
        self._redirects = Redirects(api_base, CHAT_PATH)
        self._routes: dict[tuple[object, ...], Route | None] = {}
        self._opened: dict[asyncio.AbstractEventLoop, _Opened] = {}
        self._uses_litellm = False
        self._litellm_client = LiteLLMChatClient(
            api_base=api_base,
            api_key=api_key,
            max_concurrency=max_concurrency,
            timeout=timeout,
            dialects=self._dialects,
        )

    async def complete(self, request: ChatRequest, *, attempt: int = 0) -> ChatReply:  # noqa: ARG002 - the protocol's
        """Return one answer. Every error is a `CallError`."""
        return await self._dialects.ask(request.model, partial(self._complete_in, request))

    async def _complete_in(self, request: ChatRequest, dialect: Dialect) -> ChatReply:
        route = self._route(request, dialect)
        if route is None:
            self._uses_litellm = True
            return await self._litellm_client.complete_in(request, dialect)
        body = route.body(messages_in(dialect, request))
        return self._read(await self._send(route, body))

    def body_of(self, request: ChatRequest) -> bytes | None:
        """Return the body to send for the request, or None if LiteLLM sends it in its own way."""
        dialect = self._dialects.of(request.model)
        route = self._route(request, dialect)
        return None if route is None else route.body(messages_in(dialect, request))

    async def close(self) -> None:
        """Close this event loop's connections."""
        opened = self._opened.pop(asyncio.get_running_loop(), None)
        if opened is not None:
            await opened.lifetime.aclose()
        if self._uses_litellm:
            await self._litellm_client.close()

    def _route(self, request: ChatRequest, dialect: Dialect) -> Route | None:
        """Return the route of such requests, resolved once, or None if LiteLLM must send them."""
        parameters = canonical_json(request.parameters) if request.parameters else ""
        alike = (request.model, request.sampling, request.schema_json, parameters, dialect)
        if alike not in self._routes:
            if len(self._routes) >= ROUTES:
                self._routes.clear()
            self._routes[alike] = self._resolve(request, dialect)
        return self._routes[alike]

    def _resolve(self, request: ChatRequest, dialect: Dialect) -> Route | None:
        litellm = import_litellm()
        is_own_server = self._api_base is not None
        asked = request_params(request, dialect, is_own_server=is_own_server)
        try:
            route = find_route(request.model, asked, self._api_base, self._api_key)
        except litellm.exceptions.openai.OpenAIError as error:
            raise translate(error, self._api_key) from None
        if route is None:
            return None
        params = renamed(route.params, dialect) | extra_params(request, dialect)
        sent = {name: value for name, value in params.items() if value is not None}
        return replace(route, params=sent)

    async def _send(self, route: Route, body: bytes) -> bytes:
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
            refusal = refused(response.status, response.headers, text, self._api_key)
            refusal.answer = text
            raise await self._redirects.explain(refusal)
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


def open_served_client(  # noqa: PLR0913 - all that a client takes
    model: str,
    *,
    api_base: str | None,
    api_key: str | None,
    max_concurrency: int,
    timeout: float,
    dialects: Dialects | None = None,
) -> ChatClient:
    """Open the cheapest client that can call the model. Names without a provider are looked up."""
    provider, slash, _ = model.partition("/")
    is_direct = provider in DIRECT_PROVIDERS or not slash
    return (DirectChatClient if is_direct else LiteLLMChatClient)(
        api_base=api_base,
        api_key=api_key,
        max_concurrency=max_concurrency,
        timeout=timeout,
        dialects=dialects,
    )
