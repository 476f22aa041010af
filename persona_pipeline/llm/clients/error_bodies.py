"""Read what a server says is wrong, in the many forms in which servers say it.

Forms: `{"error": {...}}` (OpenAI), `{"error": "text"}` (Ollama, TGI), `{"detail": ...}` (FastAPI),
`{"message": ..., "code": ...}` (vLLM, DashScope), `{"base_resp": {...}}` (MiniMax), an error within
a choice or within the text of another error (OpenRouter). Some come with a status of 200.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from persona_pipeline.llm.errors import CallErrorKind

WRAPPERS = ("error", "errors", "base_resp", "metadata", "raw", "detail", "message")
"""Fields that may hold the error itself."""
WORDS = ("message", "msg", "status_msg", "error_msg", "error_message", "detail", "error", "raw")
CODES = ("code", "type", "status", "status_code", "error_code", "error_type", "reason")
DEEPEST = 6
"""The most wrappers around an error. OpenRouter's take four."""
SUCCESS = {"", "0", "200", "success", "ok", "none"}
"""Codes and words that name no error, in lower case."""
UNPAID_CODES = {
    "insufficient_quota",  # OpenAI, with a status of 429
    "exceeded_current_quota_error",  # Moonshot, 429
    "1113",  # Z.ai, 429
    "billing_hard_limit_reached",  # OpenAI, 400
    "billing_not_active",  # OpenAI, 429
    "billing_error",  # Anthropic, 402
    "billing_balance_not_enough",  # Novita, 400
    "insufficient_balance",
    "insufficient_balance_error",
    "insufficient_credit",  # ZenMux, 402
    "insufficient_credits",
    "arrearage",  # Alibaba, 400
    "payment_required",
}
"""Codes of an account without money or with a used-up quota, in lower case."""
UNPAID_WORDS = re.compile(
    r"insufficient (account )?(balance|credit|fund)|(balance|credit)s? (is |are )?(not enough|"
    r"too low|exhausted|insufficient)|out of credits?\b|used all available credits|"
    r"requires more credits|please recharge|余额不足|欠费",
    re.IGNORECASE,
)
"""What servers without a code for it say. Google's "exceeded your current quota" is not among it:
Google says so of the quota of a minute."""
KINDS = {
    CallErrorKind.RATE: re.compile(r"rate.?limit|too.?many.?requests", re.IGNORECASE),
    CallErrorKind.FATAL: re.compile(
        r"authenticat|api.?key|permission_error|model_not_found|not_found_error", re.IGNORECASE
    ),
    CallErrorKind.PERMANENT: re.compile(
        r"context_length_exceeded|maximum context length|content_policy_violation|"
        r"invalid_request_error",
        re.IGNORECASE,
    ),
}
"""What an error with a status of 200 means that names no status of its own."""


@dataclass(frozen=True, slots=True)
class ErrorBody:
    """Hold what a server says is wrong: its words, and its codes in lower case."""

    words: str
    codes: frozenset[str]

    @property
    def is_unpaid(self) -> bool:
        """Whether the account has no money, or no quota that a wait could bring back."""
        return bool(self.codes & UNPAID_CODES or UNPAID_WORDS.search(self.words))

    @property
    def is_more_than_success(self) -> bool:
        """Whether the words name a problem. MiniMax reports success in words, too."""
        return self.words.strip().lower() not in SUCCESS

    @property
    def status(self) -> int | None:
        """The HTTP status that a body names which came with another one."""
        named = (int(code) for code in sorted(self.codes) if re.fullmatch(r"[45]\d\d", code))
        return next(named, None)

    @property
    def kind(self) -> CallErrorKind:
        """What the words and codes mean where no status says it."""
        text = " ".join((*sorted(self.codes), self.words))
        signs = (kind for kind, sign in KINDS.items() if sign.search(text))
        return next(signs, CallErrorKind.TRANSIENT)


def read_error(body: object) -> ErrorBody:
    """Return the error in the parsed body of a refusal. The innermost words count.

    Words may be empty.
    """
    levels = [*_levels(body, DEEPEST)]
    words = [text for level in levels if (text := _words(level))]
    codes = {str(level[name]).lower() for level in levels for name in CODES if name in level}
    return ErrorBody(words[-1] if words else "", frozenset(codes - SUCCESS))


def error_in_answer(answer: object) -> ErrorBody | None:
    """Return the error in the body of an answer with a status of 200, or None if it is no error."""
    if not isinstance(answer, Mapping):
        return None
    choices = answer.get("choices")
    if not isinstance(choices, list) or not choices:
        return read_error(answer)
    beside = [answer.get("error"), answer.get("base_resp")]
    within = [choice.get("error") for choice in choices if isinstance(choice, Mapping)]
    errors = [read_error({"error": error}) for error in (*beside, *within) if error]
    return next((error for error in errors if error.codes or error.is_more_than_success), None)


def _levels(body: object, depth: int) -> Iterator[Mapping[str, Any]]:
    """Yield the objects around and within an error, the outermost first."""
    if isinstance(body, str):
        body = _parsed(body)
    if isinstance(body, list) and body:
        body = body[0]
    if isinstance(body, Mapping) and depth:
        yield body
        for name in WRAPPERS:
            inner = body.get(name)
            if name != "detail" or not isinstance(inner, list):  # a list of problems: see `_words`
                yield from _levels(inner, depth - 1)


def _words(level: Mapping[str, Any]) -> str:
    """Return the words of one object: a text, or FastAPI's list of places and problems."""
    for name in WORDS:
        value = level.get(name)
        if isinstance(value, str) and value.strip() and not isinstance(_parsed(value), Mapping):
            return value
        if name == "detail" and isinstance(value, list):
            return "; ".join(map(_problem, value))
    return ""


def _problem(item: object) -> str:
    """Return one of FastAPI's problems, without the input that it repeats."""
    if not isinstance(item, Mapping):
        return str(item)
    place = item.get("loc")
    where = ".".join(map(str, place)) if isinstance(place, list) else ""
    return ": ".join(part for part in (where, str(item.get("msg") or "")) if part)


def _parsed(text: str) -> object:
    """Return the object that a text holds, or the text."""
    if not text.lstrip().startswith(("{", "[")):
        return text
    try:
        parsed: object = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return parsed
