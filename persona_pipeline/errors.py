"""Define the errors that a user can act on.

Each message says what is wrong, where, and what to do.
"""

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from functools import cache

LOG = logging.getLogger(__name__)


class PipelineError(Exception):
    """Mark an error that the command line prints without a traceback."""


class SettingsError(PipelineError):
    """Report a setting that is unknown, has a wrong value, or contradicts another one."""


class SourceError(PipelineError):
    """Report a corpus source that cannot be opened at all.

    A bad row inside a source is rejected, not raised.
    """


class ArtifactError(PipelineError):
    """Report a model or corpus package that could not be fetched or does not match its hash."""


class DomainError(PipelineError):
    """Report a domain folder that is incomplete or contradicts itself."""


class MemoryLimitError(PipelineError):
    """Report work that needs more memory than it may use."""


class StoreError(PipelineError):
    """Report a database that cannot be opened, or that a newer version of this program wrote."""


MANY = 20
"""The most names that a message lists when one of them is close to the unknown name."""


def unknown_choice(kind: str, name: str, known: Iterable[str]) -> str:
    """Return the message for a name that is not in `known`, with the closest known name, if any."""
    choices = sorted(known)
    close = get_close_matches(name, choices, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    listing = "" if hint and len(choices) > MANY else f"; known: {', '.join(choices)}"
    return f"unknown {kind} {name!r}{hint}{listing}"


DISK_FULL = ("No space left on device", "disk is full", "Disk quota exceeded", "disk I/O error")
"""How the system, DuckDB and SQLite say it, each in an error of another type. The last is what
SQLite says if there is no room for its index of the log."""


def explain_full_disk(error: BaseException) -> str | None:
    """Return what to do if the error, or one that it was raised from, is of a full disk."""
    chain = [error]
    while (last := chain[-1].__cause__ or chain[-1].__context__) and last not in chain:
        chain.append(last)
    for said in (text for text in DISK_FULL if any(text in str(link) for link in chain)):
        return (
            f"the disk of the data directory or of the temporary folder has no room ({said}). What "
            "was bought and could be written is kept: free some space, run the same command again"
        )
    return None


@contextmanager
def plain_interrupts() -> Iterator[None]:
    """Raise what a signal raised in place of DuckDB's `RuntimeError`, whose cause it is."""
    try:
        yield
    except RuntimeError as error:
        interrupt = error.__cause__
        if interrupt is None or isinstance(interrupt, Exception):
            raise
        raise interrupt from None


@cache
def tell_renamed(old: str, new: str) -> None:
    """Warn once per process that something has a new name."""
    LOG.warning("%s is now %s; the old name works until 0.3", old, new)
