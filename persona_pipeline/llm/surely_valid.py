"""Tell quickly that a value satisfies a JSON schema, where that is plain.

It never says that a value is wrong: what it is not sure of goes to the library jsonschema, whose
verdict and message hold. Of a run's CPU time, the library took a twelfth.
"""

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pydantic import JsonValue

Test = Callable[[Any], bool]
"""True: the value satisfies the schema. False: it is not known whether it does."""
Schema = Mapping[str, Any]
Make = Callable[[Schema], Test]
"""Makes the test of one keyword of a schema."""
Compare = Callable[[Any, Any], bool]

_FORBID_NOTHING = {
    *("$schema", "$comment", "title", "description", "default", "examples"),
    "format",  # jsonschema checks it only if it is told to
}
_TYPES: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),  # 1.0 is one, too: the library knows
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
    "array": (list,),
    "object": (dict,),
}


def surely_valid(schema: JsonValue) -> Test:
    """Compile a schema (draft 2020-12) to a test of values that a JSON decoder made."""
    if schema is True:
        return _always
    if not isinstance(schema, dict) or not schema.keys() <= _KEYWORDS.keys() | _FORBID_NOTHING:
        return _never
    tests = [make(schema) for keyword, make in _KEYWORDS.items() if keyword in schema]
    return _all_of(tests)


def _always(_: Any) -> bool:  # noqa: ANN401 - any JSON value
    return True


def _never(_: Any) -> bool:  # noqa: ANN401 - any JSON value
    return False


def _all_of(tests: Sequence[Test]) -> Test:
    if len(tests) == 1:
        return tests[0]

    def test(value: Any) -> bool:  # noqa: ANN401 - any JSON value
        for each in tests:  # noqa: SIM110 - all() with a generator takes twice as long
            if not each(value):
                return False
        return True

    return test


def _type(schema: Schema) -> Test:
    wanted = schema["type"]
    names = [wanted] if isinstance(wanted, str) else wanted
    if not isinstance(names, list) or not all(name in _TYPES for name in names):
        return _never
    types = frozenset(kind for name in names for kind in _TYPES[name])
    return lambda value: type(value) in types


def _enum(schema: Schema) -> Test:
    if not all(isinstance(item, str) for item in schema["enum"]):
        return _never  # to Python, 1 is true and 1.0
    texts = frozenset(schema["enum"])
    return lambda value: isinstance(value, str) and value in texts


def _properties(schema: Schema) -> Test:
    tests = {name: surely_valid(item) for name, item in schema["properties"].items()}
    get, is_closed = tests.get, schema.get("additionalProperties", True) is False

    def test(value: Any) -> bool:  # noqa: ANN401 - any JSON value
        if not isinstance(value, dict):
            return True
        for name, item in value.items():
            of_property = get(name)
            if of_property is None:
                if is_closed:
                    return False
            elif not of_property(item):
                return False
        return True

    return test


def _additional_properties(schema: Schema) -> Test:
    """Leave `false` and `true` beside `properties` to these; the library knows all else."""
    is_known = isinstance(schema["additionalProperties"], bool) and "properties" in schema
    return _always if is_known else _never


def _required(schema: Schema) -> Test:
    names = frozenset(schema["required"])
    return lambda value: not isinstance(value, dict) or names <= value.keys()


def _items(schema: Schema) -> Test:
    test = surely_valid(schema["items"])
    return lambda value: not isinstance(value, list) or all(map(test, value))


def _pattern(schema: Schema) -> Test:
    matches = re.compile(schema["pattern"]).search
    return lambda value: not isinstance(value, str) or matches(value) is not None


def _size(keyword: str, kind: type[str] | type[list[Any]], is_within: Compare) -> Make:
    def make(schema: Schema) -> Test:
        bound = schema[keyword]
        return lambda value: not isinstance(value, kind) or is_within(len(value), bound)

    return make


def _number(keyword: str, is_within: Compare) -> Make:
    def make(schema: Schema) -> Test:
        bound = schema[keyword]
        return lambda value: type(value) not in _TYPES["number"] or is_within(value, bound)

    return make


_KEYWORDS: Mapping[str, Make] = {
    "type": _type,
    "enum": _enum,
    "minLength": _size("minLength", str, operator.ge),
    "maxLength": _size("maxLength", str, operator.le),
    "pattern": _pattern,
    "minimum": _number("minimum", operator.ge),
    "maximum": _number("maximum", operator.le),
    "required": _required,
    "properties": _properties,
    "additionalProperties": _additional_properties,
    "minItems": _size("minItems", list, operator.ge),
    "maxItems": _size("maxItems", list, operator.le),
    "items": _items,
}
"""Makes the test of a keyword, by keyword. Values of other types than it is about pass."""
