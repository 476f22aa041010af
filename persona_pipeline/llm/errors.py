"""Define how a model call can fail, in the five kinds that are treated differently."""

from enum import StrEnum

from persona_pipeline.errors import PipelineError


class CallErrorKind(StrEnum):
    """Say how a failed call is treated."""

    RATE = "rate"
    """The provider refused the pace. Wait as it asks, then ask again. This never uses up an
    attempt."""
    TRANSIENT = "transient"
    """The server or the network failed. Ask again, a few times."""
    INVALID = "invalid"
    """The answer was billed, but is empty, truncated, refused or not of the schema. Ask once
    more."""
    PERMANENT = "permanent"
    """This request will never be answered: it is too long, or its content is forbidden."""
    FATAL = "fatal"
    """No request will be answered: the key is wrong, or there is no such model. Stop the run."""


class CallError(Exception):
    """Report one failed call."""

    def __init__(  # noqa: PLR0913 - all that can be known of a failure
        self,
        kind: CallErrorKind,
        message: str,
        *,
        retry_after: float | None = None,
        maybe_billed: bool = False,
        is_timeout: bool = False,
        is_doubtful: bool = False,
        is_unpaid: bool = False,
    ) -> None:
        """Take the kind, the message and what else is known.

        `retry_after`: seconds that the provider asked us to wait. `maybe_billed`: the request was
        sent and no readable answer came (time-out, broken connection or body), so a budget counts
        it. `is_timeout`: the server took too long, perhaps because we ask too much at once.
        `is_doubtful`: the status says fatal, but some servers use it for a single request.
        `is_unpaid`: the account has no money or quota left, which no wait brings back.
        """
        super().__init__(message)
        self.answer = ""
        """What the server sent with its refusal. It may repeat a key, so it is never shown."""
        self.kind = kind
        self.retry_after = retry_after
        self.maybe_billed = maybe_billed
        self.is_timeout = is_timeout
        self.is_doubtful = is_doubtful
        self.is_unpaid = is_unpaid
        self.is_repeated = False

    def repeated(self) -> "CallError":
        """Return this error for a further request of those that one reply ended.

        The reply is counted once.
        """
        other = CallError(
            self.kind,
            str(self),
            retry_after=self.retry_after,
            maybe_billed=self.maybe_billed,
            is_timeout=self.is_timeout,
            is_doubtful=self.is_doubtful,
            is_unpaid=self.is_unpaid,
        )
        other.is_repeated = True
        return other


class ModelError(PipelineError):
    """Report a model that cannot be used at all. The message says what to change."""
