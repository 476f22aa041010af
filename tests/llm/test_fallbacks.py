"""Test fallbacks: the next model answers, is named in the call, and is paid for once."""

from dataclasses import replace
from pathlib import Path

import pytest

from persona_pipeline.llm.calls import Answer
from persona_pipeline.llm.errors import CallError, CallErrorKind, ModelError
from persona_pipeline.llm.requests import ChatRequest
from tests.support.purchases import (
    GOOD,
    QUICK,
    Script,
    ScriptedClient,
    answer_of,
    buy,
    fails,
    in_turn,
    journaled,
    make_call,
    make_request,
    open_gateway,
)

SECOND, THIRD = "fake/second", "fake/third"
ONE = make_request()
MANY = [make_request(f"Who reads page {number}?") for number in range(30)]
HASTY = replace(QUICK, first_answer_seconds=0.0, refused_seconds=0.0)
BAD = in_turn("no JSON")
FAILING = in_turn(fails(CallErrorKind.PERMANENT, "too long"))
DOWN = in_turn(fails(CallErrorKind.TRANSIENT, "connection refused"))
OUT_OF_QUOTA = in_turn(CallError(CallErrorKind.RATE, "quota", retry_after=86_400.0))
WELL = in_turn(GOOD)


def by(model: str, request: ChatRequest = ONE) -> str:
    """Return the key of the request to this model."""
    return replace(request, model=model).call_key


def stored(model: str, status: str = "ok") -> Answer:
    answer = answer_of(make_call("Who?", status=status))
    return replace(answer, model=model, call_key=by(model))


@pytest.mark.parametrize(
    ("first", "asked_first"), [(FAILING, 1), (BAD, 2), (DOWN, 1), (OUT_OF_QUOTA, 1)]
)
def test_a_failure_an_unusable_answer_and_an_outage_go_to_the_next_model(
    first: Script, asked_first: int
) -> None:
    clients = [ScriptedClient(first), ScriptedClient(WELL)]
    with open_gateway(clients[0], retry_policy=HASTY, fallbacks={SECOND: clients[1]}) as gateway:
        matches = gateway.answers([ONE], shard="s", stage="t")
    answer = matches[ONE.call_key]
    assert (answer.status, answer.model, answer.call_key) == ("ok", SECOND, by(SECOND))
    assert [client.asked.total() for client in clients] == [asked_first, 1]
    assert [client.is_closed for client in clients] == [True, True]


def test_both_purchases_are_journaled_each_under_its_own_model(tmp_path: Path) -> None:
    buy(ScriptedClient(BAD), [ONE], tmp_path, fallbacks={SECOND: ScriptedClient(WELL)})
    with open_gateway(ScriptedClient(WELL), tmp_path) as gateway:
        calls = journaled(gateway)
    assert {call.model: call.status for call in calls.values()} == {
        ONE.model: "invalid", SECOND: "ok"
    }  # fmt: skip


def test_models_are_asked_in_turn_until_one_answers() -> None:
    others = {SECOND: ScriptedClient(FAILING), THIRD: ScriptedClient(WELL)}
    assert buy(ScriptedClient(BAD), [ONE], fallbacks=others)[ONE.call_key].model == THIRD
    others = {SECOND: ScriptedClient(WELL), THIRD: ScriptedClient(WELL)}
    assert buy(ScriptedClient(BAD), [ONE], fallbacks=others)[ONE.call_key].model == SECOND
    assert not others[THIRD].asked


def test_a_model_that_answers_is_the_only_one_that_is_asked() -> None:
    second = ScriptedClient(WELL)
    matches = buy(ScriptedClient(WELL), MANY, fallbacks={SECOND: second})
    assert {answer.model for answer in matches.values()} == {ONE.model}
    assert not second.asked


@pytest.mark.parametrize("first_status", [None, "invalid"])
def test_a_fallback_s_answer_is_reused_without_asking_the_first_model_again(
    first_status: str | None,
) -> None:
    held = {by(SECOND): stored(SECOND)}
    if first_status:
        held[ONE.call_key] = stored(ONE.model, first_status)
    clients = [ScriptedClient(WELL), ScriptedClient(WELL)]
    matches = buy(clients[0], [ONE], stored=held, fallbacks={SECOND: clients[1]})
    assert matches == {ONE.call_key: stored(SECOND)}
    assert not clients[0].asked
    assert not clients[1].asked


def test_a_stored_unusable_answer_of_the_first_model_goes_to_the_fallback_at_once() -> None:
    held = {ONE.call_key: stored(ONE.model, "invalid")}
    clients = [ScriptedClient(WELL), ScriptedClient(WELL)]
    matches = buy(clients[0], [ONE], stored=held, fallbacks={SECOND: clients[1]})
    assert matches[ONE.call_key].model == SECOND
    assert not clients[0].asked


def test_when_no_model_gives_a_usable_answer_the_first_one_s_counts_and_is_not_bought_again(
    tmp_path: Path,
) -> None:
    clients = [ScriptedClient(BAD), ScriptedClient(in_turn("nor this"))]
    for _ in range(2):
        matches = buy(clients[0], [ONE], tmp_path, fallbacks={SECOND: clients[1]})
        answer = matches[ONE.call_key]
        assert (answer.model, answer.status, answer.response) == (ONE.model, "invalid", "no JSON")
    assert [client.asked.total() for client in clients] == [2, 2]


def test_a_model_that_is_down_is_skipped_for_later_rows() -> None:
    clients = [ScriptedClient(DOWN), ScriptedClient(WELL)]
    with open_gateway(clients[0], retry_policy=HASTY, fallbacks={SECOND: clients[1]}) as gateway:
        matches = gateway.answers(MANY, shard="s", stage="t")
    assert {answer.model for answer in matches.values()} == {SECOND}
    assert clients[0].asked.total() <= 2 * clients[0].max_concurrency < len(MANY)
    assert clients[1].asked.total() == len(MANY)


def test_the_last_model_is_asked_for_every_row_and_ends_the_run_when_it_is_down_too() -> None:
    clients = [ScriptedClient(DOWN), ScriptedClient(DOWN)]
    with (
        open_gateway(clients[0], retry_policy=HASTY, fallbacks={SECOND: clients[1]}) as gateway,
        pytest.raises(ModelError, match=r"model fake/second has given no answer.*Run again when"),
    ):
        gateway.answers(MANY, shard="s", stage="t")


def test_a_model_that_was_down_is_asked_again_in_the_next_stage() -> None:
    first = ScriptedClient(in_turn(fails(CallErrorKind.TRANSIENT), GOOD))
    with open_gateway(
        first, retry_policy=HASTY, fallbacks={SECOND: ScriptedClient(WELL)}
    ) as gateway:
        assert gateway.answers([ONE], shard="s", stage="t")[ONE.call_key].model == SECOND
        again = make_request("Who else?")
        first.asked[again.call_key] = 1
        assert gateway.answers([again], shard="s", stage="u")[again.call_key].model == ONE.model


def test_a_wrong_key_or_name_stops_the_run_although_there_is_a_fallback() -> None:
    second = ScriptedClient(WELL)
    with pytest.raises(ModelError, match="fake/demo cannot be used: bad key"):
        buy(
            ScriptedClient(in_turn(fails(CallErrorKind.FATAL, "bad key"))),
            MANY,
            fallbacks={SECOND: second},
        )
    assert not second.asked
