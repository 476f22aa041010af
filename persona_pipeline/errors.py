"""Errors that a user can act on: each message says what is wrong, where, and what to do."""

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from functools import cache

LOG = logging.getLogger(__name__)


class PipelineError(Exception):
    """Base of every error that the command line prints without a traceback."""


class SettingsError(PipelineError):
    """A setting is unknown, has a wrong value, or contradicts another one."""


class SourceError(PipelineError):
    """A corpus source cannot be opened at all (a bad row inside one is rejected, not raised)."""


class ArtifactError(PipelineError):
    """A model or corpus package could not be fetched, or is not what its hash says."""


class DomainError(PipelineError):
    """A domain folder is incomplete or contradicts itself."""


class MemoryLimitError(PipelineError):
    """What is asked for needs more memory than it may take."""


class StoreError(PipelineError):
    """The database cannot be opened, or is newer than this program."""


MANY = 20
"""More names than this are not listed where one of them is near."""


def unknown_choice(kind: str, name: str, known: Iterable[str]) -> str:
    """The message for a name that is not one of `known`, with the nearest one when there is one."""
    choices = sorted(known)
    close = get_close_matches(name, choices, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    listing = "" if hint and len(choices) > MANY else f"; known: {', '.join(choices)}"
    return f"unknown {kind} {name!r}{hint}{listing}"


@contextmanager
def plain_interrupts() -> Iterator[None]:
    """What a signal raised, where DuckDB makes an error of it: a RuntimeError caused by it."""
    try:
        yield
    except RuntimeError as error:
        interrupt = error.__cause__
        if interrupt is None or isinstance(interrupt, Exception):
            raise
        raise interrupt from None


@cache
def tell_renamed(old: str, new: str) -> None:
    """Warn that something has another name now; once for each in a process."""
    LOG.warning("%s is now %s; the old name works until 0.3", old, new)
