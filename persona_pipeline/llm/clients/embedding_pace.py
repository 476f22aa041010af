"""Keep the pace of a provider's embeddings by its replies, each of which answers many texts."""

from persona_pipeline.llm.clients.embeddings import BATCH
from persona_pipeline.llm.gateway.concurrency import Outcome, Permit
from persona_pipeline.llm.gateway.endpoint import Limiter


class TextLimiter:
    """Admit every text at once: the client waits for `requests`, once for all texts of a request.

    It tells what `requests` has learned. If each text were counted, one refusal of 64 texts would
    look like 64 refusals.
    """

    def __init__(self, requests: Limiter) -> None:
        """Take the limiter of the client's requests."""
        self.in_flight = 0
        self._requests = requests

    @property
    def answered(self) -> int:
        """Requests that were answered."""
        return self._requests.answered

    @property
    def limit(self) -> int:
        """Texts that travel at a time."""
        return self._requests.limit * BATCH

    @property
    def refused_share(self) -> float:
        """Share of the last requests that were refused for their pace."""
        return self._requests.refused_share

    @property
    def is_outage(self) -> bool:
        """Whether an outage is going on."""
        return self._requests.is_outage

    @property
    def silent_seconds(self) -> float:
        """Seconds without an answer while requests fail or are refused."""
        return self._requests.silent_seconds

    def begin_stage(self) -> None:
        """Prepare for another stage."""
        self._requests.begin_stage()

    async def enter(self, tokens: int = 0) -> Permit:
        """Admit the text at once."""
        self.in_flight += 1
        return Permit(0.0, tokens, 0)

    def leave(
        self,
        permit: Permit,  # noqa: ARG002 - the protocol's
        outcome: Outcome,  # noqa: ARG002 - the client reports that of the request
        *,
        retry_after: float | None = None,  # noqa: ARG002
        tokens: int | None = None,  # noqa: ARG002
    ) -> None:
        """Count the text as done."""
        self.in_flight -= 1
