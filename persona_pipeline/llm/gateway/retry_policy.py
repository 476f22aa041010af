"""How long a request is asked for again, and how long a silent model is waited for."""

import random
from dataclasses import dataclass

from persona_pipeline.llm.errors import CallError, CallErrorKind


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Attempts are counted per request; refusals for pace and outages never use one up."""

    transient_attempts: int = 5
    invalid_attempts: int = 2
    first_delay: float = 0.5
    longest_delay: float = 30.0
    first_answer_seconds: float = 10.0
    """A model that never answered and only fails is a wrong address, not an outage."""
    outage_seconds: float = 300.0
    """A model that answered before is waited for this long."""
    refused_seconds: float = 900.0
    """Nothing but refusals for pace: a daily quota is used up, not a minute's."""
    drain_seconds: float = 0.8
    """What is left to calls in flight when the run is interrupted or cannot go on."""


@dataclass(slots=True)
class RetryState:
    """What one request has met so far."""

    retry_policy: RetryPolicy
    refusals: int = 0
    transient: int = 0
    invalid: int = 0

    def count(self, error: CallError, *, is_outage: bool) -> None:
        """One more failure; one of an outage is not the request's own."""
        if error.kind is CallErrorKind.RATE:
            self.refusals += 1
        elif error.kind is CallErrorKind.INVALID:
            self.invalid += 1
        elif not is_outage:
            self.transient += 1

    def is_exhausted(self, error: CallError) -> bool:
        """Whether this request will not be asked for again."""
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
        """Seconds until the next try: what the provider says, or longer and longer."""
        if error.kind is CallErrorKind.INVALID:
            return 0.0
        count = self.refusals if error.kind is CallErrorKind.RATE else self.transient
        doubled = self.retry_policy.first_delay * 2.0 ** min(max(count - 1, 0), 30)
        jitter = random.uniform(0.5, 1.0)  # noqa: S311 - not secret
        backoff = min(doubled, self.retry_policy.longest_delay) * jitter
        if error.retry_after is None:
            return backoff
        return min(error.retry_after, self.retry_policy.refused_seconds) * (1 + jitter / 10)
