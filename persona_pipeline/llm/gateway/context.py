"""Hold what a stage buys with: the models, the store of answers and the budget."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from persona_pipeline.llm.calls import Answer, Call
from persona_pipeline.llm.gateway.budget import Budget
from persona_pipeline.llm.gateway.endpoint import OpenEndpoint
from persona_pipeline.llm.gateway.journal import Journal
from persona_pipeline.llm.gateway.retry_policy import RetryPolicy
from persona_pipeline.llm.prices import known_sum
from persona_pipeline.llm.request_options import AS_THE_PROMPTS_SAY, RequestOptions
from persona_pipeline.llm.requests import ChatRequest

Receive = Callable[[str, Answer], None]
"""Takes a request's key and its answer. The answer of a fallback model has its own call key."""


class AnswerStore(Protocol):
    """Look up the answers that were bought and committed."""

    def answers(self, keys: list[str]) -> dict[str, Answer]:
        """Return the stored answers with these keys."""
        ...

    def version(self) -> object:
        """Return a value that changes with every commit of any process."""
        ...


class AnswerSource(Protocol):
    """Give a stage its answers: a gateway, or the rehearsal of an estimate."""

    def answers(
        self, requests: Iterable[ChatRequest], *, shard: str, stage: str
    ) -> dict[str, Answer]:
        """Return one answer per distinct call key of the requests."""
        ...


@dataclass(frozen=True, slots=True)
class StageContext:
    """Hold what all requests of one stage share."""

    shard: str
    stage: str
    endpoints: OpenEndpoint
    fallbacks: tuple[str, ...]
    journal: Journal
    store: AnswerStore
    budget: Budget
    retry_policy: RetryPolicy
    options: RequestOptions = AS_THE_PROMPTS_SAY


@dataclass(slots=True)
class StageUsage:
    """Sum what one stage used.

    `reused`: answers that were bought before. `refused`: requests that the provider refused for
    their pace; each of them was retried. `seconds`: time since the first lookup.
    """

    reused: int = 0
    bought: int = 0
    invalid: int = 0
    failed: int = 0
    refused: int = 0
    tokens_in: int = 0
    tokens_cached: int = 0
    tokens_out: int = 0
    cost_usd: float | None = 0.0
    seconds: float = 0.0

    def add(self, call: Call) -> None:
        """Add one call. An unknown price makes the sum unknown."""
        self.bought += call.is_bought
        self.invalid += call.status == "invalid"
        self.failed += call.status == "failed"
        self.tokens_in += call.tokens_in
        self.tokens_cached += call.tokens_cached
        self.tokens_out += call.tokens_out
        self.cost_usd = known_sum([self.cost_usd, call.cost_usd])
