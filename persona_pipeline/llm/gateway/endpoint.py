"""One model at one provider: how it is asked, how many calls at once, and at what price."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from persona_pipeline.llm.client import ChatClient
from persona_pipeline.llm.gateway.concurrency import Outcome, Permit
from persona_pipeline.llm.prices import Price


class Limiter(Protocol):
    """What lets calls through: a gate that finds out the server's pace, or an open one."""

    answered: int
    in_flight: int

    @property
    def limit(self) -> int:
        """Calls admitted at a time."""
        ...

    @property
    def refused_share(self) -> float:
        """Of the last calls, those refused for their pace."""
        ...

    @property
    def is_outage(self) -> bool:
        """Whether a failure says nothing about its row."""
        ...

    @property
    def silent_seconds(self) -> float:
        """Seconds without an answer while calls fail or are refused."""
        ...

    def begin_stage(self) -> None:
        """Another stage's answers take another time."""
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
        """Give the place back and say how it went."""
        ...


def no_preparation() -> None:
    """For a client that is ready when it is made."""


@dataclass(frozen=True, slots=True)
class ModelEndpoint:
    """Kept for the whole process, so that the gate keeps what it has learned."""

    model: str
    client: ChatClient
    limiter: Limiter
    price: Price | None
    prepare: Callable[[], object] = no_preparation
    """Loads what the client needs, which takes seconds: done beside the event loop, and before the
    first request's last look at whether it is still wanted."""
    is_paced: bool = False
    """Whether the gate keeps to a number of tokens a minute, so must be told how many come."""


OpenEndpoint = Callable[[str], ModelEndpoint]
"""The lane of a model, by its LiteLLM name."""
