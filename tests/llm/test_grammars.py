r"""What llama.cpp holds of a schema while a model writes, and how schemas are sent to it."""

import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import assume, given
from hypothesis import strategies as st

import persona_pipeline
from persona_pipeline.artifacts.packages import fetch
from persona_pipeline.llm.grammars import as_grammar_schema, list_gaps
from persona_pipeline.llm.prompts import object_schema
from tests.support.doc_blocks import read_blocks

PACKAGE = Path(persona_pipeline.__file__).parent
DOCS = PACKAGE.parent / "docs"
TEXT, NUMBER, TABLE = {"type": "string"}, {"type": "number"}, {"type": "object"}
PART = {"type": "object", "properties": {"a": TEXT}, "required": ["a"]}

HELD: dict[str, dict[str, Any]] = {
    "minimum": {"type": "integer", "minimum": 1, "maximum": 5},
    "exclusiveMaximum": {"type": ["integer", "null"], "exclusiveMaximum": 5},
    "pattern": {**TEXT, "pattern": "^[a-z]+(-[0-9]{2})?$"},
    "minLength": {**TEXT, "minLength": 3, "maxLength": 5},
    "maxLength": {"maxLength": 5},
    "format": {**TEXT, "format": "date-time"},
    "minItems": {"type": "array", "items": TEXT, "minItems": 2},
    "prefixItems": {"type": "array", "prefixItems": [TEXT, {"type": "integer"}]},
    "enum": {**TEXT, "enum": ["a", "b"], "minLength": 1},
    "const": {"const": "b"},
    "properties": PART,
    "required": PART,
    "anyOf": {"anyOf": [TEXT, {"type": "integer", "minimum": 2}]},
    "oneOf": {"oneOf": [TEXT, {"type": "null"}]},
    "allOf": {"allOf": [PART, {**PART, "properties": {"b": TEXT}, "required": ["b"]}]},
    "$ref": {"$ref": "#/$defs/word"},
}
"""By keyword: a field whose grammar says something else without it."""
NOT_HELD: dict[str, tuple[str, dict[str, Any]]] = {
    "minimum of a number": ("minimum", {**NUMBER, "minimum": 1}),
    "exclusiveMaximum of a number": ("exclusiveMaximum", {"exclusiveMaximum": 1}),
    "multipleOf": ("multipleOf", {"type": "integer", "multipleOf": 5}),
    "minLength beside pattern": ("minLength", {**TEXT, "minLength": 3, "pattern": "^(a|bc)+$"}),
    "maxLength beside format": ("maxLength", {**TEXT, "maxLength": 3, "format": "date"}),
    "format beside pattern": ("format", {**TEXT, "format": "date", "pattern": "^(a|b)$"}),
    "format email": ("format", {**TEXT, "format": "email"}),
    "uniqueItems": ("uniqueItems", {"type": "array", "items": TEXT, "uniqueItems": True}),
    "contains": ("contains", {"type": "array", "items": TEXT, "contains": {"const": "a"}}),
    "not": ("not", {**TEXT, "not": {"const": "a"}}),
    "if": ("if", {**TEXT, "if": {"minLength": 2}}),
    "minProperties": ("minProperties", {**TABLE, "minProperties": 2}),
    "propertyNames": ("propertyNames", {**TABLE, "propertyNames": {"pattern": "^a$"}}),
    "patternProperties": ("patternProperties", {**TABLE, "patternProperties": {"^a$": TEXT}}),
    "required of 'a', which is no property": ("required", {**TABLE, "required": ["a"]}),
    "prefixItems beside items": (
        "prefixItems",
        {"type": "array", "items": TEXT, "prefixItems": [{"type": "integer"}]},
    ),
    "properties beside anyOf": ("properties", {**PART, "anyOf": [{"required": ["a"]}]}),
    "minLength beside $ref": ("minLength", {"$ref": "#/$defs/word", "minLength": 4}),
    "allOf beside properties": ("allOf", {**PART, "allOf": [{"properties": {"b": TEXT}}]}),
}
"""By gap: the keyword that the grammar says nothing of, and a field with it."""
DROPPED = {
    "pattern that does not go from ^ to $": "a+",
    r"pattern with a class such as \s or a look-around": r"^a\sb$",
}
"""By gap: a pattern in whose place any text is allowed."""


def answer_with(field: dict[str, Any]) -> dict[str, Any]:
    return {**object_schema({"x": field}), "$defs": {"word": TEXT}}


@pytest.mark.parametrize("keyword", HELD)
def test_what_is_held_is_no_gap(keyword: str) -> None:
    assert keyword in HELD[keyword]
    assert list(list_gaps(answer_with(HELD[keyword]))) == []


