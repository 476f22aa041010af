"""What can go wrong with a model call, in the five kinds that are treated differently."""

from enum import StrEnum

from persona_pipeline.errors import PipelineError


class CallErrorKind(StrEnum):
    """How a failed call is treated."""

    RATE = "rate"
    """Refused for its pace: wait as told, then ask again; never uses up an attempt."""
    TRANSIENT = "transient"
    """Server or network trouble: ask again, a few times."""
    INVALID = "invalid"
    """Answered and billed, but empty, cut off, refused or not of the schema: one more try."""
    PERMANENT = "permanent"
    """This request will never be answered (too long, forbidden content)."""
    FATAL = "fatal"
    """No request will be answered (bad key, no such model): stop the run."""


class CallError(Exception):
    """One failed call."""

    def __init__(  # noqa: PLR0913 - what is known of a failure
        self,
        kind: CallErrorKind,
        message: str,
        *,
        retry_after: float | None = None,
        maybe_billed: bool = False,
        is_timeout: bool = False,
        is_doubtful: bool = False,
    ) -> None:
        """What went wrong.

        `retry_after`: seconds the provider asked us to wait. `maybe_billed`: the request was sent
        and no readable answer came (time-out, broken connection or body): a budget counts it.
        `is_timeout`: the server took too long, perhaps because we ask too much at once.
        `is_doubtful`: fatal by its status, which some servers use for a single request, too.
        """
        super().__init__(message)
        self.kind = kind
        self.retry_after = retry_after
        self.maybe_billed = maybe_billed
        self.is_timeout = is_timeout
        self.is_doubtful = is_doubtful


class ModelError(PipelineError):
    """The model cannot be used at all; the message says what to change."""
