"""Laws of reading answers: whatever stands around one, it is found or refused with a reason."""

import json
import string
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue

from persona_pipeline.control_characters import clean_value
from persona_pipeline.llm.answers import (
    check_reply,
    parse_answer,
)
from persona_pipeline.llm.errors import CallError
from persona_pipeline.llm.requests import ChatReply
from tests.support.examples import CLEAN_TEXTS
from tests.support.purchases import GOOD, SCHEMA, make_request

REQUEST = make_request()
OTHER = json.dumps({"persona": "A lock keeper's wife."})
ANY: dict[str, JsonValue] = {"type": "object"}
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-999, 999) | st.text() | st.text("{}[],:\"\\ \n'`"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.text(max_size=5) | st.sampled_from(["}", ",}", '"']), VALUES)


PROSE = st.text(string.ascii_letters + " .,!?\n`{}[]<>/'", max_size=40)


TAGS = st.sampled_from(
    [
        ("<think>", "</think>"),
        ("", "</think>"),
        ("<thinking>", "</thinking>"),
        ("[THINK]", "[/THINK]"),
        ("◁think▷", "◁/think▷"),
        ("<|channel|>analysis<|message|>", "<|end|><|start|>assistant<|channel|>final<|message|>"),
    ]
)


FENCES = st.sampled_from([("", ""), ("```json\n", "\n```"), ("```", "```"), ("\ufeff", "\n")])


PERSONAS = CLEAN_TEXTS | st.sampled_from(
    ["</think>", "<think>{", '}"{', "```json", "assistantfinal{", "{}[],:\\", "a\n\u3000"]
)


THOUGHTS = st.builds(
    lambda tags, before, draft: f"{tags[0]}{before} {json.dumps({'persona': draft})}{tags[1]}",
    TAGS,
    PROSE,
    PERSONAS,
)


@given(PERSONAS, THOUGHTS, st.tuples(PROSE, PROSE), FENCES, st.data())
def test_an_answer_is_read_whatever_stands_around_it(
    persona: str,
    thoughts: str,
    prose: tuple[str, str],
    fences: tuple[str, str],
    data: st.DataObject,
) -> None:
    whole = json.dumps({"persona": persona}, ensure_ascii=data.draw(st.booleans()))
    again = whole if data.draw(st.booleans()) else ""
    text = f"{thoughts}{prose[0]}\n{fences[0]}{whole}{fences[1]}{prose[1]}{again}"
    assert parse_answer(text, SCHEMA) == {"persona": persona}


MARKS = st.sampled_from([
    "<think>", "</think>", "<|channel|>final<|message|>", "```", '{"persona": "', GOOD, OTHER,
    "{", "}", "[", "]", '"', ",", ":", "\\", "\\u00e9", "\\\\u00e9", "\\ud800", "9" * 30,
    "NaN", "\x1b",
])  # fmt: skip


@given(st.lists(MARKS | st.text(max_size=5)).map("".join), st.text(max_size=3), st.booleans())
def test_a_reply_is_used_or_refused_with_a_reason_whatever_it_holds(
    text: str,
    reason: str,
    is_thought: bool,  # noqa: FBT001
) -> None:
    reply = ChatReply("" if is_thought else text, reason, reasoning=text)
    try:
        answer = parse_answer(check_reply(REQUEST, reply).text, SCHEMA)
    except CallError as error:
        assert str(error)  # noqa: PT017 - any reason is one
        return
    assert len(str(answer["persona"])) >= 3
    json.dumps(answer, ensure_ascii=False, allow_nan=False).encode()
    assert check_reply(REQUEST, replace(reply, finish_reason="length", text=json.dumps(answer)))


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


@given(st.text())
def test_reading_a_text_raises_value_errors_only(text: str) -> None:
    for broken in (text, "{" + text + "}", f'{{"a": {text}}}', f'{{"a": "{text}",}}'):
        try:
            read = parse_answer(broken, ANY)
        except ValueError:
            continue
        json.dumps(read, allow_nan=False).encode()
