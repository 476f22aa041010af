"""What is surely valid is valid to the library, too, and plain answers are sure."""

from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue

from persona_pipeline.llm.surely_valid import surely_valid
from persona_pipeline.synthesis.domain import Domain, load_domains

NAMES = st.sampled_from(["a", "b", "c"])
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.sampled_from([0.0, 1.0, 1.5, -2.0]),
    st.sampled_from(["", "a", "ab", "abc", "a\n", "b", "é"]),
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
)
TYPES = st.sampled_from(["string", "integer", "number", "boolean", "null", "array", "object"])
SIZES = st.integers(0, 3)


def _schemas(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.fixed_dictionaries(
        {},
        optional={
            "type": TYPES | st.lists(TYPES, min_size=1, max_size=3, unique=True),
            "enum": st.lists(LEAVES, min_size=1, max_size=3),
            "minLength": SIZES,
            "maxLength": SIZES,
            "pattern": st.sampled_from(["^a", "b$", "^a*$", r"\w"]),
            "minimum": st.sampled_from([-1, 0, 1.0]),
            "maximum": st.sampled_from([0, 1.5, 2]),
            "required": st.lists(NAMES, max_size=2, unique=True),
            "properties": st.dictionaries(NAMES, inner, max_size=3),
            "additionalProperties": st.booleans() | inner,
            "minItems": SIZES,
            "maxItems": SIZES,
            "items": inner,
            "description": st.just("A note."),
            "multipleOf": st.just(0.5),
            "prefixItems": st.lists(inner, min_size=1, max_size=2),
        },
    )


SCHEMAS: st.SearchStrategy[Any] = st.recursive(st.booleans() | st.just({}), _schemas, max_leaves=6)


@given(schema=SCHEMAS, value=VALUES)
def test_what_is_surely_valid_is_valid(schema: dict[str, JsonValue], value: JsonValue) -> None:
    if surely_valid(schema)(value):
        jsonschema.Draft202012Validator(schema).validate(value)


PERSON: dict[str, JsonValue] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 1, "pattern": "^[A-Z]"},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "kind": {"enum": ["cook", "pilot"]},
        "tags": {"type": "array", "items": {"type": ["string", "null"]}, "maxItems": 2},
    },
    "required": ["name"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    ("change", "is_sure"),
    [
        ({}, True),
        ({"kind": "cook", "tags": ["a", None]}, True),
        ({"name": ""}, False),
        ({"name": "ann"}, False),
        ({"name": None}, False),
        ({"age": -1}, False),
        ({"age": 151}, False),
        ({"age": True}, False),
        ({"kind": "baker"}, False),
        ({"tags": ["a", "b", "c"]}, False),
        ({"tags": [1]}, False),
        ({"other": 1}, False),
    ],
)
def test_a_plain_value_is_surely_valid_and_a_wrong_one_is_not(
    change: dict[str, JsonValue], *, is_sure: bool
) -> None:
    person: dict[str, JsonValue] = {"name": "Ann", "age": 30, **change}
    assert surely_valid(PERSON)(person) == is_sure
    assert jsonschema.Draft202012Validator(PERSON).is_valid(person) == is_sure


def test_a_missing_property_is_not_sure() -> None:
    assert not surely_valid(PERSON)({"age": 30})


@pytest.mark.parametrize("keyword", ["multipleOf", "$ref", "anyOf", "prefixItems", "not"])
def test_a_keyword_that_is_not_known_leaves_all_to_the_library(keyword: str) -> None:
    assert not surely_valid({"type": "number", keyword: 1})(1)


@pytest.mark.parametrize("domain", load_domains().values(), ids=lambda each: each.name)
def test_examples_of_all_domains_are_sure(domain: Domain) -> None:
    """Or the library would check each answer: the gain would be gone, and no other test fail."""
    is_sure = surely_valid(domain.prompt.schema)
    assert domain.file.examples
    assert all(is_sure(example.answer) for example in domain.file.examples)
