"""Test when two requests are the same, how answers are read, and the fake model."""

import asyncio
import json
from dataclasses import asdict, replace

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue

from persona_pipeline.hashing import stable_id
from persona_pipeline.llm.answers import check_reply, parse_answer
from persona_pipeline.llm.clients.fake import FakeChatClient, instance_of_schema
from persona_pipeline.llm.errors import CallError, CallErrorKind
from persona_pipeline.llm.prompts import object_schema
from persona_pipeline.llm.requests import KEY_VERSION, ChatReply, ChatRequest, Sampling
from tests.support.examples import CLEAN_TEXTS
from tests.support.purchases import GOOD, SCHEMA, make_request

REQUEST = make_request()


def test_labels_are_no_part_of_the_key() -> None:
    labelled = replace(REQUEST, stage="other", prompt_name="name", prompt_version="v2")
    assert labelled.call_key == REQUEST.call_key
    assert labelled == REQUEST


@pytest.mark.parametrize(
    "other",
    [
        replace(REQUEST, model="fake/slow"),
        replace(REQUEST, messages=({"role": "user", "content": "Who else?"},)),
        replace(REQUEST, messages=({"role": "system", "content": "Who?"},)),
        replace(REQUEST, messages=(*REQUEST.messages, *REQUEST.messages)),
        replace(REQUEST, schema=object_schema({"persona": {"type": "string"}})),
        replace(REQUEST, sampling=Sampling(temperature=0.1)),
        replace(REQUEST, sampling=Sampling(top_p=0.1)),
        replace(REQUEST, sampling=Sampling(max_tokens=1)),
        replace(REQUEST, sample=1),
    ],
    ids=["model", "content", "role", "turns", "schema", "temperature", "top_p", "tokens", "sample"],
)
def test_everything_that_changes_the_answer_changes_the_key(other: ChatRequest) -> None:
    assert other.call_key != REQUEST.call_key


@given(
    st.text(),
    st.lists(st.dictionaries(st.sampled_from(["role", "content", "name"]), st.text()), max_size=3),
    st.dictionaries(st.text(), st.integers() | st.text(), max_size=3),
    st.sampled_from([0, 0.0, 1, 1.0, 0.7]),
    st.integers(0, 3),
)
def test_the_key_is_the_stable_id_of_the_parts_however_it_is_put_together(
    model: str,
    messages: list[dict[str, str]],
    schema: dict[str, JsonValue],
    temperature: float,
    sample: int,
) -> None:
    sampling = Sampling(temperature)
    request = ChatRequest(model, tuple(messages), schema, sampling, sample)
    turns: list[JsonValue] = [{**message} for message in messages]
    expected = stable_id(KEY_VERSION, model, turns, schema, asdict(sampling), sample)
    assert request.call_key == expected


def test_the_key_of_a_request_never_changes_between_releases() -> None:
    assert REQUEST.call_key == "81cd1cc29a2a7ec84425e4bbf5fd37ad"


@pytest.mark.parametrize(
    "text",
    [GOOD, f"  {GOOD}\n", f"```json\n{GOOD}\n```", f"```\n{GOOD}```", f"\n```JSON\n{GOOD}\n```\n"],
)
def test_an_answer_is_read_with_and_without_a_code_fence(text: str) -> None:
    assert parse_answer(text, SCHEMA) == {"persona": "A lock keeper who times barges."}


