r"""Say what of a JSON schema llama.cpp's grammar holds, and write a schema so that it holds more.

A keyword that is not held costs money or time: an answer that breaks it is written, then rejected.
The rules were read off the grammars that the chat route of xllamacpp 2026.10.11549 makes of such
schemas. `tests/llm/test_grammars.py` reads them off again, with `-m model`.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Final

from pydantic import JsonValue

MAX_REPETITIONS: Final = 2000
"""llama.cpp refuses a grammar that repeats an item more often."""
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
SPECIAL: Final = re.compile(r"\\[A-Za-z0-9]|\(\?(?!:)")
"""Matches what no grammar has: classes, look-arounds, references."""
MARKS: Final = frozenset("(){}|*+?.^$")


def as_grammar_schema(schema: JsonValue) -> JsonValue:
    r"""Return the schema as it is sent to llama.cpp, which then holds more of it.

    Classes such as \d are written out, and lengths go into the pattern beside them. It allows
    nothing that the given schema forbids, but `maxLength` above 2,000 is left out. Answers are
    checked by the given schema.
    """
    if isinstance(schema, list):
        return [as_grammar_schema(item) for item in schema]
    if not isinstance(schema, Mapping):
        return schema
    written = {key: as_grammar_schema(value) for key, value in schema.items()}
    longest, pattern = written.get("maxLength"), written.get("pattern")
    if isinstance(longest, int) and longest > MAX_REPETITIONS:
        del written["maxLength"]
    if isinstance(pattern, str):
        written["pattern"] = pattern = _write_out(pattern)
        if counted := _with_lengths(pattern, written.get("minLength"), written.get("maxLength")):
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
    yield from ((keyword, "") for keyword in NEVER if schema.get(keyword) not in (None, False))
    there = [keyword for keyword in CONSTRAINTS if keyword in schema]
    for master in ("$ref", "anyOf", "oneOf"):
        if master in schema:
            yield from ((keyword, f" beside {master}") for keyword in there if keyword != master)
            return
    if "enum" in schema or "const" in schema:
        return
    kinds = schema.get("type")
    kinds = kinds if isinstance(kinds, list) else [kinds]
    if "integer" not in kinds:
        yield from ((bound, " of a number") for bound in BOUNDS if bound in schema)
    if "required" in schema and not {"properties", "allOf"} & schema.keys():
        yield "required", " without properties"
    if "allOf" in schema:
        yield from _all_of_gaps(schema)
    yield from _text_gaps(schema)


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
    if isinstance(pattern, str):
        if not (pattern.startswith("^") and pattern.endswith("$")):
            yield "pattern", " that does not go from ^ to $"
        elif SPECIAL.search(pattern):
            yield "pattern", " with a class such as \\s or a look-around"
        yield from ((name, " beside pattern") for name in lengths)
        if form:
            yield "format", " beside pattern"
    elif isinstance(form, str) and FORMATS.fullmatch(form):
        yield from ((name, " beside format") for name in lengths)
    elif form:
        yield "format", f" {form}"


def _children(schema: Mapping[str, JsonValue], place: str) -> Iterator[tuple[JsonValue, str]]:
    """Yield the schemas inside, and the fields that they are of."""
    for keyword in ("properties", "$defs", "definitions"):
        named = schema.get(keyword)
        for name, inner in named.items() if isinstance(named, Mapping) else ():
            yield inner, f"{place}.{name}".removeprefix(".")
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
        if text.startswith("["):
            return re.sub(r"\\(.)", lambda inner: CLASSES.get(inner[1], inner[0]), text)
        letter = text[1:] if text.startswith("\\") else ""
        return f"[{CLASSES[letter]}]" if letter in CLASSES else text

    return PARTS.sub(write, pattern)


def _with_lengths(pattern: str, least: JsonValue, most: JsonValue) -> str | None:
    """Return the pattern with these lengths in it, if it is of single characters up to the last.

    Then the last one is repeated: ^[A-Z][a-z]*$ of 3 to 9 characters is ^[A-Z][a-z]{2,8}$.
    """
    if not isinstance(least, int) and not isinstance(most, int):
        return None
    parts = PARTS.findall(pattern)
    if len(parts) < 4 or parts[0] != "^" or parts[-1] != "$" or parts[-2] not in {"*", "+"}:  # noqa: PLR2004 - ^, one part, its sign, $
        return None
    *single, last = parts[1:-2]
    if any(part in MARKS for part in (*single, last)):
        return None
    low = max(least - len(single) if isinstance(least, int) else 0, int(parts[-2] == "+"), 0)
    high = most - len(single) if isinstance(most, int) else None
    if high is not None and high < low:
        return None
    return f"^{''.join(single)}{last}{{{low},{'' if high is None else high}}}$"
