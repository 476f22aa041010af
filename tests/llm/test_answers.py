"""Test answers that are not quite as requested: which are repaired, and how others are retried."""

import json
import string
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue

from persona_pipeline.control_characters import clean_value
from persona_pipeline.llm.answers import (
    NO_LONGER_FITS,
    SHOWN,
    answer_of,
    ask_again,
    check_reply,
    failure_reason,
    parse_answer,
)
from persona_pipeline.llm.calls import Answer
from persona_pipeline.llm.errors import CallError, CallErrorKind
from persona_pipeline.llm.prompts import object_schema
from persona_pipeline.llm.requests import ChatReply
from tests.support.purchases import GOOD, SCHEMA, make_request

REQUEST = make_request()
ANY: dict[str, JsonValue] = {"type": "object"}
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-999, 999) | st.text() | st.text("{}[],:\"\\ \n'`"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.text(max_size=5) | st.sampled_from(["}", ",}", '"']), VALUES)


@pytest.mark.parametrize(
    "text",
    [
        f"```json\n{GOOD}\n```",
        f"```{GOOD}```",
        f"Sure! Here is the persona:\n\n{GOOD}",
        f"{GOOD}\n\nI hope this helps.",
        f"Here you are:\n```json\n{GOOD}\n```\nAnything else?",
        GOOD[:-1] + ",}",
        GOOD[:-1] + " ,\n }",
        f"<think>short</think>{GOOD}",
        f"\ufeff{GOOD}",
        f"NaN {GOOD}",
        f"{'9' * 30} {GOOD}",
        GOOD.replace(": ", ":\n\n"),
    ],
)
def test_the_surroundings_of_an_answer_and_stray_commas_are_removed(text: str) -> None:
    assert parse_answer(text, SCHEMA) == json.loads(GOOD)


def test_a_raw_line_break_in_a_string_is_taken_as_it_is() -> None:
    answer = parse_answer('{"persona": "A lock keeper\nwho\ttimes\r\nbarges."}', SCHEMA)
    assert answer == {"persona": "A lock keeper\nwho\ttimes\nbarges."}


@pytest.mark.parametrize("inside", [",}", ", ]", '\\",}', "a,\n}", '{\\"b\\": [1,],}', "\\\\"])
def test_commas_inside_strings_stay_when_others_are_removed(inside: str) -> None:
    text = f'{{"persona": "{inside}...", "list": [1, 2, ], "more": {{"a": 1,}},}}'
    read = parse_answer(text, ANY)
    assert read == {
        "persona": json.loads(f'"{inside}..."', strict=False), "list": [1, 2], "more": {"a": 1}
    }  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        "{'persona': 'A lock keeper.'}",
        '{persona: "A lock keeper."}',
        '{"persona": "A lock keeper." "more": 1}',
        '{"persona": "A lock keeper."]',
        f"{GOOD} {GOOD}",
        f"[{GOOD}, {GOOD}]",
        '{"persona": "A "lock" keeper."}',
        '{"persona": "A lock keeper.",,}',
    ],
)
def test_a_doubtful_text_is_not_repaired(text: str) -> None:
    with pytest.raises(ValueError, match=r"line 1 column|Expecting|Extra data|not of type"):
        parse_answer(text, SCHEMA)


@given(OBJECTS, st.data())
def test_a_truncated_answer_is_never_completed(
    answer: dict[str, JsonValue], data: st.DataObject
) -> None:
    whole = json.dumps(answer, ensure_ascii=data.draw(st.booleans()), indent=data.draw(
        st.none() | st.just(1)
    ))  # fmt: skip
    assert parse_answer(whole, ANY) == clean_value(answer)
    cut = whole[: data.draw(st.integers(0, len(whole) - 1))]
    around = data.draw(st.sampled_from(["", "```json\n", "Here it is: "]))
    with pytest.raises(ValueError, match=r"line \d|nested|half"):
        parse_answer(around + cut, ANY)


