"""Resolve what a model's name stands for: server, address, key, and the form of a request.

This uses internals of LiteLLM, whose version is pinned: `tests/llm/test_direct.py` compares the
requests of both clients.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from persona_pipeline.llm.clients.dialect import BOUNDS_OF_TOKENS, Dialect
from persona_pipeline.llm.clients.litellm_client import import_litellm
from persona_pipeline.llm.clients.served import SAMPLING
from persona_pipeline.llm.clients.sessions import account_headers, proxy_of
from persona_pipeline.llm.errors import CallError, CallErrorKind
from persona_pipeline.llm.requests import Message

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


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Hold what a model's name stands for: its provider, its address, and its key."""

    name: str
    provider: str
    address: str
    key: str


@dataclass(frozen=True, slots=True)
class Route:
    """Hold what calls with the same model, sampling, schema and dialect have in common."""

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


def find_route(
    model: str, asked: Mapping[str, Any], api_base: str | None, api_key: str | None
) -> Route | None:
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
    return Route(name, config, url, proxy_of(url), headers, sent)


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


def renamed(params: Mapping[str, Any], dialect: Dialect) -> dict[str, Any]:
    """Return the parameters with the bound on tokens under the name that the server takes."""
    if not dialect.bound:
        return {**params}
    return {
        dialect.bound if name in BOUNDS_OF_TOKENS else name: value for name, value in params.items()
    }


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
