"""Addresses as people may see them: no user names, passwords, tokens or signatures."""

import re
from collections.abc import Sequence
from itertools import permutations
from pathlib import Path, PurePosixPath

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_USER = re.compile(r"(://)[^/\s'\"@]*@")
_QUERY = re.compile(r"(://[^\s'\"?#]*)[?#][^\s'\"]*")


def is_url(text: str) -> bool:
    """Whether the text starts with a scheme, as in s3://."""
    return _URL.match(text) is not None


def redact(text: str) -> str:
    """The text with every address in it cut down to scheme, host and path."""
    return _QUERY.sub(r"\1", _USER.sub(r"\1", text))


def refuse_nested(places: Sequence[str]) -> None:
    """Raises ValueError where one place holds another: its texts would be there twice."""
    paths = {
        number: PurePosixPath(place) if is_url(place) else Path(place).resolve()
        for number, place in enumerate(places)
    }
    for outer, inner in permutations(paths, 2):
        if paths[inner].is_relative_to(paths[outer]):
            msg = f"{places[inner]!r} is in {places[outer]!r}: name one of them"
            raise ValueError(msg)
