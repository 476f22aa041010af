"""Show addresses without user names, passwords, tokens or signatures."""

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from itertools import permutations
from pathlib import Path, PurePosixPath

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_USER = re.compile(r"(://)[^/\s'\"@]*@")
_QUERY = re.compile(r"(://[^\s'\"?#]*)[?#][^\s'\"]*")


def is_url(text: str) -> bool:
    """Return whether the text starts with a scheme, as in s3://."""
    return _URL.match(text) is not None


def redact(text: str) -> str:
    """Return the text with every address in it shortened to scheme, host and path.

    A text that is one address as a whole may have spaces and quotation marks in it.
    """
    if is_url(text) and "\n" not in text:
        scheme, _, rest = text.partition("://")
        host, slash, path = re.split(r"[?#]", rest, maxsplit=1)[0].partition("/")
        return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"
    return _QUERY.sub(r"\1", _USER.sub(r"\1", text))


def refuse_nested(places: Sequence[str]) -> None:
    """Refuse places of which one contains another: its texts would be read twice.

    A pattern with ** is not compared with what it may match.

    Raises:
        ValueError: the message names both places.
    """
    shown = [redact(place) for place in places]
    paths = [PurePosixPath(each) if is_url(each) else Path(each).resolve() for each in shown]
    for outer, inner in permutations(range(len(places)), 2):
        if shown[outer] == shown[inner]:
            msg = f"{shown[outer]!r} is named twice"
            raise ValueError(msg)
        if _holds(paths[outer].parts, paths[inner].parts):
            msg = f"{shown[inner]!r} is in {shown[outer]!r}: name one of them"
            raise ValueError(msg)


def _holds(outer: Sequence[str], inner: Sequence[str]) -> bool:
    if len(inner) > len(outer):
        return tuple(inner[: len(outer)]) == tuple(outer)
    return len(inner) == len(outer) and all(map(fnmatchcase, inner, outer))
