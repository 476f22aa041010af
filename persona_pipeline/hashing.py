"""Hash values into stable identifiers: the same on every machine and in every release."""

import hashlib
import json
from collections.abc import Mapping

from pydantic import JsonValue


def canonical_json(value: JsonValue) -> str:
    """Spell a JSON value in one way: sorted keys, no spaces, no ASCII escapes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def stable_id(*parts: JsonValue) -> str:
    """Return 32 hex digits: BLAKE2b-128 of the parts' canonical JSON."""
    return digest(canonical_json(list(parts)))


def versioned_text(name: str, version: int, fields: Mapping[str, float | str | None]) -> str:
    """Spell named plain values as `Name(field=value, ...)`, for what compares stored versions.

    Each caller lists its fields, so renaming a class or adding an attribute changes no version.
    Version 1 has no number in its text: data directories written before 0.2 hold hashes of it.
    """
    label = name if version == 1 else f"{name} {version}"
    return f"{label}({', '.join(f'{field}={value!r}' for field, value in fields.items())})"


def digest(text: str) -> str:
    """Return 32 hex digits: BLAKE2b-128 of a text that is canonical already."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
