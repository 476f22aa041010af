"""Define the protocol that every client of a chat model follows."""

from typing import Protocol

from persona_pipeline.llm.requests import ChatReply, ChatRequest


class ChatClient(Protocol):
    """Answer one request per call. Many calls may be in flight at once."""

    max_concurrency: int

    async def complete(self, request: ChatRequest, *, attempt: int = 0) -> ChatReply:
        """Return the model's reply.

        Raises:
            CallError: the call failed. Its kind says what to do about it.
        """
        ...

    async def close(self) -> None:
        """Close the connections.

        This is called after each stage. A later request opens new connections.
        """
        ...
