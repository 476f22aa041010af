"""Share what all clients of served models need: parameters, replies and errors."""

import json
import math
import os
import re
import time
from collections.abc import Iterator, Mapping
from email.utils import mktime_tz, parsedate_tz
from typing import Any

from pydantic import JsonValue

from persona_pipeline.control_characters import clean_text
from persona_pipeline.llm.clients.error_bodies import ErrorBody, error_in_answer, read_error
from persona_pipeline.llm.errors import CallError, CallErrorKind
from persona_pipeline.llm.requests import BROKEN_OFF, ChatReply
from persona_pipeline.llm.thoughts import split_thoughts

SELF_HOSTED = ("hosted_vllm/", "ollama/", "ollama_chat/", "lm_studio/", "llamafile/")
"""Servers whose structured output accepts all of JSON Schema. Other servers get the schema without
bounds on length, which hosted providers refuse. We check these bounds on the answer ourselves."""
BOUNDS = {"minLength", "maxLength", "minItems", "maxItems", "pattern"}

SAMPLING = ["temperature", "top_p"]
"""Parameters that reasoning models do not allow (OpenAI's o series and GPT-5). They are left out
there."""

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
"""All other statuses are transient."""
ANSWERED, UNPAID = 200, 402
"""Some servers refuse with the first. The second means an account without money, for which others
send 400, 403 or 429: see `error_bodies`."""
BAD_KEY = ("API_KEY_INVALID", "API key not valid", "invalid_api_key")
"""Signs of a wrong key. Google sends them with a status of 400."""
HOPELESS = ("maximum context length", "context_length_exceeded", "content_policy_violation")
"""Signs of a request that is too long or forbidden. Some servers send them with a status of 500."""

NOT_SENT = {"ClientConnectorError", "ConnectionTimeoutError", "ConnectTimeout"}
"""Errors of aiohttp and httpx before the request was sent: refused, no such host, no TLS."""
TIMEOUTS = {"TimeoutError", "TimeoutException"}
DOUBTFUL = {403, 404}
"""OpenRouter answers 403 for a flagged input, and a proxy answers 404 for one of its servers."""
TIMEOUT_STATUSES = {408, 504, 524}
"""524 is Cloudflare's."""
NO_ADDRESS = {"InvalidURL", "NonHttpUrlClientError", "UnsupportedProtocol"}

SHORTEST_KEY = 6
"""Shorter values ("none", "test") are words, not secrets."""
LONGEST_MESSAGE = 300
LONGEST_PAGE = 20_000

FINISH_REASONS = {
    "eos": "stop",
    "eos_token": "stop",
    "end_turn": "stop",
    "stop_sequence": "stop",
    "stop_token": "stop",
    "complete": "stop",
    "completed": "stop",
    "max_tokens": "length",
}
"""OpenAI's word for the words of other servers, which some write in capitals."""
MARKUP = re.compile(r"<(style|script)\b.*?</\1>|<[^>]*>", re.DOTALL | re.IGNORECASE)


def schema_format(model: str, schema: JsonValue, *, is_own_server: bool) -> dict[str, Any]:
    """Return the structured output in OpenAI's parameter."""
    is_whole = is_own_server or model.startswith(SELF_HOSTED)
    shown = schema if is_whole else without_bounds(schema)
    return {
        "type": "json_schema",
        "json_schema": {"name": "answer", "schema": shown, "strict": True},
    }


def without_bounds(schema: JsonValue) -> JsonValue:
    """Return the schema without the keywords that hosted providers refuse."""
    if isinstance(schema, Mapping):
        fields = schema.get("properties")
        rest = {key: without_bounds(value) for key, value in schema.items() if key not in BOUNDS}
        if not isinstance(fields, Mapping):
            return rest
        return {**rest, "properties": {name: without_bounds(fields[name]) for name in fields}}
    return [without_bounds(item) for item in schema] if isinstance(schema, list) else schema


def read_reply(answer: Any) -> ChatReply:  # noqa: ANN401 - any JSON value
    """Return the reply in a completion's JSON.

    Raises:
        CallError: there is no reply, though it may be billed.
    """
    try:
        choice, usage = answer["choices"][0], answer.get("usage") or {}
        message, reason = choice["message"], choice.get("finish_reason") or "stop"
        more = message.get("provider_specific_fields") or {}  # where LiteLLM puts it
        refusal = _text(message.get("refusal") or more.get("refusal"))
        thoughts, text = split_thoughts(_text(message.get("content")))
        word = _broken_off(choice) or reason.lower()
        return ChatReply(
            text=text or refusal,
            finish_reason="refused" if refusal else FINISH_REASONS.get(word, word),
            tokens_in=int(usage.get("prompt_tokens") or 0),
            tokens_cached=_cached_tokens(usage),
            tokens_out=int(usage.get("completion_tokens") or 0),
            is_metered=bool(
                usage.get("prompt_tokens")
            ),  # LiteLLM reports 0 if the server reports none
            reasoning=_reasoning(message) or thoughts,
        )
    except (AttributeError, LookupError, TypeError, ValueError):
        words = "the server's answer holds no choices"
        raise CallError(CallErrorKind.TRANSIENT, words, maybe_billed=True) from None


def _text(content: object) -> str:
    """Join a string or a list of parts, without those of thinking and without lone surrogates."""
    parts = content if isinstance(content, list) else [content]
    texts = [part.get("text") if isinstance(part, Mapping) else part for part in parts]
    joined = "".join(text for text in texts if isinstance(text, str))
    return joined.encode("utf-8", "replace").decode()


