"""One row of `llm.calls`: a request and what came of it."""

import json
from dataclasses import dataclass, fields
from typing import Any

from persona_pipeline.llm.prices import Price
from persona_pipeline.llm.requests import ChatReply

LONGEST_ERROR = 500
"""Characters of an error that are kept."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a stage needs to know of a call.

    `status`: ok (usable), invalid (answered and billed, but never usable; kept, so that it is not
    bought again) or failed (no answer; asked for again in the next run).
    """

    call_key: str
    model: str
    status: str
    response: str | None
    error: str | None

    @property
    def is_bought(self) -> bool:
        """Whether something was bought that must not be bought again."""
        return self.status in {"ok", "invalid"}


@dataclass(frozen=True, slots=True)
class Call(Answer):
    """One purchase, with all that is known of it."""

    shard: str
    stage: str
    prompt_name: str
    prompt_version: str
    params: str
    request: str
    finish_reason: str | None
    tokens_in: int
    tokens_cached: int
    tokens_out: int
    cost_usd: float | None
    latency_ms: int
    attempts: int

    def to_line(self) -> bytes:
        """One line of the journal: a flat object that DuckDB reads as a row of `llm.calls`."""
        text = _ENCODER.encode({name: getattr(self, name) for name in FIELDS})
        return text.encode("utf-8", "replace") + b"\n"


_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
FIELDS = [field.name for field in fields(Call)]
ANSWER_FIELDS = [field.name for field in fields(Answer)]


def answer_from_line(line: bytes) -> Answer | None:
    """The answer on a journal line; None for what is no complete line of a journal.

    Lines of older and newer versions are read by the columns they share with this one.
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
    """What one request has used so far, over all its attempts, and the last answer it got."""

    price: Price | None
    reply: ChatReply | None = None
    attempts: int = 0
    tokens_in: int = 0
    tokens_cached: int = 0
    tokens_out: int = 0
    latency_ms: int = 0

    def add(self, reply: ChatReply, seconds: float) -> None:
        """Count one billed answer."""
        self.reply = reply
        self.tokens_in += reply.tokens_in
        self.tokens_cached += reply.tokens_cached
        self.tokens_out += reply.tokens_out
        self.latency_ms += round(seconds * 1000)
        if not reply.is_metered:
            self.price = None

    @property
    def cost_usd(self) -> float | None:
        """None: the price is unknown, or what an answer used is."""
        if self.price is None:
            return None
        return self.price.cost(self.tokens_in, self.tokens_cached, self.tokens_out)