NESTED = object_schema(
    {
        "score": {"type": "number"},
        "steps": {"type": "array", "items": object_schema({"text": {"type": "string"}})},
    }
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "Expecting value"),
        ("Sure! Here it is", "Expecting value"),
        ('{"score": 1, "steps": []', "delimiter"),
        ("[]", r"answer: \[\] is not of type 'object'"),
        ('{"score": 1}', "answer: 'steps' is a required property"),
        ('{"score": 1, "steps": [], "more": 1}', "answer: Additional properties"),
        ('{"score": 1, "steps": [{"text": "a"}, {"text": 2}]}', r"^steps\.1\.text: 2 is not"),
        ('{"score": NaN, "steps": []}', "NaN is no number"),
        ('{"score": -Infinity, "steps": []}', "-Infinity is no number"),
        ('{"score": 1e999, "steps": []}', "1e999 is too large a number"),
        ('{"score": 99999999999999999999, "steps": []}', "too large a number"),
        ('{"score": 1, "steps": [{"text": "\\ud83d"}]}', "half a character"),
        ("[" * 20_000, "nested too deeply"),
    ],
)
def test_an_answer_that_no_table_can_hold_is_refused_with_the_place(
    text: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        parse_answer(text, NESTED)


def kind_of(reply: ChatReply) -> CallErrorKind | None:
    try:
        check_reply(REQUEST, reply)
    except CallError as error:
        return error.kind
    return None


@given(st.text())
def test_no_text_whatever_breaks_the_reading_of_answers(text: str) -> None:
    assert kind_of(ChatReply(text)) is CallErrorKind.INVALID


@given(CLEAN_TEXTS)
def test_every_text_that_a_table_can_hold_can_be_an_answer(text: str) -> None:
    answer = json.dumps({"persona": text})
    assert kind_of(ChatReply(answer)) is None
    assert parse_answer(answer, SCHEMA) == {"persona": text}


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (ChatReply("  "), "empty answer"),
        (ChatReply(GOOD[:-1], "length"), r"cut off \(length\) at 256 tokens"),
        (ChatReply('{"persona": "A"}'), "persona: 'A' is too short"),
    ],
)
def test_a_billed_answer_that_cannot_be_used_is_invalid(reply: ChatReply, message: str) -> None:
    with pytest.raises(CallError, match=message) as caught:
        check_reply(REQUEST, reply)
    assert caught.value.kind is CallErrorKind.INVALID


@pytest.mark.parametrize("reason", ["stop", "eos", "tool_calls", "function_call"])
def test_every_way_of_finishing_is_fine(reason: str) -> None:
    check_reply(REQUEST, ChatReply(GOOD, reason))


STRINGS = st.tuples(st.integers(1, 60), st.integers(60, 200)).map(
    lambda bounds: {"type": "string", "minLength": bounds[0], "maxLength": bounds[1]}
)
NUMBERS = st.sampled_from(
    [
        {"type": "integer"},
        {"type": "integer", "minimum": 1000},
        {"type": "integer", "maximum": -5},
        {"type": "number", "minimum": 3, "maximum": 3},
        {"type": "number"},
    ]
)
PLAIN = STRINGS | NUMBERS | st.sampled_from([{"type": "boolean"}, {"enum": ["a", 1, None]}])


def _listed(
    items: st.SearchStrategy[dict[str, JsonValue]],
) -> st.SearchStrategy[dict[str, JsonValue]]:
    return st.builds(
        lambda item, least, more: {
            "type": "array", "items": item, "minItems": least, "maxItems": least + more
        },
        items,
        st.integers(0, 3),
        st.integers(0, 3),
    )  # fmt: skip


def _as_object(
    items: st.SearchStrategy[dict[str, JsonValue]],
) -> st.SearchStrategy[dict[str, JsonValue]]:
    return st.dictionaries(st.sampled_from("abcd"), items, min_size=1).map(object_schema)


SCHEMAS = st.recursive(PLAIN, lambda inner: _listed(inner) | _as_object(inner), max_leaves=5)


@given(st.dictionaries(st.sampled_from("xyz"), SCHEMAS, min_size=1), st.text(max_size=5))
def test_the_fake_answers_with_an_instance_of_any_small_schema(
    fields: dict[str, dict[str, JsonValue]], content: str
) -> None:
    request = make_request(content, schema=object_schema(fields))
    answer = instance_of_schema(request)
    jsonschema.Draft202012Validator(request.schema).validate(json.loads(answer))
    assert instance_of_schema(request) == answer


def test_the_fake_remembers_what_it_was_asked_and_counts_words() -> None:
    client = FakeChatClient(lambda request: f"an answer to {request.messages[0]['content']}")
    reply = asyncio.run(client.complete(REQUEST))
    assert reply == ChatReply("an answer to Who?", "stop", 1, 0, 4)
    assert client.requests == [REQUEST]