def _broken_off(choice: Mapping[str, Any]) -> str:
    """Return the server's word for giving up, which LiteLLM replaces by `stop`."""
    native = (choice.get("provider_specific_fields") or {}).get("native_finish_reason")
    return native if isinstance(native, str) and BROKEN_OFF.search(native) else ""


def _reasoning(message: Mapping[str, Any]) -> str:
    """Return the thoughts of a message: in a field, in OpenRouter's list, or in Mistral's parts."""
    more = message.get("provider_specific_fields") or {}
    for name in ("reasoning_content", "reasoning"):
        for place in (message, more):
            if thoughts := _text(place.get(name)).strip():
                return thoughts
    details = message.get("reasoning_details") or more.get("reasoning_details")
    if thoughts := _text(details).strip():
        return thoughts
    content = message.get("content")
    parts = content if isinstance(content, list) else []
    return "".join(_text(part.get("thinking")) for part in parts if isinstance(part, Mapping))


def _cached_tokens(usage: Mapping[str, Any]) -> int:
    details = usage.get("prompt_tokens_details") or {}
    deepseeks = usage.get("prompt_cache_hit_tokens")
    return int(deepseeks or details.get("cached_tokens") or 0)


def refused(
    status: int, headers: Mapping[str, str], body: str, api_key: str | None = None
) -> CallError:
    """Return the error of an HTTP answer, in the provider's own words."""
    error = _refusal(status, read_error(body), body, api_key)
    error.retry_after = retry_after(headers)
    return error


def refused_in_answer(answer: object, api_key: str | None = None) -> CallError | None:
    """Return the error in an answer with a status of 200, or None if it holds none."""
    error = error_in_answer(answer)
    if error is None:
        return None
    body = f"the server's answer holds no choices: {json.dumps(answer)}"
    if error.status or error.is_unpaid:
        return _refusal(error.status or ANSWERED, error, body, api_key)
    return CallError(
        error.kind,
        shown(f"HTTP {ANSWERED}: {error.words or body}", api_key),
        maybe_billed=error.kind is CallErrorKind.TRANSIENT,
    )


def _refusal(status: int, error: ErrorBody, body: str, api_key: str | None) -> CallError:
    kind = STATUSES.get(status, CallErrorKind.TRANSIENT)
    is_unpaid = error.is_unpaid or status == UNPAID
    if is_unpaid or any(sign in body for sign in BAD_KEY):
        kind = CallErrorKind.FATAL
    elif kind is CallErrorKind.TRANSIENT and any(sign in body for sign in HOPELESS):
        kind = CallErrorKind.PERMANENT
    return CallError(
        kind,
        shown(f"HTTP {status}: {error.words or without_markup(body)}", api_key),
        is_timeout=status in TIMEOUT_STATUSES,
        is_doubtful=status in DOUBTFUL and not is_unpaid,
        is_unpaid=is_unpaid,
    )


def without_markup(body: str) -> str:
    """Return the words of a web page. Other text is unchanged."""
    is_page = body.lstrip().startswith("<")
    return MARKUP.sub(" ", body[:LONGEST_PAGE]) if is_page else body


def unanswered(error: BaseException, message: str, api_key: str | None = None) -> CallError:
    """Return the error of a call without a readable answer. It is billed if it was sent at all."""
    names = {name for link in error_chain(error) for name in class_names(link)}
    if names & NO_ADDRESS:
        return CallError(CallErrorKind.FATAL, shown(f"not an http(s) address: {message}", api_key))
    return CallError(
        CallErrorKind.TRANSIENT,
        shown(message, api_key),
        maybe_billed=not names & NOT_SENT,
        is_timeout=bool(names & TIMEOUTS),
    )


def error_chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield the error and its causes."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def class_names(error: BaseException) -> set[str]:
    """Return the names of the error's classes, so that no HTTP library is imported for a check."""
    return {kind.__name__ for kind in type(error).__mro__}


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that a server asks us to wait, sent as milliseconds, seconds or a date."""
    milliseconds = _number(headers.get("retry-after-ms", ""))
    if milliseconds is not None:
        return milliseconds / 1000
    value = headers.get("retry-after", "")
    seconds = _number(value)
    return _seconds_until(value) if seconds is None else seconds


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return max(number, 0.0) if math.isfinite(number) else None


def _seconds_until(date: str) -> float | None:
    try:
        parsed = parsedate_tz(date)
        return max(mktime_tz(parsed) - time.time(), 0.0) if parsed else None
    except (ValueError, OverflowError):
        return None


def shown(message: str, api_key: str | None = None) -> str:
    """Return the message shortened to one line, without keys: some servers repeat them."""
    for key in _known_keys(api_key):
        message = message.replace(key, "(api_key)")
    return " ".join(clean_text(message).split())[:LONGEST_MESSAGE]


def _known_keys(api_key: str | None) -> list[str]:
    """Return our key and those in the environment that LiteLLM reads itself, the longest first."""
    keys = {value for name, value in os.environ.items() if name.endswith(("_API_KEY", "_TOKEN"))}
    stripped = {(key or "").strip() for key in (*keys, api_key)}
    return sorted((key for key in stripped if len(key) >= SHORTEST_KEY), key=len, reverse=True)
