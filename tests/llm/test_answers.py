"""Test answers that are not quite as requested: which are repaired, and how others are retried."""

import json
from dataclasses import replace

import pytest

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
OTHER = json.dumps({"persona": "A lock keeper's wife."})
FINAL = "<|start|>assistant<|channel|>final"


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
    read = parse_answer(text, {"type": "object"})
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
        f"{GOOD} {OTHER}",
        f"[{GOOD}, {OTHER}]",
        '{"persona": "A "lock" keeper."}',
        '{"persona": "A lock keeper.",,}',
    ],
)
def test_a_doubtful_text_is_not_repaired(text: str) -> None:
    with pytest.raises(ValueError, match=r"line 1 column|Expecting|Extra data|2 different objects"):
        parse_answer(text, SCHEMA)


@pytest.mark.parametrize(
    "text",
    [
        f"Let me see {{a page}}.\n</think>\n{GOOD}",
        f"I think of {OTHER}.</think>{GOOD}",
        f"<think>{OTHER}</think><think>No.</think>{GOOD}",
        f"<thinking>{OTHER}</thinking>\n```json\n{GOOD}\n```",
        f"<seed:think>{OTHER}</seed:think>{GOOD}",
        f"[THINK]{OTHER}[/THINK]{GOOD}",
        f"◁think▷{OTHER}◁/think▷{GOOD}",
        f"<|START_THINKING|>{OTHER}<|END_THINKING|>{GOOD}",
        f"<|channel|>analysis<|message|>{OTHER}<|end|>{FINAL}<|message|>{GOOD}<|return|>",
        f"<|channel|>analysis<|message|>{OTHER}{FINAL} <|constrain|>json<|message|>{GOOD}",
        f"analysisMaybe {OTHER}?assistantfinal{GOOD}",
        f"<|channel>thought\n{OTHER}<channel|>{GOOD}",
    ],
)
def test_what_a_model_thought_of_is_no_answer(text: str) -> None:
    assert parse_answer(text, SCHEMA) == json.loads(GOOD)


@pytest.mark.parametrize(
    "text",
    [
        f"{GOOD}\nI hope {{this}} helps.",
        f"For {{a page}} on {{locks}}: {GOOD}",
        f"{GOOD}{GOOD}",
        f"{GOOD}\n{GOOD}\n",
        f"[{GOOD}, {GOOD}]",
        f"[{GOOD}]",
        f'{{"note": "no persona"}} {GOOD}',
        f'The form is {{"persona": ...}}. {GOOD}',
        f"<answer>{GOOD}</answer>",
        f"{{'persona': 'single quotes'}} {GOOD}",
    ],
)
def test_the_one_object_that_satisfies_the_schema_is_the_answer(text: str) -> None:
    assert parse_answer(text, SCHEMA) == json.loads(GOOD)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"<think>{OTHER}</think>{GOOD[:-1]}", "line 1 column 1"),
        (f"{GOOD}</think>", "line 1 column"),
        (f'{{"more": 1, "inner": {GOOD}, "persona": "A "quoted" one."}}', "line 1 column"),
        (f'{{"inner": {GOOD}', "line 1 column"),
        (f'{{"inner": {GOOD}}}', "answer: Additional properties"),
        (f"Maybe {OTHER}? Or {GOOD}?", "2 different objects that satisfy the schema"),
        ('Here: {"persona": 1}', "persona: 1 is not of type 'string'"),
    ],
)
def test_a_draft_or_a_part_is_not_taken_for_the_answer(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_answer(text, SCHEMA)


@pytest.mark.parametrize(
    "persona",
    [
        "A teacher who explains what </think> means.",
        "A writer of <think>tags</think> and {braces}.",
        'A chat of "<|channel|>final<|message|>" and [/THINK].',
    ],
)
def test_an_end_of_thoughts_inside_the_answer_is_a_word_of_it(persona: str) -> None:
    answer = {"persona": persona}
    for text in (json.dumps(answer), f"<think>Hm.</think>{json.dumps(answer)} Good?"):
        assert parse_answer(text, SCHEMA) == answer


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        (r"Caf\\u00e9 owner", "Café owner"),
        (r"\\u4e2d\\u6587\\u4eba", "中文人"),
        (r"a \\ud83d\\ude00 b", "a 😀 b"),
        (r"it\\u0027s so", "it's so"),
        (r"line\\u000aline", "line\nline"),
        (r"once é escaped", "once é escaped"),
        (r"A C\\\\u00e9 path", r"A C\\u00e9 path"),
        (r"the \\underline command", r"the \underline command"),
    ],
)
def test_characters_that_were_escaped_twice_are_read(written: str, meant: str) -> None:
    reply = ChatReply(f'{{"persona": "{written}"}}')
    assert parse_answer(check_reply(REQUEST, reply).text, SCHEMA) == {"persona": meant}