@pytest.mark.parametrize("gap", NOT_HELD)
def test_what_is_not_held_is_named_with_its_field(gap: str) -> None:
    assert f"x: {gap}" in list(list_gaps(answer_with(NOT_HELD[gap][1])))


@pytest.mark.parametrize("gap", DROPPED)
def test_a_pattern_that_is_dropped_is_named(gap: str) -> None:
    assert list(list_gaps(answer_with({**TEXT, "pattern": DROPPED[gap]}))) == [f"x: {gap}"]


@pytest.mark.parametrize("pattern", [r"^\\\\d$", r"^[\\w]$", "^a\\.$", "^[^a]$"])
def test_a_pattern_that_is_held_is_no_gap(pattern: str) -> None:
    assert not list(list_gaps(as_grammar_schema(answer_with({**TEXT, "pattern": pattern}))))


@pytest.mark.parametrize("pattern", [r"^a\$", r"^[^\d]$", "", "^"])
def test_a_pattern_that_is_not_held_is_a_gap(pattern: str) -> None:
    assert list(list_gaps(as_grammar_schema(answer_with({**TEXT, "pattern": pattern}))))


def test_keywords_that_forbid_nothing_are_no_gaps_and_false_is_one() -> None:
    nothing = {"uniqueItems": False, "contains": True, "minContains": 0, "not": False}
    gaps = list(list_gaps(answer_with({"type": "array", "items": TEXT, **nothing})))
    assert gaps == ["x: not"]
    assert list(list_gaps(answer_with({**PART, "unevaluatedProperties": False})))


def test_a_bound_of_whole_and_other_numbers_is_held_of_whole_ones_only() -> None:
    field = {"type": ["integer", "number"], "maximum": 1}
    assert list(list_gaps(answer_with(field))) == ["x: maximum of a number"]


def test_lengths_that_are_left_out_are_named() -> None:
    field: dict[str, Any] = {**TEXT, "minLength": 2001, "maxLength": 3000}
    assert list(list_gaps(answer_with(field))) == [
        "x: minLength above 2,000",
        "x: maxLength above 2,000",
    ]
    assert as_grammar_schema(field) == TEXT


def test_gaps_inside_lists_objects_and_choices_are_named_with_their_place() -> None:
    bad: dict[str, Any] = {**NUMBER, "minimum": 0}
    inside: dict[str, Any] = {
        "type": "object",
        "properties": {"price": bad},
        "additionalProperties": bad,
    }
    field: dict[str, Any] = {"type": "array", "items": inside, "anyOf": [bad]}
    assert list(list_gaps(object_schema({"offers": field}))) == [
        "offers: items beside anyOf",
        "offers[].price: minimum of a number",
        "offers[][]: minimum of a number",
        "offers: minimum of a number",
    ]


def test_the_packaged_schemas_have_no_gap_as_they_are_sent() -> None:
    files = [path for path in PACKAGE.rglob("*.yaml") if "fields:" in path.read_text()]
    packaged = {path.parent.name: yaml.safe_load(path.read_text())["fields"] for path in files}
    page = (DOCS / "how-to" / "domain.md").read_text()
    [template] = [
        block.text for block in read_blocks(page) if (block.title or "").endswith("domain.yaml")
    ]
    packaged["haiku"] = yaml.safe_load(template)["fields"]
    gaps = {
        name: list(list_gaps(as_grammar_schema(object_schema(fields))))
        for name, fields in packaged.items()
    }
    assert not any(gaps.values()), gaps
    assert len(packaged) == 9


# how a schema is written


