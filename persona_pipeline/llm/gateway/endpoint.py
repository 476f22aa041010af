"""Describe one model at one provider: its client, its limiter and its price."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from persona_pipeline.llm.client import ChatClient
from persona_pipeline.llm.gateway.concurrency import Outcome, Permit
from persona_pipeline.llm.gateway.thinking import Thinking
from persona_pipeline.llm.prices import Price


class Limiter(Protocol):
    """Admit calls: either at the pace that the server can take, or without a limit (batches)."""

    in_flight: int

    @property
    def answered(self) -> int:
        """Calls that were answered so far."""
        ...

    @property
    def limit(self) -> int:
        """Calls admitted at a time."""
        ...

    @property
    def refused_share(self) -> float:
        """Share of the last calls that were refused for their pace."""
        ...

    @property
    def is_outage(self) -> bool:
        """Whether an outage is going on, so that a failure says nothing about its row."""
        ...

    @property
    def silent_seconds(self) -> float:
        """Seconds without an answer while calls fail or are refused."""
        ...

    def begin_stage(self) -> None:
        """Prepare for another stage, whose answers take another time."""
        ...

    async def enter(self, tokens: int = 0) -> Permit:
        """Wait to be admitted."""
        ...

    def leave(
        self,
        permit: Permit,
        outcome: Outcome,
        *,
        retry_after: float | None = None,
        tokens: int | None = None,
    ) -> None:
        """Give the slot back and report the outcome."""
        ...


def no_preparation() -> None:
    """Do nothing, for a client that is ready once it is created."""


@dataclass(frozen=True, slots=True)
class ModelEndpoint:
    """Hold one model's client, limiter and price.

    It lives as long as the process, so that the limiter keeps what it has learned.
    """

    model: str
    client: ChatClient
    limiter: Limiter
    price: Price | None
    prepare: Callable[[], object] = no_preparation
    """Loads what the client needs, which takes seconds. It runs outside the event loop, and before
    the last check whether the first request is still wanted."""
    is_paced: bool = False
    """Whether the limiter enforces tokens per minute, and so must know the tokens of each call."""
    thinking: Thinking = field(default_factory=Thinking)
    """The room for the model's thoughts."""


OpenEndpoint = Callable[[str], ModelEndpoint]
"""Opens the endpoint of a model, by its LiteLLM name."""
