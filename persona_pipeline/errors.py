"""Define the errors that a user can act on. A message says what is wrong, where, and what to do."""

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from functools import cache

LOG = logging.getLogger(__name__)


class PipelineError(Exception):
    """Base of all errors that the command line prints without a traceback."""


class SettingsError(PipelineError):
    """A setting is unknown, has a wrong value, or contradicts another one."""


class SourceError(PipelineError):
    """A corpus source cannot be opened. A bad row inside one is rejected instead."""


class ArtifactError(PipelineError):
    """A model or corpus package could not be fetched, or has another hash than it should."""


class DomainError(PipelineError):
    """A domain folder is incomplete or contradicts itself."""


class MemoryLimitError(PipelineError):
    """A step needs more memory than the settings allow."""


class StoreError(PipelineError):
    """The database cannot be opened, or is newer than this program."""


MANY = 20
"""Names that are listed at most when one of them is near the unknown name."""


def unknown_choice(kind: str, name: str, known: Iterable[str]) -> str:
    """Return the message for a name that is not one of `known`, with the nearest known name."""
    choices = sorted(known)
    close = get_close_matches(name, choices, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    listing = "" if hint and len(choices) > MANY else f"; known: {', '.join(choices)}"
    return f"unknown {kind} {name!r}{hint}{listing}"


@contextmanager
def plain_interrupts() -> Iterator[None]:
    """Raise what a signal raised, where DuckDB turns it into the cause of a RuntimeError."""
    try:
        yield
    except RuntimeError as error:
        interrupt = error.__cause__
        if interrupt is None or isinstance(interrupt, Exception):
            raise
        raise interrupt from None


@cache
def tell_renamed(old: str, new: str) -> None:
    """Warn that something has a new name, once per name and process."""
    LOG.warning("%s is now %s; the old name works until 0.3", old, new)
