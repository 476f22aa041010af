"""The gate of a model that is asked in batches: open, since a batch meets no pace."""

import time
from collections.abc import Callable

from persona_pipeline.llm.gateway.concurrency import Outcome, Permit


class BatchLimiter:
    """Admits every call at once; what a purchase has under way is bounded by its places."""

    refused_share = 0.0
    is_outage = False

    def __init__(self, limit: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        """`limit`: calls that one batch takes."""
        self.limit = limit
        self.in_flight = 0
        self.answered = 0
        self._clock = clock
        self._refused_since: float | None = None

    @property
    def silent_seconds(self) -> float:
        """Seconds in which the provider took no batch, while no other is under way."""
        if self._refused_since is None or self.in_flight:
            return 0.0
        return self._clock() - self._refused_since

    def begin_stage(self) -> None:
        """Forget that another stage's batches were refused."""
        self._refused_since = None

    async def enter(self, tokens: int = 0) -> Permit:
        """Go in."""
        self.in_flight += 1
        return Permit(self._clock(), tokens, 0)

    def leave(
        self,
        permit: Permit,  # noqa: ARG002 - another gate's
        outcome: Outcome,
        *,
        retry_after: float | None = None,  # noqa: ARG002 - another gate's
        tokens: int | None = None,  # noqa: ARG002 - another gate's
    ) -> None:
        """Say how it went."""
        self.in_flight -= 1
        self.answered += outcome is Outcome.ANSWERED
        if outcome is not Outcome.REFUSED:
            self._refused_since = None
        elif self._refused_since is None:
            self._refused_since = self._clock()
