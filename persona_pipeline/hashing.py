"""Stable identifiers: the same value has the same id on every machine and in every release."""

import hashlib
import json

from pydantic import JsonValue


def canonical_json(value: JsonValue) -> str:
    """One spelling per JSON value: sorted keys, no spaces, no ASCII escapes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def stable_id(*parts: JsonValue) -> str:
    """32 hex digits (BLAKE2b-128) of the parts' canonical JSON."""
    return digest(canonical_json(list(parts)))


def digest(text: str) -> str:
    """32 hex digits (BLAKE2b-128) of a text that is canonical already."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
