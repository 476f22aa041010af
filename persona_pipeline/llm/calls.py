"""Describe one row of `llm.calls`: a request and its outcome."""

import json
from dataclasses import dataclass, field, fields
from typing import Any

from persona_pipeline.llm.prices import Price
from persona_pipeline.llm.requests import ChatReply
from persona_pipeline.llm.vectors import is_broken_vector

LONGEST_ERROR = 500
"""The most characters of an error that are kept."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Hold what a stage needs to know of a call.

    `status` is "ok" (usable), "invalid" or "failed". An invalid answer was billed but is unusable;
    it is kept, so that it is not bought again. A failed call has no answer; the next run asks
    again. `finish_reason` and `params` say whether an invalid answer had too little room.
    """

    call_key: str
    model: str
    status: str
    response: str | None
    error: str | None
    finish_reason: str | None = field(default=None, kw_only=True)
    params: str | None = field(default=None, kw_only=True)

    @property
    def is_bought(self) -> bool:
        """Whether an answer was bought that must not be bought again."""
        return self.status in {"ok", "invalid"} and not is_broken_vector(self.response)


@dataclass(frozen=True, slots=True)
class Call(Answer):
    """Hold all that is known of one purchase."""

    shard: str
    stage: str
    prompt_name: str
    prompt_version: str
    request: str
    tokens_in: int
    tokens_cached: int
    tokens_out: int
    cost_usd: float | None
    latency_ms: int
    attempts: int
    reasoning: str | None = None

    def to_line(self) -> bytes:
        """Return the journal line: a flat object that DuckDB reads as a row of `llm.calls`."""
        text = _ENCODER.encode({name: getattr(self, name) for name in FIELDS})
        return text.encode("utf-8", "replace") + b"\n"


_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
FIELDS = [one.name for one in fields(Call)]
ANSWER_FIELDS = [one.name for one in fields(Answer)]


def answer_from_line(line: bytes) -> Answer | None:
    """Return the answer on a journal line, or None if the line is incomplete or of another form.

    Lines of older and newer versions are read by the columns that they share with this version.
    """
    if not line.endswith(b"\n"):
        return None
    try:
        row: Any = json.loads(line)
        return Answer(**{name: row[name] for name in ANSWER_FIELDS})
    except (ValueError, TypeError, KeyError):
        return None


@dataclass(slots=True)
class RequestUsage:
    """Sum what one request has used over all its attempts, and keep the last reply."""

    price: Price | None
    reply: ChatReply | None = None
    attempts: int = 0
    tokens_in: int = 0
    tokens_cached: int = 0
    tokens_out: int = 0
    latency_ms: int = 0

    def add(self, reply: ChatReply, seconds: float) -> None:
        """Add one billed reply."""
        self.reply = reply
        self.tokens_in += reply.tokens_in
        self.tokens_cached += reply.tokens_cached
        self.tokens_out += reply.tokens_out
        self.latency_ms += round(seconds * 1000)
        if not reply.is_metered:
            self.price = None

    @property
    def cost_usd(self) -> float | None:
        """The cost in USD. None when the price or the usage of a reply is unknown."""
        if self.price is None:
            return None
        return self.price.cost(self.tokens_in, self.tokens_cached, self.tokens_out)
