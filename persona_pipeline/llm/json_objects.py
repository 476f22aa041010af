"""Find the JSON objects in a text, and read each of them strictly enough for a table."""

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from persona_pipeline.control_characters import clean_value

MAX_DIGITS = 18
"""The most digits that fit a column of whole numbers."""
_TRAILING_COMMA = re.compile(r'("(?:\\.|[^"\\])*")|,(?=\s*[}\]])')
"""Matches a whole string, which stays, or a comma before a closing bracket, which is removed."""
_BEGINNING = re.compile(r'\{(?=\s*["}])')
"""Matches the brace of an object. A brace before any other sign belongs to a sentence."""
_STRING_OR_BRACE = re.compile(r'"(?:\\.|[^"\\])*(")?|[{}]', re.DOTALL)
"""Matches a string, with its closing quote as a group if it has one, or a brace outside strings."""


@dataclass(frozen=True, slots=True)
class FoundObject:
    """Hold an object and the place of its text."""

    start: int
    end: int
    value: dict[str, Any]


def read_json(text: str) -> Any:  # noqa: ANN401 - any JSON value
    """Read only what the tables can hold, without control characters.

    `json.loads` also accepts lone surrogates, NaN and any depth of nesting.

    Raises:
        ValueError: the text is not JSON, or holds what no table can.
    """
    return _read(_DECODER, text)


def find_objects(text: str) -> Iterator[FoundObject]:
    """Yield the objects that lie in no other object, from the first to the last.

    Stray commas are removed and line breaks inside strings are kept. Nothing is ever added, so an
    object that is cut off is not one, nor is anything after its beginning.
    """
    position = 0
    while begins := _BEGINNING.search(text, position):
        end = _end_of_object(text, begins.start())
        if end is None:
            return
        value = _read_repaired(text[begins.start() : end])
        if value is not None:
            yield FoundObject(begins.start(), end, value)
        position = end


def _end_of_object(text: str, start: int) -> int | None:
    """Return the place after the brace that closes the object, or None if none does."""
    depth = 0
    for match in _STRING_OR_BRACE.finditer(text, start):
        item = match[0]
        if item == "{":
            depth += 1
        elif item == "}":
            depth -= 1
            if not depth:
                return match.end()
        elif not match[1]:
            return None
    return None


def _read_repaired(text: str) -> dict[str, Any] | None:
    for form in (text, _TRAILING_COMMA.sub(lambda match: match[1] or "", text)):
        try:
            value: dict[str, Any] = _read(_LENIENT_DECODER, form)
        except ValueError:
            continue
        return value
    return None


def _read(decoder: json.JSONDecoder, text: str) -> Any:  # noqa: ANN401 - any JSON value
    try:
        value = decoder.decode(text)
        if "\\u" in text or not text.isascii():
            json.dumps(value, ensure_ascii=False).encode()
        value = clean_value(value)
    except UnicodeEncodeError as error:
        msg = f"half a character ({error.object[error.start]!r})"
        raise ValueError(msg) from None
    except RecursionError:
        msg = "nested too deeply"
        raise ValueError(msg) from None
    return value


def _read_integer(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        msg = f"{digits[:MAX_DIGITS]}... is too large a number"
        raise ValueError(msg)
    return int(digits)


def _refuse_constant(name: str) -> float:
    msg = f"{name} is no number that JSON or a table knows"
    raise ValueError(msg)


def _read_decimal(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        msg = f"{digits[:MAX_DIGITS]} is too large a number"
        raise ValueError(msg)
    return number


_HOOKS: dict[str, Any] = {
    "parse_int": _read_integer, "parse_float": _read_decimal, "parse_constant": _refuse_constant
}  # fmt: skip
_DECODER = json.JSONDecoder(**_HOOKS)
_LENIENT_DECODER = json.JSONDecoder(**_HOOKS, strict=False)
