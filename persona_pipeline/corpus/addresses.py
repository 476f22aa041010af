"""Addresses as people may see them: no user names, passwords, tokens or signatures."""

import re

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_USER = re.compile(r"(://)[^/\s'\"@]*@")
_QUERY = re.compile(r"(://[^\s'\"?#]*)[?#][^\s'\"]*")


def is_url(text: str) -> bool:
    """Whether the text starts with a scheme, as in s3://."""
    return _URL.match(text) is not None


def redact(text: str) -> str:
    """The text with every address in it cut down to scheme, host and path."""
    return _QUERY.sub(r"\1", _USER.sub(r"\1", text))
