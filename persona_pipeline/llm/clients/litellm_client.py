"""Call any served model by its LiteLLM name."""

import os
import re
from collections.abc import Mapping
from functools import cache, partial
from typing import Any

from persona_pipeline.llm.clients.dialect import (
    Dialect,
    Dialects,
    extra_params,
    messages_in,
    request_params,
)
from persona_pipeline.llm.clients.error_bodies import read_error
from persona_pipeline.llm.clients.redirects import CHAT_PATH, Redirects
from persona_pipeline.llm.clients.served import (
    SAMPLING,
    STATUSES,
    class_names,
    error_chain,
    read_reply,
    refused,
    refused_in_answer,
    shown,
    unanswered,
    without_markup,
)
from persona_pipeline.llm.errors import CallError, CallErrorKind
from persona_pipeline.llm.requests import ChatReply, ChatRequest

NO_PROVIDER = "LLM Provider NOT provided"
"""What LiteLLM's message says of a name without a provider."""
UNUSABLE = (
    "Unmapped LLM provider",
    "Missing credentials",
    "No module named",
)
"""LiteLLM's messages, with a status of 400 or 500, for a provider without chat, a missing key, and
a provider whose own library is not installed."""
PROVIDER_FIRST = (
    "its name does not begin with a provider that LiteLLM knows: write openai/NAME for a server "
    "that speaks OpenAI's protocol, with its --api-base, or a provider's own name such as "
    "hosted_vllm/NAME, ollama/NAME or anthropic/NAME"
)
NAMES = {
    "ContextWindowExceededError": CallErrorKind.PERMANENT,
    "ContentPolicyViolationError": CallErrorKind.PERMANENT,
    "UnsupportedParamsError": CallErrorKind.FATAL,
}
"""Errors whose status says less than their name."""
PREFIX = re.compile(r"\A(litellm\.)?(\w+(Error|Timeout): |Timeout Error: )*(\w+Exception - )?")
"""Matches what LiteLLM puts before the messages of others."""


class LiteLLMChatClient:
    """Call `litellm.acompletion`, with its retries, caches and logging switched off."""

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
        self._settings = {"timeout": timeout, "max_retries": 0, "num_retries": 0}
        self._api_key = (api_key or "").strip() or None
        self._endpoint = {"api_base": api_base, "api_key": self._api_key or (api_base and "none")}
        self._is_own_server = api_base is not None
        self._redirects = Redirects(api_base, CHAT_PATH)

    async def complete(self, request: ChatRequest, *, attempt: int = 0) -> ChatReply:  # noqa: ARG002 - the protocol's
        """Return one answer. Every error is translated here, once."""
        return await self._dialects.ask(request.model, partial(self.complete_in, request))

    async def complete_in(self, request: ChatRequest, dialect: Dialect) -> ChatReply:
        """Return one answer to the request in this dialect.

        Raises:
            CallError: there is none.
        """
        litellm = import_litellm()
        asked = {
            "model": request.model,
            "messages": list(messages_in(dialect, request)),
            **request_params(request, dialect, is_own_server=self._is_own_server),
            **extra_params(request, dialect),
        }
        try:
            try:
                response = await self._ask(asked)
            except litellm.UnsupportedParamsError:  # raised before anything is sent
                response = await self._ask({**asked, "additional_drop_params": SAMPLING})
        except litellm.exceptions.openai.OpenAIError as error:  # the base of all errors of LiteLLM
            failure = translate(error, self._api_key)  # its text may contain the key
            raise await self._redirects.explain(failure) from None
        answer = response.model_dump()
        if refusal := refused_in_answer(answer, self._api_key):
            raise refusal
        return read_reply(answer)

    async def _ask(self, asked: Mapping[str, Any]) -> Any:  # noqa: ANN401 - LiteLLM's types are partial
        return await import_litellm().acompletion(**asked, **self._settings, **self._endpoint)

    async def close(self) -> None:
        """Close the connections that LiteLLM keeps."""
        await import_litellm().close_litellm_async_clients()


def import_litellm() -> Any:  # noqa: ANN401 - LiteLLM's types are partial
    """Import LiteLLM and turn its own ideas off.

    This takes 3 seconds and 165 MB, so it happens only when LiteLLM is used.
    """
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # do not download prices
    os.environ.setdefault("LITELLM_MODE", "PRODUCTION")  # do not load .env
    import litellm  # noqa: PLC0415

    litellm.suppress_debug_info = True
    litellm.drop_params = False  # a response_format that is dropped must be an error
    litellm.turn_off_message_logging = True
    vars(litellm)["DEFAULT_MAX_RETRIES"] = 0  # embeddings take `max_retries=0` for this default
    return litellm


def is_reasoning_model(model: str, *, is_asked_to: bool = False) -> bool:
    """Return whether LiteLLM's list says that the model thinks before it answers.

    A server of one's own is known by the last part of the model's name. Claude thinks only if it
    is asked to.
    """
    name = _short_name(model)
    return name in _reasoning_models() and (is_asked_to or not name.startswith("claude"))


@cache
def _reasoning_models() -> frozenset[str]:
    listed: Mapping[str, Mapping[str, Any]] = import_litellm().model_cost
    return frozenset(
        _short_name(name) for name, about in listed.items() if about.get("supports_reasoning")
    )


def _short_name(model: str) -> str:
    """Return `gpt-oss-20b` for `openrouter/openai/gpt-oss-20b:free`."""
    *_, last = model.split("/")
    return last.partition(":")[0].partition("@")[0].lower()


def translate(error: Exception, api_key: str | None = None) -> CallError:
    """Translate LiteLLM's exception to a `CallError`, by the HTTP answer it came from, if any."""
    for link in error_chain(error):
        if "HTTPStatusError" in class_names(link):
            response: Any = getattr(link, "response", None)
            refusal = refused(response.status_code, response.headers, response.text, api_key)
            refusal.answer = response.text
            return refusal
    message = without_markup(PREFIX.sub("", str(error)))
    if NO_PROVIDER in message:
        return CallError(CallErrorKind.FATAL, PROVIDER_FIRST)
    if read_error({"message": message}).is_unpaid:
        return CallError(CallErrorKind.FATAL, shown(message, api_key), is_unpaid=True)
    kind = _kind(error)
    if kind is CallErrorKind.TRANSIENT:
        return unanswered(error, message, api_key)
    return CallError(kind, shown(message, api_key))


def _kind(error: Exception) -> CallErrorKind:
    """Return the kind of an error from before sending, or from an answer of status 200."""
    if any(sign in str(error) for sign in UNUSABLE):
        return CallErrorKind.FATAL
    by_status = STATUSES.get(getattr(error, "status_code", None), CallErrorKind.TRANSIENT)
    return NAMES.get(type(error).__name__, by_status)
