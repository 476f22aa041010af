"""Any served model, by its LiteLLM name."""

import os
from collections.abc import Mapping
from typing import Any

from pydantic import JsonValue

from persona_pipeline.llm.errors import CallError, CallErrorKind
from persona_pipeline.llm.requests import ChatReply, ChatRequest

SELF_HOSTED = ("hosted_vllm/", "ollama/", "ollama_chat/", "lm_studio/", "llamafile/")
"""Servers whose structured output takes the whole of JSON Schema; the others get it without
bounds on length, which hosted providers refuse; we check these bounds on the answer ourselves."""
SHORTEST_KEY = 6
"""Shorter values ("none", "test") are words, not secrets."""
BOUNDS = {"minLength", "maxLength", "minItems", "maxItems", "pattern"}

UNUSABLE = ("LLM Provider NOT provided", "Missing credentials")
"""What LiteLLM says, with a status of 400 or 500, of a name without a provider and of no key."""
STATUSES: dict[int | None, CallErrorKind] = {
    400: CallErrorKind.PERMANENT,
    401: CallErrorKind.FATAL,
    402: CallErrorKind.FATAL,
    403: CallErrorKind.FATAL,
    404: CallErrorKind.FATAL,
    413: CallErrorKind.PERMANENT,
    422: CallErrorKind.PERMANENT,
    429: CallErrorKind.RATE,
}
"""All others are trouble that passes."""
NAMES = {
    "ContextWindowExceededError": CallErrorKind.PERMANENT,
    "ContentPolicyViolationError": CallErrorKind.PERMANENT,
    "UnsupportedParamsError": CallErrorKind.FATAL,
}
"""Errors whose status says less than their name."""


class LiteLLMChatClient:
    """Calls `litellm.acompletion`, with its retries, caches and logging switched off."""

    def __init__(
        self,
        *,
        api_base: str | None = None,
        api_key: str | None = None,
        max_concurrency: int = 32,
        timeout: float = 120.0,
    ) -> None:
        """`timeout`: seconds for one answer. Without a key the provider's variable is read."""
        self.max_concurrency = max_concurrency
        self._settings = {"timeout": timeout, "max_retries": 0, "num_retries": 0}
        self._endpoint = {"api_base": api_base, "api_key": api_key or (api_base and "none")}
        self._api_key = api_key
        self._whole_schema = api_base is not None

    async def complete(self, request: ChatRequest, *, attempt: int = 0) -> ChatReply:  # noqa: ARG002 - the protocol's
        """One answer; every error is translated here, once."""
        litellm = import_litellm()
        try:
            response = await litellm.acompletion(
                model=request.model,
                messages=list(request.messages),
                temperature=request.sampling.temperature,
                top_p=request.sampling.top_p,
                max_tokens=request.sampling.max_tokens,
                response_format=self._response_format(request),
                **self._settings,
                **self._endpoint,
            )
        except litellm.exceptions.openai.OpenAIError as error:  # the base of all of LiteLLM's own
            raise translate(error, self._api_key) from None  # its text may hold the key
        return _reply(response)

    async def close(self) -> None:
        """Close the connections LiteLLM keeps."""
        await import_litellm().close_litellm_async_clients()

    def _response_format(self, request: ChatRequest) -> dict[str, Any]:
        whole = self._whole_schema or request.model.startswith(SELF_HOSTED)
        schema = request.schema if whole else without_bounds(request.schema)
        return {
            "type": "json_schema",
            "json_schema": {"name": "answer", "schema": schema, "strict": True},
        }


def import_litellm() -> Any:  # noqa: ANN401 - LiteLLM's types are partial
    """LiteLLM, set up to do what it is told; 3 seconds and 165 MB, so only when it is used."""
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # no download of a price list
    os.environ.setdefault("LITELLM_MODE", "PRODUCTION")  # no .env of its own
    import litellm  # noqa: PLC0415

    litellm.suppress_debug_info = True
    litellm.drop_params = False  # a response_format that is dropped must be an error
    litellm.turn_off_message_logging = True
    return litellm


def without_bounds(schema: JsonValue) -> JsonValue:
    """The schema without the keywords that hosted providers refuse."""
    if isinstance(schema, Mapping):
        fields = schema.get("properties")
        rest = {key: without_bounds(value) for key, value in schema.items() if key not in BOUNDS}
        if not isinstance(fields, Mapping):
            return rest
        return {**rest, "properties": {name: without_bounds(fields[name]) for name in fields}}
    return [without_bounds(item) for item in schema] if isinstance(schema, list) else schema


def translate(error: Exception, api_key: str | None = None) -> CallError:
    """LiteLLM's exception as one of our five kinds; some servers repeat the key, we do not."""
    message = str(error)
    for key in _known_keys(api_key):
        message = message.replace(key, "(api_key)")
    return CallError(_kind(error), message, retry_after=_retry_after(error))


def _known_keys(api_key: str | None) -> set[str]:
    """Ours, and those in the environment that LiteLLM reads itself."""
    keys = {value for name, value in os.environ.items() if name.endswith("_API_KEY")}
    return {key for key in (*keys, api_key) if key and len(key) >= SHORTEST_KEY}


def _kind(error: Exception) -> CallErrorKind:
    no_credit = "insufficient_quota" in str(getattr(error, "body", ""))
    if no_credit or any(sign in str(error) for sign in UNUSABLE):
        return CallErrorKind.FATAL
    by_status = STATUSES.get(getattr(error, "status_code", None), CallErrorKind.TRANSIENT)
    return NAMES.get(type(error).__name__, by_status)


def _retry_after(error: Exception) -> float | None:
    headers = getattr(error, "litellm_response_headers", None) or {}
    try:
        return float(headers.get("retry-after", ""))
    except ValueError:
        return None


def _reply(response: Any) -> ChatReply:  # noqa: ANN401 - LiteLLM's types are partial
    if not response.choices:
        raise CallError(CallErrorKind.TRANSIENT, "the server's answer holds no choices")
    choice, usage = response.choices[0], response.usage
    more = getattr(choice.message, "provider_specific_fields", None) or {}
    refusal = more.get("refusal")
    details = getattr(usage, "prompt_tokens_details", None)
    return ChatReply(
        text=choice.message.content or refusal or "",
        finish_reason="refused" if refusal else (choice.finish_reason or "stop"),
        tokens_in=usage.prompt_tokens or 0,
        tokens_cached=getattr(details, "cached_tokens", None) or 0,
        tokens_out=usage.completion_tokens or 0,
        cost_usd=response._hidden_params.get("response_cost"),  # noqa: SLF001 - where LiteLLM puts it
    )