@pytest.mark.parametrize(
    ("field", "sent"),
    [
        ({"pattern": r"^\d{4}-\w+$"}, {"pattern": "^[0-9]{4}-[A-Za-z0-9_]+$"}),
        ({"pattern": r"^[\w.-]+\.$"}, {"pattern": r"^[A-Za-z0-9_.-]+\.$"}),
        ({"pattern": r"^\\d$"}, {"pattern": r"^\\d$"}),
        ({"pattern": "^[A-Z][a-z]*$", "minLength": 3, "maxLength": 9}, "^[A-Z][a-z]{2,8}$"),
        ({"pattern": "^a+$", "minLength": 0}, "^a{1,}$"),
        ({"pattern": "^[a-z]+$", "maxLength": 9}, "^[a-z]{1,9}$"),
        ({"pattern": r"^\d+$", "minLength": 3}, "^[0-9]{3,}$"),
        ({"pattern": "^ab+$", "maxLength": 1}, None),
        ({"pattern": r"^[^\d]+$", "maxLength": 3}, {"pattern": r"^[^\d]+$", "maxLength": 3}),
        ({"pattern": r"^\b[a-z]+$", "minLength": 3}, None),
        ({"pattern": "^[a-z]+$", "minLength": 3000}, {"pattern": "^[a-z]+$"}),
        ({"const": {"pattern": r"\d"}}, None),
        ({"pattern": "^(ab)+$", "maxLength": 4}, None),
        ({"pattern": "^a?b+$", "maxLength": 4}, None),
        ({"pattern": "^a|b+$", "maxLength": 4}, None),
    ],
)
def test_patterns_are_written_so_that_they_are_held(
    field: dict[str, Any], sent: dict[str, Any] | str | None
) -> None:
    expected = {"pattern": sent} if isinstance(sent, str) else sent or field
    assert as_grammar_schema({**TEXT, **field}) == {**TEXT, **expected}


PARTS = st.sampled_from(["a", "[ab]", r"\.", "[^a]", r"\d", r"[\w-]", "-"])


@given(
    parts=st.lists(PARTS, min_size=1, max_size=3),
    sign=st.sampled_from("*+"),
    least=st.none() | st.integers(0, 5),
    most=st.none() | st.integers(0, 5),
    text=st.text("ab.-1_", max_size=6),
)
def test_the_sent_schema_allows_the_same_texts(
    parts: list[str], sign: str, least: int | None, most: int | None, text: str
) -> None:
    lengths = {"minLength": least, "maxLength": most}
    given_schema: dict[str, Any] = {
        **TEXT,
        "pattern": f"^{''.join(parts)}{sign}$",
        **{name: value for name, value in lengths.items() if value is not None},
    }
    sent = as_grammar_schema(given_schema)
    assume(sent != given_schema)
    assert allows(sent, text) == allows(given_schema, text)


def allows(schema: Any, text: str) -> bool:  # noqa: ANN401 - any schema
    return bool(jsonschema.Draft202012Validator(schema).is_valid(text))


# what the engine itself says


@pytest.fixture(scope="module")
def grammar_of() -> Any:  # noqa: ANN401 - a function
    """Return the grammar that the chat route makes of a field. The smallest model is loaded."""
    import xllamacpp  # noqa: PLC0415 - 34 MB

    params = xllamacpp.CommonParams()
    params.model.path = str(fetch("qwen2.5-coder-0.5b"))
    params.n_ctx, params.ui, params.verbosity = 512, False, 10  # such talk has the grammar
    server = xllamacpp.Server(params)

    def ask(field: dict[str, Any]) -> str:
        form = {"name": "a", "schema": answer_with(field)}
        answer = server.handle_chat_completions(
            {
                "messages": [{"role": "user", "content": "x"}],
                "max_tokens": 1,
                "verbose": True,
                "response_format": {"type": "json_schema", "json_schema": form},
            }
        )
        return str(answer["__verbose"]["generation_settings"]["grammar"])

    return ask


def without(field: dict[str, Any], keyword: str) -> dict[str, Any]:
    return {name: value for name, value in field.items() if name != keyword}


@pytest.mark.model
def test_the_engine_holds_and_does_not_hold_what_is_said_of_it(grammar_of: Any) -> None:  # noqa: ANN401 - a function
    for keyword, field in HELD.items():
        assert grammar_of(field) != grammar_of(without(field, keyword)), keyword
    for gap, (keyword, field) in NOT_HELD.items():
        rest = without(field, keyword)
        assert meaning(grammar_of(field)) == meaning(grammar_of(rest)), gap
    for gap, pattern in DROPPED.items():
        assert re.search(
            r"-x ::= string$", grammar_of({**TEXT, "pattern": pattern}), re.MULTILINE
        ), gap
    for field in ({"pattern": "^[A-Z][a-z]{2,8}$"}, {"pattern": "^[0-9]{3,}$"}):
        assert not re.search(r"-x ::= string$", grammar_of({**TEXT, **field}), re.MULTILINE)
    parts = [{"minLength": 3}, {"pattern": "^a$"}]
    assert '-x ::= "{" space "}"' in grammar_of({**TEXT, "allOf": parts})


def meaning(grammar: str) -> str:
    """Return the grammar with the rule of the field in the place of its name."""
    rules = dict(line.split(" ::= ", 1) for line in grammar.splitlines() if " ::= " in line)
    whole = rules["response-format-schema-x-kv"]
    return whole.replace("response-format-schema-x", rules.get("response-format-schema-x", ""))
