"""Test the room for thoughts: given, doubled, named when it is short, and asked again with more."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from persona_pipeline.llm.answers import NO_ROOM
from persona_pipeline.llm.calls import Answer, Call
from persona_pipeline.llm.clients.litellm_client import is_reasoning_model
from persona_pipeline.llm.errors import ModelError
from persona_pipeline.llm.gateway.gateway import Gateway
from persona_pipeline.llm.gateway.thinking import Thinking
from persona_pipeline.llm.requests import ChatReply, ChatRequest, Sampling
from tests.support.purchases import (
    GOOD,
    ScriptedClient,
    answer_of,
    in_turn,
    journaled,
    make_call,
    make_request,
    open_gateway,
)

ONE = make_request()
MANY = [make_request(f"Who reads page {number}?") for number in range(30)]
SHORT = (
    f"{NO_ROOM} 8448 tokens: raise the setting reasoning_tokens, or set a lower reasoning_effort"
)


def thinks(needed: int) -> Callable[[ChatRequest, int], ChatReply]:
    """Answer with thoughts of so many tokens, and then the answer if there is room for it."""

    def answer(request: ChatRequest, _before: int) -> ChatReply:
        if request.sampling.max_tokens < needed + 50:
            return ChatReply("", "length", 10, 0, request.sampling.max_tokens, reasoning="Hm.")
        return ChatReply(GOOD, "stop", 10, 0, needed + 50, reasoning="Hm.")

    return answer


def buy_with(
    gateway: Gateway, thinking: Thinking, requests: Sequence[ChatRequest] = (ONE,)
) -> dict[str, Call]:
    """Buy with this room for thoughts, and return the calls in the journal."""
    endpoint = replace(gateway.endpoints(requests[0].model), thinking=thinking)
    replace(gateway, endpoints=lambda _model: endpoint).answers(requests, shard="s", stage="t")
    return journaled(gateway)


def asked_tokens(client: ScriptedClient) -> list[int]:
    return [sampling.max_tokens for sampling in client.samplings]


@pytest.mark.parametrize(
    ("needed", "is_known", "asked"),
    [
        (1000, True, [4352]),
        (5000, True, [4352, 8704]),
        (1000, False, [256, 4352]),
        (0, False, [256]),
    ],
)
def test_a_model_that_thinks_gets_room_and_on_the_second_try_more(
    needed: int, asked: list[int], *, is_known: bool
) -> None:
    client = ScriptedClient(thinks(needed))
    with open_gateway(client) as gateway:
        call = buy_with(gateway, Thinking(4096, is_known=is_known))[ONE.call_key]
    assert (call.status, call.response, asked_tokens(client)) == ("ok", GOOD, asked)
    assert call.call_key == "81cd1cc29a2a7ec84425e4bbf5fd37ad"


def test_a_model_that_was_seen_to_think_gets_room_from_then_on() -> None:
    client, thinking = ScriptedClient(thinks(1000), max_concurrency=1), Thinking(4096)
    with open_gateway(client) as gateway:
        buy_with(gateway, thinking, MANY)
    assert asked_tokens(client)[0] == 256
    assert asked_tokens(client)[-20:] == [4352] * 20
    assert thinking.is_known


def test_an_answer_that_was_cut_off_without_thoughts_gets_twice_its_tokens_and_no_room() -> None:
    client = ScriptedClient(in_turn(ChatReply(GOOD[:-1], "length"), GOOD))
    with open_gateway(client) as gateway:
        call = buy_with(gateway, Thinking(4096))[ONE.call_key]
    assert asked_tokens(client) == [256, 512]
    assert call.params == '{"temperature": 0.7, "top_p": 0.9, "max_tokens": 256, "sample": 0}'


def test_thoughts_that_never_end_are_the_reason_of_the_rejection() -> None:
    with open_gateway(ScriptedClient(thinks(10**6))) as gateway:
        call = buy_with(gateway, Thinking(4096))[ONE.call_key]
    assert (call.status, call.response, call.attempts) == ("invalid", "", 2)
    assert call.error == SHORT.replace("8448", "4352")
    assert '"reasoning_tokens": 4096' in str(call.params)


def test_only_rows_without_room_are_asked_again_and_only_once_there_is_more(
    tmp_path: Path,
) -> None:
    client = ScriptedClient(
        lambda request, before: (
            thinks(10**6 if request is not None and before < 2 else 10)(request, before)
            if request.messages[0]["content"] == "Who?"
            else ChatReply(GOOD)
        )
    )
    rows = [ONE, MANY[0]]
    with open_gateway(client, tmp_path) as gateway:
        assert buy_with(gateway, Thinking(4096), rows)[ONE.call_key].status == "invalid"
    assert client.asked.total() == 3
    for room in (4096, 1000, 0):
        with open_gateway(client, tmp_path) as gateway:
            buy_with(gateway, Thinking(room), rows)
    assert client.asked.total() == 3
    with open_gateway(client, tmp_path) as gateway:
        assert buy_with(gateway, Thinking(8192), rows)[ONE.call_key].status == "ok"
    assert client.asked.total() == 4
    with open_gateway(client, tmp_path) as gateway:
        buy_with(gateway, Thinking(16384), rows)
    assert client.asked.total() == 4


def cut(
    status: str = "invalid", text: str = "", params: str = "{}", reason: str = "length"
) -> Answer:
    return answer_of(
        replace(make_call("a", status=status, text=text), params=params, finish_reason=reason)
    )


@pytest.mark.parametrize(
    ("answer", "is_outgrown"),
    [
        (cut(), True),
        (cut(text="<think>Hm"), True),
        (cut(text="<think>Hm", reason="max_tokens"), True),
        (cut(params='{"reasoning_tokens": 100}', text=GOOD[:9]), True),
        (cut(params='{"reasoning_tokens": 4096}'), False),
        (cut(text=GOOD[:9]), False),
        (cut("ok", GOOD), False),
        (cut(reason="stop"), False),
        (cut(params="no JSON"), True),
    ],
)
def test_an_answer_is_outgrown_if_it_failed_for_less_room(
    answer: Answer, *, is_outgrown: bool
) -> None:
    assert Thinking(4096).outgrows(answer) is is_outgrown


def test_a_stage_whose_first_answers_are_all_thoughts_stops_and_says_what_to_change(
    tmp_path: Path,
) -> None:
    client = ScriptedClient(thinks(10**6), max_concurrency=1)
    message = f"the first 5 answers of model fake/demo in stage t are all unusable .*{NO_ROOM}"
    with open_gateway(client, tmp_path) as gateway, pytest.raises(ModelError, match=message):
        buy_with(gateway, Thinking(4096), MANY)
    assert client.asked.total() <= 12
    asked = client.asked.total()
    with open_gateway(client, tmp_path) as gateway, pytest.raises(ModelError, match=message):
        buy_with(gateway, Thinking(4096, is_known=True), MANY)
    assert client.asked.total() == asked, "a second run pays for nothing"


@pytest.mark.parametrize("in_flight", [1, 30])
def test_calls_in_flight_are_not_all_paid_twice_before_a_stage_stops(in_flight: int) -> None:
    client = ScriptedClient(thinks(10**6), max_concurrency=in_flight)
    with open_gateway(client) as gateway, pytest.raises(ModelError, match=NO_ROOM):
        buy_with(gateway, Thinking(4096), MANY)
    assert client.asked.total() <= 12 + in_flight


def test_once_more_room_is_known_to_be_enough_no_second_try_waits() -> None:
    client = ScriptedClient(thinks(1000), max_concurrency=30)
    with open_gateway(client) as gateway:
        calls = buy_with(gateway, Thinking(4096), MANY)
    assert {call.status for call in calls.values()} == {"ok"}
    assert client.asked.total() <= 60


def test_a_fallback_s_answers_keep_a_stage_going_whose_first_model_only_thinks() -> None:
    client, second = (
        ScriptedClient(thinks(10**6), max_concurrency=30),
        ScriptedClient(in_turn(GOOD)),
    )
    with open_gateway(client, fallbacks={"fake/second": second}) as gateway:
        answers = gateway.answers(MANY, shard="s", stage="t")
    assert {answer.model for answer in answers.values()} == {"fake/second"}


def test_a_stage_goes_on_if_one_of_its_first_answers_is_usable() -> None:
    def answer(request: ChatRequest, before: int) -> ChatReply:
        is_first = request.messages[0] == MANY[0].messages[0]
        return ChatReply(GOOD) if is_first else thinks(10**6)(request, before)

    with open_gateway(ScriptedClient(answer, max_concurrency=1)) as gateway:
        calls = buy_with(gateway, Thinking(4096), MANY)
    assert len(calls) == len(MANY)


def test_a_stage_whose_first_answers_all_fail_alike_stops_later_and_can_be_continued(
    tmp_path: Path,
) -> None:
    client = ScriptedClient(in_turn("Dear user, no."), max_concurrency=1)
    for bought in (20, 30):
        with open_gateway(client, tmp_path) as gateway:
            if bought < len(MANY):
                with pytest.raises(ModelError, match=r"the first 20 answers .* line 1 column 1"):
                    gateway.answers(MANY, shard="s", stage="t")
            else:
                gateway.answers(MANY, shard="s", stage="t")
            assert bought <= len(journaled(gateway)) <= bought + 2


def test_answers_that_fail_in_different_ways_do_not_stop_a_stage() -> None:
    client = ScriptedClient(
        lambda request, _: f'{{"persona": {request.messages[0]["content"][-2]}}}'
    )
    with open_gateway(client) as gateway:
        answers = gateway.answers(MANY, shard="s", stage="t")
    assert {answer.status for answer in answers.values()} == {"invalid"}


@pytest.mark.parametrize(
    ("model", "thinks_first"),
    [
        ("groq/openai/gpt-oss-20b", True),
        ("openai/gpt-oss-20b", True),
        ("openrouter/openai/gpt-oss-20b:free", True),
        ("openai/gpt-5-mini", True),
        ("deepseek/deepseek-reasoner", True),
        ("gpt-4.1", False),
        ("openai/served", False),
        ("anthropic/claude-sonnet-4-5", False),
    ],
)
def test_litellm_knows_which_models_think(model: str, *, thinks_first: bool) -> None:
    assert is_reasoning_model(model) is thinks_first
    asked = is_reasoning_model(model, is_asked_to=True)
    assert asked is (thinks_first or "claude" in model)


def test_the_room_is_no_part_of_the_key_and_the_answer_is_found_under_it() -> None:
    asked = Thinking(4096, is_known=True).with_room(ONE)
    assert asked.sampling == Sampling(max_tokens=4352)
    assert asked.origin == ONE.call_key
    assert Thinking(0, is_known=True).with_room(ONE) is ONE
    assert Thinking(4096).with_room(ONE) is ONE
