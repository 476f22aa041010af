"""The one door to chat models."""

from typing import Protocol

from persona_pipeline.llm.requests import ChatReply, ChatRequest


class ChatClient(Protocol):
    """Answers one request at a time; many may be in flight at once."""

    max_concurrency: int

    async def complete(self, request: ChatRequest, *, attempt: int = 0) -> ChatReply:
        """The model's answer.

        Raises:
            CallError: with the kind that says what to do about it.
        """
        ...

    async def close(self) -> None:
        """Let go of connections; called after each stage, a later request opens new ones."""
        ...