@given(OBJECTS, st.text(string.ascii_letters + " .,!\n`"), st.text(string.ascii_letters + " .`"))
def test_a_repaired_answer_is_the_one_that_was_meant(
    answer: dict[str, JsonValue], before: str, after: str
) -> None:
    whole = json.dumps(answer, ensure_ascii=False)
    assert parse_answer(before + whole + after, ANY) == clean_value(answer)
    if answer:
        assert parse_answer(before + whole[:-1] + ", }" + after, ANY) == clean_value(answer)


@pytest.mark.parametrize(
    "escaped",
    ["\\u001b[31mA lock keeper\\u001b[0m.", "A lock\\u0000 keeper.\\u009b2J", "A\x00 lock keeper."],
)
def test_an_answer_has_no_control_characters(escaped: str) -> None:
    assert parse_answer(f'{{"persona": "{escaped}"}}', SCHEMA) == {"persona": "A lock keeper."}


def test_an_answer_of_control_characters_only_does_not_fit() -> None:
    text = '{"persona": "\\u001b[31m\\u001b[0m"}'
    with pytest.raises(ValueError, match="persona: '' is too short"):
        parse_answer(text, SCHEMA)
    bought_earlier = Answer("k", "m", "ok", text, None)
    assert answer_of(bought_earlier, SCHEMA) is None
    assert failure_reason(bought_earlier) == ("invalid_answer", NO_LONGER_FITS)


@given(st.text())
def test_reading_a_text_raises_value_errors_only(text: str) -> None:
    for broken in (text, "{" + text + "}", f'{{"a": {text}}}', f'{{"a": "{text}",}}'):
        try:
            read = parse_answer(broken, ANY)
        except ValueError:
            continue
        json.dumps(read, allow_nan=False).encode()


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (ChatReply("I cannot help with that.", "refused"), "refused: I cannot help with that."),
        (ChatReply("  ", "content_filter"), "the model refused: content_filter"),
        (ChatReply("", "refused"), "the model refused: refused"),
        (ChatReply(GOOD, "content_filter"), "the model refused: {"),
        (ChatReply("", "length"), "empty answer"),
        (ChatReply(GOOD, "length"), r"cut off \(length\)"),
        (ChatReply(GOOD, "max_tokens"), r"cut off \(max_tokens\)"),
    ],
)
def test_refused_truncated_and_empty_answers_are_distinguished(
    reply: ChatReply, message: str
) -> None:
    with pytest.raises(CallError, match=message) as caught:
        check_reply(REQUEST, reply)
    assert caught.value.kind is CallErrorKind.INVALID


def test_a_long_refusal_or_problem_is_shown_in_part() -> None:
    with pytest.raises(CallError) as caught:
        check_reply(REQUEST, ChatReply("no " * 1000, "refused"))
    assert len(str(caught.value)) < SHOWN + 50
    schema = object_schema({"persona": {"enum": ["x" * 5000]}})
    with pytest.raises(CallError) as caught:
        check_reply(replace(REQUEST, schema=schema), ChatReply(GOOD))
    assert len(str(caught.value)) < SHOWN + 50


@pytest.mark.parametrize(
    "reply",
    [ChatReply(""), ChatReply(" \n"), ChatReply("I cannot.", "refused"), ChatReply("", "length")],
)
def test_after_an_empty_answer_or_a_refusal_the_same_request_is_sent(reply: ChatReply) -> None:
    assert ask_again(REQUEST, reply, "empty answer") is REQUEST


def test_after_a_truncated_answer_the_request_gets_twice_the_tokens() -> None:
    again = ask_again(REQUEST, ChatReply(GOOD[:9], "length"), "answer was cut off")
    assert again == replace(REQUEST, sampling=replace(REQUEST.sampling, max_tokens=512))


def test_after_an_unusable_answer_the_model_gets_the_problem() -> None:
    again = ask_again(REQUEST, ChatReply('{"persona": 1}'), "persona: 1 is not of type 'string'")
    assert replace(again, messages=REQUEST.messages) == REQUEST
    assert again.messages == (
        {"role": "user", "content": "Who?"},
        {"role": "assistant", "content": '{"persona": 1}'},
        {
            "role": "user",
            "content": "This cannot be used. persona: 1 is not of type 'string'\nWrite the whole "
            "answer once more: one JSON object of the given schema, and nothing else.",
        },
    )
