r"""Say what of a JSON schema llama.cpp's grammar holds, and write a schema so that it holds more.

A keyword that is not held costs money or time: an answer that breaks it is written, then rejected.
The rules were read off the grammars that the chat route of xllamacpp 2026.10.11549 makes of such
schemas. `tests/llm/test_grammars.py` reads them off again, with `-m model`.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Final

from pydantic import JsonValue

MAX_REPETITIONS: Final = 2000
"""llama.cpp refuses a grammar that repeats an item more often."""
TOO_LONG: Final = f" above {MAX_REPETITIONS:,}"
LENGTHS: Final = ("minLength", "maxLength")
BOUNDS: Final = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
NEVER: Final = (
    *("multipleOf", "uniqueItems", "contains", "minContains", "maxContains"),
    *("minProperties", "maxProperties", "propertyNames", "patternProperties"),
    *("dependentRequired", "dependentSchemas", "unevaluatedItems", "unevaluatedProperties"),
    *("not", "if", "then", "else"),
)
"""Keywords of which no grammar of llama.cpp holds anything."""
CONSTRAINTS: Final = (
    *(*LENGTHS, *BOUNDS, "pattern", "format", "items", "prefixItems", "minItems", "maxItems"),
    *("properties", "required", "anyOf", "oneOf", "allOf", "enum", "const"),
)
"""Keywords that a grammar holds in some places."""
FORMATS: Final = re.compile(r"date|time|date-time|uuid[1-5]?")
"""The formats that are held."""
CLASSES: Final = {"d": "0-9", "w": "A-Za-z0-9_"}
"""Classes such as \\d that can be written out, in their ASCII meaning: it allows less."""
PARTS: Final = re.compile(r"\[\^?\]?(?:\\.|[^\]\\])*\]|\\.|.", re.DOTALL)
"""Matches one class in brackets, one escape or one character of a pattern."""
_UNKNOWN: Final = re.compile(r"(?<!\\)(?:\\\\)*\\[^.*+?()\[\]{}|^$\\]", re.DOTALL)
"""Matches an escape of anything but the signs of patterns."""
MARKS: Final = frozenset("(){}|*+?.^$")


def as_grammar_schema(schema: JsonValue) -> JsonValue:
    r"""Return the schema as it is sent to llama.cpp, which then holds more of it.

    Classes such as \d are written out, and lengths go into the pattern beside them. It allows
    nothing that the given schema forbids, but lengths above 2,000 are left out. Answers are checked
    by the given schema.
    """
    if isinstance(schema, list):
        return [as_grammar_schema(item) for item in schema]
    if not isinstance(schema, Mapping):
        return schema
    written = {
        key: value if key in {"const", "enum"} else as_grammar_schema(value)
        for key, value in schema.items()
        if not (key in LENGTHS and (_as_count(value) or 0) > MAX_REPETITIONS)
    }
    pattern = written.get("pattern")
    if isinstance(pattern, str):
        written["pattern"] = pattern = _write_out(pattern)
        least, most = (_as_count(written.get(name)) for name in LENGTHS)
        if counted := _with_lengths(pattern, least, most):
            written = {key: value for key, value in written.items() if key not in LENGTHS}
            written["pattern"] = counted
    return written


def list_gaps(schema: JsonValue, place: str = "") -> Iterator[str]:
    """Yield what llama.cpp would not hold, such as "age: maximum of a number".

    Args:
        schema: as it is sent.
        place: the field that the schema is of, in a record; empty: the whole answer.
    """
    if not isinstance(schema, Mapping):
        return
    for keyword, why in _gaps(schema):
        yield f"{place or 'answer'}: {keyword}{why}"
    for inner, below in _children(schema, place):
        yield from list_gaps(inner, below)


def _gaps(schema: Mapping[str, JsonValue]) -> Iterator[tuple[str, str]]:
    """Yield the keywords of one schema that are not held, and why."""
    yield from ((keyword, "") for keyword in NEVER if _says_something(schema, keyword))
    there = [keyword for keyword in CONSTRAINTS if keyword in schema]
    for master in ("$ref", "anyOf", "oneOf"):
        if master in schema:
            yield from ((keyword, f" beside {master}") for keyword in there if keyword != master)
            return
    if "enum" in schema or "const" in schema:
        return
    kinds = schema.get("type")
    kinds = kinds if isinstance(kinds, list) else [kinds]
    if "integer" not in kinds or "number" in kinds:
        yield from ((bound, " of a number") for bound in BOUNDS if bound in schema)
    if {"prefixItems", "items"} <= schema.keys():
        yield "prefixItems", " beside items"
    required, properties = schema.get("required"), schema.get("properties", {})
    if isinstance(required, list) and isinstance(properties, Mapping) and "allOf" not in schema:
        missing = [name for name in required if name not in properties]
        yield from (("required", f" of {name!r}, which is no property") for name in missing)
    if "allOf" in schema:
        yield from _all_of_gaps(schema)
    yield from _text_gaps(schema)


def _says_something(schema: Mapping[str, JsonValue], keyword: str) -> bool:
    """Tell whether a keyword is there and forbids anything."""
    allowing_all = {"false"} if keyword == "uniqueItems" else {"true", "{}", "0"}
    return keyword in schema and json.dumps(schema[keyword]) not in allowing_all


def _all_of_gaps(schema: Mapping[str, JsonValue]) -> Iterator[tuple[str, str]]:
    """Yield `allOf` where it is not held: it is read as one object of all its properties."""
    parts = schema["allOf"]
    if "properties" in schema:
        yield "allOf", " beside properties"
    elif isinstance(parts, list) and not all(
        isinstance(part, Mapping) and {"properties", "$ref"} & part.keys() for part in parts
    ):
        yield "allOf", " of other than objects, which allows {} alone"


def _text_gaps(schema: Mapping[str, JsonValue]) -> Iterator[tuple[str, str]]:
    pattern, form = schema.get("pattern"), schema.get("format")
    lengths = [name for name in LENGTHS if name in schema]
    for name in lengths:
        if (_as_count(schema[name]) or 0) > MAX_REPETITIONS:
            yield name, TOO_LONG
    if isinstance(pattern, str):
        parts = PARTS.findall(pattern)
        middle = parts[1:-1]
        if not (parts[:1] == ["^"] and parts[-1:] == ["$"]) or {"^", "$"} & {*middle}:
            yield "pattern", " that does not go from ^ to $"
        elif any(map(_is_unknown, parts)) or re.search(r"\(\?(?!:)", pattern):
            yield "pattern", " with a class such as \\s or a look-around"
        yield from ((name, " beside pattern") for name in lengths)
        if form:
            yield "format", " beside pattern"
    elif isinstance(form, str) and FORMATS.fullmatch(form):
        yield from ((name, " beside format") for name in lengths)
    elif form:
        yield "format", f" {form}"


def _is_unknown(part: str) -> bool:
    """Tell whether a part of a pattern has a class, a border, or an escape of a plain letter."""
    return bool(_UNKNOWN.search(part)) or part.startswith(("[]", "[^]"))


def _children(schema: Mapping[str, JsonValue], place: str) -> Iterator[tuple[JsonValue, str]]:
    """Yield the schemas inside, and the fields that they are of."""
    for keyword, sign in (("properties", ""), ("$defs", "$"), ("definitions", "$")):
        named = schema.get(keyword)
        for name, inner in named.items() if isinstance(named, Mapping) else ():
            yield inner, f"{place}.{sign}{name}".removeprefix(".")
    for keyword in ("items", "additionalProperties"):
        yield schema.get(keyword), f"{place}[]"
    for keyword in ("prefixItems", "anyOf", "oneOf", "allOf"):
        listed = schema.get(keyword)
        for inner in listed if isinstance(listed, list) else ():
            yield inner, place


def _write_out(pattern: str) -> str:
    """Write out the classes of a pattern, also inside brackets."""

    def write(part: re.Match[str]) -> str:
        text = part[0]
        if text.startswith("[^"):  # what is not of a class is more in ASCII
            return text
        if text.startswith("["):
            return re.sub(r"\\(.)", lambda inner: CLASSES.get(inner[1], inner[0]), text)
        letter = text[1:] if text.startswith("\\") else ""
        return f"[{CLASSES[letter]}]" if letter in CLASSES else text

    return PARTS.sub(write, pattern)


def _as_count(value: JsonValue) -> int | None:
    """Return a whole number, also one that is written 3.0."""
    is_whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    return int(value) if is_whole and isinstance(value, int | float) else None


def _with_lengths(pattern: str, least: int | None, most: int | None) -> str | None:
    """Return the pattern with these lengths in it, if it is of single characters up to the last.

    Then the last one is repeated: ^[A-Z][a-z]*$ of 3 to 9 characters is ^[A-Z][a-z]{2,8}$.
    """
    if least is None and most is None:
        return None
    parts = PARTS.findall(pattern)
    if len(parts) < 4 or parts[0] != "^" or parts[-1] != "$" or parts[-2] not in {"*", "+"}:  # noqa: PLR2004 - ^, one part, its sign, $
        return None
    *single, last = parts[1:-2]
    if any(part in MARKS or _is_unknown(part) for part in (*single, last)):
        return None
    low = max((least or 0) - len(single), int(parts[-2] == "+"))
    high = None if most is None else most - len(single)
    if high is not None and high < low:
        return None
    return f"^{''.join(single)}{last}{{{low},{'' if high is None else high}}}$"
