"""Decide how often a request is retried, and how long an outage is waited for."""

import random
from dataclasses import dataclass

from persona_pipeline.llm.errors import CallError, CallErrorKind


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Set the limits of retrying.

    Attempts are counted per request. Refusals for pace and outages never use one up. All times are
    seconds.
    """

    transient_attempts: int = 5
    invalid_attempts: int = 2
    first_delay: float = 0.5
    longest_delay: float = 30.0
    first_answer_seconds: float = 10.0
    """How long a model that has never answered may fail. Longer, it is a wrong address, not an
    outage."""
    outage_seconds: float = 300.0
    """How long a model that has answered before is waited for."""
    refused_seconds: float = 900.0
    """How long a model may refuse every call for its pace. Longer, a daily quota is used up, not
    that of a minute."""
    drain_seconds: float = 0.8
    """How long calls in flight may take when the run is interrupted or cannot go on."""


@dataclass(slots=True)
class RetryState:
    """Count the failures of one request so far."""

    retry_policy: RetryPolicy
    refusals: int = 0
    transient: int = 0
    invalid: int = 0

    def count(self, error: CallError, *, is_outage: bool) -> None:
        """Count one failure. A transient failure during an outage is not the request's own."""
        if error.kind is CallErrorKind.RATE:
            self.refusals += 1
        elif error.kind is CallErrorKind.INVALID:
            self.invalid += 1
        elif not is_outage:
            self.transient += 1

    def is_exhausted(self, error: CallError) -> bool:
        """Return whether this request is not retried any more."""
        match error.kind:
            case CallErrorKind.RATE:
                return False
            case CallErrorKind.TRANSIENT:
                return self.transient >= self.retry_policy.transient_attempts
            case CallErrorKind.INVALID:
                return self.invalid >= self.retry_policy.invalid_attempts
            case _:
                return True

    def delay(self, error: CallError) -> float:
        """Return the seconds until the next attempt.

        The provider's own value counts, else an exponential backoff.
        """
        if error.kind is CallErrorKind.INVALID:
            return 0.0
        count = self.refusals if error.kind is CallErrorKind.RATE else self.transient
        doubled = self.retry_policy.first_delay * 2.0 ** min(max(count - 1, 0), 30)
        jitter = random.uniform(0.5, 1.0)  # noqa: S311 - not secret
        backoff = min(doubled, self.retry_policy.longest_delay) * jitter
        if error.retry_after is None:
            return backoff
        return min(error.retry_after, self.retry_policy.refused_seconds) * (1 + jitter / 10)