@pytest.mark.parametrize("written", [r"half \\ud83d of it", r"a \\u0000 b", r"red \\u001b[31m"])
def test_an_escape_that_is_no_text_is_rejected_with_its_reason(written: str) -> None:
    with pytest.raises(CallError, match=r"escaped twice and cannot be read \(.u"):
        check_reply(REQUEST, ChatReply(f'{{"persona": "{written}"}}'))


def test_an_answer_that_satisfied_the_schema_before_is_never_refused_when_it_is_read_again() -> (
    None
):
    schema = object_schema({"code": {"type": "string", "minLength": 6}})
    for code in (r"\\u0041", r"a \\u0000 b"):
        assert parse_answer(f'{{"code": "{code}"}}', schema) == {"code": code.replace("\\\\", "\\")}


@pytest.mark.parametrize(
    "reason",
    ["STOP", "stop_token", "completed", "length", "max_tokens", "error", "abort", "unheard_of", ""],
)
def test_an_answer_that_satisfies_the_schema_is_used_however_it_ended(reason: str) -> None:
    assert check_reply(REQUEST, ChatReply(GOOD, reason)).text == GOOD


@pytest.mark.parametrize("reason", ["error", "abort", "network_error", "ERROR", "cancelled"])
@pytest.mark.parametrize("text", ["", GOOD[:9]])
def test_an_answer_that_the_server_broke_off_is_asked_for_again(reason: str, text: str) -> None:
    with pytest.raises(CallError, match="the server broke the answer off") as caught:
        check_reply(REQUEST, ChatReply(text, reason, reasoning=GOOD))
    assert caught.value.kind is CallErrorKind.TRANSIENT


def test_an_answer_among_the_thoughts_is_used_if_it_fits_and_there_is_no_other() -> None:
    assert check_reply(REQUEST, ChatReply("", reasoning=f"Well: {GOOD}")).text == f"Well: {GOOD}"
    assert check_reply(REQUEST, ChatReply(OTHER, reasoning=GOOD)).text == OTHER
    for thoughts in ("I should think.", '{"persona": 1}', f"{GOOD} {OTHER}"):
        with pytest.raises(CallError, match="empty answer"):
            check_reply(REQUEST, ChatReply("", reasoning=thoughts))


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


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (ChatReply("I cannot help with that.", "refused"), "refused: I cannot help with that."),
        (ChatReply("  ", "content_filter"), "the model refused: content_filter"),
        (ChatReply("", "refused"), "the model refused: refused"),
        (ChatReply(GOOD, "content_filter"), "the model refused: {"),
        (ChatReply("", "stop"), "empty answer"),
        (
            ChatReply("", "length"),
            "thoughts took all of the 256 tokens: raise the setting reasoning_tokens",
        ),
        (ChatReply(f"<think>{GOOD}", "length"), "thoughts took all of the 256 tokens"),
        (ChatReply("", "length", reasoning=GOOD), "thoughts took all of the 256 tokens"),
        (ChatReply(GOOD[:-1], "length"), r"cut off \(length\) at 256 tokens"),
        (ChatReply(GOOD[:-1], "MAX_TOKENS"), r"cut off \(MAX_TOKENS\)"),
        (ChatReply(GOOD[:-1], "sensitive"), "the model refused: {"),
        (ChatReply(GOOD[:-1], "unheard_of"), "line 1 column"),
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
    [ChatReply(""), ChatReply(" \n"), ChatReply("I cannot.", "refused")],
)
def test_after_an_empty_answer_or_a_refusal_the_same_request_is_sent(reply: ChatReply) -> None:
    assert ask_again(REQUEST, reply, "empty answer") is REQUEST


def test_after_a_truncated_answer_the_request_gets_twice_the_tokens() -> None:
    again = ask_again(REQUEST, ChatReply(GOOD[:9], "length"), "answer was cut off")
    assert again == replace(REQUEST, sampling=replace(REQUEST.sampling, max_tokens=512))


def test_after_thoughts_without_an_answer_the_request_gets_room_for_both() -> None:
    again = ask_again(REQUEST, ChatReply("", "length"), "no room", room=4096)
    assert again == replace(REQUEST, sampling=replace(REQUEST.sampling, max_tokens=4352))
    assert again.origin == REQUEST.call_key
    third = ask_again(again, ChatReply("", "length"), "no room", room=4096)
    assert third.sampling.max_tokens == 8704
    assert third.origin == REQUEST.call_key


def test_the_thoughts_are_not_sent_back_with_an_unusable_answer() -> None:
    again = ask_again(REQUEST, ChatReply("<think>Hm.</think>no JSON"), "no JSON")
    assert again.messages[1] == {"role": "assistant", "content": "no JSON"}


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
