"""Hash values into stable identifiers: the same on every machine and in every release.

The version of the program alone differs from release to release.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib.metadata import version
from json.encoder import encode_basestring
from pathlib import Path

from pydantic import JsonValue

_PACKAGE = Path(__file__).parent
_PARTS = (_PACKAGE, _PACKAGE.parent / "assets", _PACKAGE.parent / "sql")
"""Folders whose files decide what a step makes: the package holds `sql`, or the checkout does."""
_LIBRARIES = ("duckdb", "jinja2", "jsonschema", "polars", "py3langid", "rapidfuzz")
"""Libraries whose next release may make other rows of the same input."""
_KINDS = {".py", ".sql", ".j2", ".yaml", ".toml", ".csv"}
_NOT_OF_A_STEP = {"cli", "domains", "prompts", "__pycache__"}
"""Folders that are left out. Prompts and domains have versions of their own."""


_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def canonical_json(value: JsonValue) -> str:
    """Spell a JSON value in one way: sorted keys, no spaces, no ASCII escapes."""
    if type(value) is str:
        return encode_basestring(value)
    return str(value) if type(value) is int else _ENCODER.encode(value)


def stable_id(*parts: JsonValue) -> str:
    """Return 32 hex digits: BLAKE2b-128 of the parts' canonical JSON."""
    return digest(f"[{','.join(map(canonical_json, parts))}]")


def stable_ids(first: Sequence[JsonValue], last: Iterable[str]) -> list[str]:
    """Return `stable_id(*first, each)` for each text of `last`, in a quarter of the time."""
    start = canonical_json([*first]).removesuffix("]")
    return [digest(f"{start},{encode_basestring(each)}]") for each in last]


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


@cache
def code_version() -> str:
    """Return a hash (32 hex digits) of the program's files and of the libraries that judge texts.

    An edit of a Python or SQL file changes it, whether or not somebody thought of raising a
    version. Prompts and domains have versions of their own. It takes 0.02 s, once in a process.
    """
    versions = " ".join(f"{name} {version(name)}" for name in _LIBRARIES)
    total = hashlib.blake2b(versions.encode(), digest_size=16)
    for folder in _PARTS:
        for path in sorted(folder.rglob("*")):
            inside = path.relative_to(folder)
            if path.suffix in _KINDS and _NOT_OF_A_STEP.isdisjoint(inside.parts):
                content = path.read_bytes()
                total.update(f"{folder.name}/{inside.as_posix()} {len(content)} ".encode())
                total.update(content)
    return total.hexdigest()
