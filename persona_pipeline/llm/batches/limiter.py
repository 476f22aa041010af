"""Admit the calls of a model that is asked in batches. A batch has no pace to keep."""

import time
from collections.abc import Callable

from persona_pipeline.llm.gateway.concurrency import Outcome, Permit


class BatchLimiter:
    """Admit every call at once. The purchase bounds how many are under way."""

    refused_share = 0.0
    is_outage = False

    def __init__(self, limit: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Take the number of calls in one batch as the `limit`."""
        self.limit = limit
        self.in_flight = 0
        self.answered = 0
        self._clock = clock
        self._refused_since: float | None = None

    @property
    def silent_seconds(self) -> float:
        """Seconds in which the provider accepted no batch, while no other batch is running."""
        if self._refused_since is None or self.in_flight:
            return 0.0
        return self._clock() - self._refused_since

    def begin_stage(self) -> None:
        """Forget that another stage's batches were refused."""
        self._refused_since = None

    async def enter(self, tokens: int = 0) -> Permit:
        """Admit the call at once."""
        self.in_flight += 1
        return Permit(self._clock(), tokens, 0)

    def leave(
        self,
        permit: Permit,  # noqa: ARG002 - the protocol's
        outcome: Outcome,
        *,
        retry_after: float | None = None,  # noqa: ARG002 - the protocol's
        tokens: int | None = None,  # noqa: ARG002 - the protocol's
    ) -> None:
        """Report the outcome."""
        self.in_flight -= 1
        self.answered += outcome is Outcome.ANSWERED
        if outcome is not Outcome.REFUSED:
            self._refused_since = None
        elif self._refused_since is None:
            self._refused_since = self._clock()
