"""One row of `llm.calls`: a request and what came of it."""

import json
from dataclasses import asdict, dataclass, fields
from typing import Any

from persona_pipeline.llm.requests import ChatReply, ChatRequest


@dataclass(frozen=True, slots=True)
class Call:
    """One answer that was asked for.

    `status`: ok (usable), invalid (answered and billed, but never usable; kept, so that it is not
    bought again) or failed (no answer; asked for again in the next run).
    """

    call_key: str
    shard: str
    stage: str
    model: str
    prompt_name: str
    prompt_version: str
    params: str
    request: str
    response: str | None
    status: str
    error: str | None
    finish_reason: str | None
    tokens_in: int
    tokens_cached: int
    tokens_out: int
    cost_usd: float | None
    latency_ms: int
    attempts: int

    @property
    def is_answer(self) -> bool:
        """Whether something was bought that must not be bought again."""
        return self.status in {"ok", "invalid"}

    def to_line(self) -> bytes:
        """One line of the journal."""
        text = json.dumps(asdict(self), ensure_ascii=False, separators=(",", ":"))
        return text.encode("utf-8", "surrogatepass") + b"\n"


NAMES = {field.name for field in fields(Call)}


def call_from_line(line: bytes) -> Call | None:
    """The call on a journal line; None for the torn last line of a killed process."""
    if not line.endswith(b"\n"):
        return None
    try:
        row: dict[str, Any] = json.loads(line)
    except ValueError:
        return None
    return Call(**row) if isinstance(row, dict) and row.keys() == NAMES else None


@dataclass(slots=True)
class Spent:
    """What one request has used so far, over all its attempts."""

    attempts: int = 0
    tokens_in: int = 0
    tokens_cached: int = 0
    tokens_out: int = 0
    cost_usd: float | None = 0.0
    latency_ms: int = 0

    def add(self, reply: ChatReply, seconds: float) -> None:
        """Count one billed answer; one unknown price makes the sum unknown."""
        self.tokens_in += reply.tokens_in
        self.tokens_cached += reply.tokens_cached
        self.tokens_out += reply.tokens_out
        self.latency_ms += round(seconds * 1000)
        known = self.cost_usd is not None and reply.cost_usd is not None
        self.cost_usd = (self.cost_usd or 0.0) + (reply.cost_usd or 0.0) if known else None


def make_call(  # noqa: PLR0913 - one argument per part of the row
    request: ChatRequest,
    shard: str,
    spent: Spent,
    *,
    status: str,
    reply: ChatReply | None,
    error: str | None,
) -> Call:
    """The row for a request that is over."""
    return Call(
        call_key=request.call_key,
        shard=shard,
        stage=request.stage,
        model=request.model,
        prompt_name=request.prompt_name,
        prompt_version=request.prompt_version,
        params=json.dumps({**asdict(request.sampling), "sample": request.sample}),
        request=json.dumps(request.messages, ensure_ascii=False),
        response=reply.text if reply else None,
        status=status,
        error=error[:500] if error else None,
        finish_reason=reply.finish_reason if reply else None,
        tokens_in=spent.tokens_in,
        tokens_cached=spent.tokens_cached,
        tokens_out=spent.tokens_out,
        cost_usd=spent.cost_usd,
        latency_ms=spent.latency_ms,
        attempts=spent.attempts,
    )
