"""What a stage buys under: who is asked, where answers are kept, what may be spent."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from persona_pipeline.llm.calls import Answer, Call
from persona_pipeline.llm.gateway.budget import Budget
from persona_pipeline.llm.gateway.endpoint import OpenEndpoint
from persona_pipeline.llm.gateway.journal import Journal
from persona_pipeline.llm.gateway.retry_policy import RetryPolicy
from persona_pipeline.llm.prices import known_sum
from persona_pipeline.llm.requests import ChatRequest

Receive = Callable[[str, Answer], None]
"""Takes the answer to the request with this key; a fallback model's has a call key of its own."""


class AnswerStore(Protocol):
    """What was bought and committed."""

    def answers(self, keys: list[str]) -> dict[str, Answer]:
        """The stored answers with these keys."""
        ...

    def version(self) -> object:
        """Changes with every commit of any process."""
        ...


class AnswerSource(Protocol):
    """Where a stage gets its answers: a buyer, or an estimate's rehearsal."""

    def answers(
        self, requests: Iterable[ChatRequest], *, shard: str, stage: str
    ) -> dict[str, Answer]:
        """One answer per distinct call key of the requests."""
        ...


@dataclass(frozen=True, slots=True)
class StageContext:
    """The same for every request of one stage."""

    shard: str
    stage: str
    endpoints: OpenEndpoint
    fallbacks: tuple[str, ...]
    journal: Journal
    store: AnswerStore
    budget: Budget
    retry_policy: RetryPolicy


@dataclass(slots=True)
class StageUsage:
    """What one stage's purchase came to.

    `reused`: answers that were bought before. `refused`: requests that the provider refused for
    their pace, each of which was asked again. `seconds`: from the first lookup on.
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
        """One more call; an unknown price makes the sum unknown."""
        self.bought += call.is_bought
        self.invalid += call.status == "invalid"
        self.failed += call.status == "failed"
        self.tokens_in += call.tokens_in
        self.tokens_cached += call.tokens_cached
        self.tokens_out += call.tokens_out
        self.cost_usd = known_sum([self.cost_usd, call.cost_usd])
