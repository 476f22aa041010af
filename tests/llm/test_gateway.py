"""Test that each answer is bought once, whatever fails, and with the same result in any order."""

import json
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from persona_pipeline.llm.calls import Answer
from persona_pipeline.llm.clients.fake import FakeChatClient, instance_of_schema
from persona_pipeline.llm.errors import CallError, CallErrorKind, ModelError
from persona_pipeline.llm.gateway.purchase import WINDOW
from persona_pipeline.llm.progress import StageProgress, reporting_to
from persona_pipeline.llm.requests import ChatReply, ChatRequest
from persona_pipeline.personas.plan import PersonaPlan
from persona_pipeline.personas.text_to_persona import text_to_persona
from tests.support.examples import FEWER
from tests.support.purchases import (
    GOOD,
    QUICK,
    ScriptedClient,
    ShufflingClient,
    answer_of,
    buy,
    buy_one,
    by_outcome,
    fails,
    ignore,
    in_turn,
    journaled,
    make_call,
    make_request,
    open_gateway,
    replace_endpoints,
)

ONE = make_request()
MANY = [make_request(f"Who reads page {number}?") for number in range(20)]
RATE, TRANSIENT = CallErrorKind.RATE, CallErrorKind.TRANSIENT
PERMANENT, FATAL = CallErrorKind.PERMANENT, CallErrorKind.FATAL


def test_identical_requests_are_bought_once() -> None:
    client = ScriptedClient(in_turn(GOOD))
    calls = buy(client, [ONE, replace(ONE, stage="other"), MANY[0], ONE])
    assert client.asked == {ONE.call_key: 1, MANY[0].call_key: 1}
    assert calls.keys() == client.asked.keys()
    assert client.is_closed


def test_a_bought_answer_is_a_row_that_says_all_about_it() -> None:
    request = replace(ONE, stage="text_to_persona", prompt_name="who", prompt_version="v1")
    call = buy_one(ScriptedClient(in_turn(GOOD)), request)
    assert asdict(replace(call, latency_ms=0)) == {
        "call_key": request.call_key,
        "shard": "pages-00000",
        "stage": "text_to_persona",
        "model": "fake/demo",
        "prompt_name": "who",
        "prompt_version": "v1",
        "params": '{"temperature": 0.7, "top_p": 0.9, "max_tokens": 256, "sample": 0}',
        "request": '[{"content":"Who?","role":"user"}]',
        "response": GOOD,
        "status": "ok",
        "error": None,
        "finish_reason": "stop",
        "tokens_in": 10,
        "tokens_cached": 1,
        "tokens_out": 5,
        "cost_usd": pytest.approx(0.591),
        "latency_ms": 0,
        "attempts": 1,
        "reasoning": None,
    }


def test_an_answer_in_the_journal_or_the_store_is_not_bought_again(tmp_path: Path) -> None:
    first = ScriptedClient(in_turn(GOOD))
    first_five = buy(first, MANY[:5], tmp_path)
    stored = buy(first, MANY[5:10])
    second = ScriptedClient(in_turn(GOOD))
    calls = buy(second, MANY, tmp_path, stored=stored)
    assert second.asked.keys() == {request.call_key for request in MANY[10:]}
    assert {key: calls[key].response for key in (*first_five, *stored)} == dict.fromkeys(
        (*first_five, *stored), GOOD
    )


def test_nothing_to_buy_asks_nothing() -> None:
    client = ScriptedClient(in_turn(GOOD))
    assert buy(client, []) == {}
    assert not client.asked


def test_a_refusal_for_pace_uses_no_attempt() -> None:
    client = ScriptedClient(in_turn(*[fails(RATE)] * 9, GOOD))
    call = buy_one(client, ONE)
    assert (call.status, call.attempts) == ("ok", 1)
    assert client.attempts == [0] * 10


def test_a_refusal_for_pace_waits_as_long_as_the_provider_says() -> None:
    client = ScriptedClient(in_turn(CallError(RATE, "slow down", retry_after=0.3), GOOD))
    started = time.monotonic()
    buy(client, [ONE])
    assert time.monotonic() - started >= 0.3


def test_a_model_that_asks_to_wait_for_hours_ends_the_run() -> None:
    refusal = CallError(RATE, "daily quota used up", retry_after=86_400.0)
    with pytest.raises(ModelError, match=r"asks to wait 86400 s: daily quota used up\. Run again"):
        buy(ScriptedClient(in_turn(refusal)), [ONE])


def test_a_model_that_refuses_everything_ends_the_run_after_the_time_for_it() -> None:
    client = ScriptedClient(in_turn(CallError(RATE, "slow down", retry_after=0.01)))
    retry_policy = replace(QUICK, refused_seconds=0.05)
    with (
        open_gateway(client, retry_policy=retry_policy) as gateway,
        pytest.raises(ModelError, match="refuses every request for its pace"),
    ):
        gateway.answers([ONE], shard="s", stage="t")


def test_trouble_that_passes_costs_attempts_and_no_row() -> None:
    client = ScriptedClient(in_turn(*[fails(TRANSIENT)] * 4, GOOD))
    call = buy_one(client, ONE)
    assert (call.status, call.attempts, call.tokens_in) == ("ok", 5, 10)


def test_trouble_that_stays_ends_as_a_failed_call_that_is_asked_for_in_the_next_run(
    tmp_path: Path,
) -> None:
    def answer(request: ChatRequest, _before: int) -> str:
        if request.call_key == ONE.call_key:
            raise fails(TRANSIENT, "503")
        return GOOD

    client = ScriptedClient(answer)
    call = buy(client, [MANY[0], ONE], tmp_path)[ONE.call_key]
    assert (call.status, call.error, call.response) == ("failed", "503", None)
    assert client.asked == {MANY[0].call_key: 1, ONE.call_key: 5}
    later = buy_one(ScriptedClient(in_turn(GOOD)), ONE, tmp_path)
    assert later.status == "ok"


def test_a_request_that_can_never_be_answered_is_asked_once() -> None:
    client = ScriptedClient(in_turn(fails(PERMANENT, "too long")))
    call = buy_one(client, ONE)
    assert (call.status, call.error, client.asked[ONE.call_key]) == ("failed", "too long", 1)


def test_an_invalid_answer_is_asked_for_twice_then_kept_and_never_bought_again(
    tmp_path: Path,
) -> None:
    client = ScriptedClient(in_turn("no JSON"))
    call = buy_one(client, ONE, tmp_path)
    assert (call.status, call.response, call.attempts) == ("invalid", "no JSON", 2)
    assert (call.tokens_in, call.tokens_out) == (20, 10)
    assert call.cost_usd == pytest.approx(1.182)
    assert client.attempts == [0, 1]
    assert buy(client, [ONE], tmp_path)[ONE.call_key].response == call.response
    assert client.asked[ONE.call_key] == 2


def test_a_retry_can_repair_an_invalid_answer() -> None:
    call = buy_one(ScriptedClient(in_turn(ChatReply(GOOD[:-1], "length"), GOOD)), ONE)
    assert (call.status, call.attempts) == ("ok", 2)


def test_an_unknown_price_makes_the_sum_unknown() -> None:
    client = ScriptedClient(in_turn(GOOD))
    with open_gateway(client) as gateway:
        endpoint = replace(gateway.endpoints("fake/demo"), price=None)
        usage = replace_endpoints(gateway, endpoint).buy(MANY, ignore, shard="s", stage="t")
        assert usage.cost_usd is None
        assert usage.tokens_in == 200


def test_a_fatal_error_stops_at_once_and_keeps_what_was_bought(tmp_path: Path) -> None:
    last = MANY[-1].call_key

    def answer(request: object, _before: int) -> str:
        if getattr(request, "call_key", "") == last:
            raise CallError(FATAL, "bad key")
        return GOOD

    client = ScriptedClient(answer, max_concurrency=1)
    with pytest.raises(ModelError, match=r"fake/demo cannot be used: bad key\. Check --model"):
        buy(client, MANY, tmp_path)
    assert client.is_closed
    with open_gateway(client, tmp_path) as gateway:
        assert len(journaled(gateway)) == len(MANY) - 1


def test_a_fatal_error_stops_the_other_requests() -> None:
    client = ScriptedClient(in_turn(fails(FATAL)), max_concurrency=4)
    with pytest.raises(ModelError):
        buy(client, MANY)
    assert client.asked.total() <= 4


def test_a_model_that_never_answers_stops_the_run_instead_of_failing_every_row() -> None:
    client = ScriptedClient(in_turn(fails(TRANSIENT, "connection refused")), max_concurrency=4)
    many = [make_request(str(number)) for number in range(500)]
    with pytest.raises(ModelError, match=r"no answer for . s; the last error was: connection ref"):
        buy(client, many)
    assert client.asked.total() < 60


@pytest.mark.parametrize("count", [1, 2, 5])
def test_a_model_that_answers_none_of_a_few_requests_ends_the_run_and_is_asked_again(
    tmp_path: Path, count: int
) -> None:
    down = ScriptedClient(in_turn(fails(TRANSIENT, "connection refused")))
    with pytest.raises(ModelError, match=r"no (request|answer) .*: connection refused.*Run again"):
        buy(down, MANY[:count], tmp_path)
    later = buy(ScriptedClient(in_turn(GOOD)), MANY[:count], tmp_path)
    assert [call.status for call in later.values()] == ["ok"] * count


def test_one_break_of_the_connection_under_many_calls_in_flight_is_no_outage() -> None:
    def answer(_request: object, _before: int) -> str:
        if client.asked.total() <= 32:
            raise CallError(TRANSIENT, "connection reset")
        return GOOD

    client = ScriptedClient(answer, max_concurrency=64)
    many = [make_request(str(number)) for number in range(64)]
    retry_policy = replace(QUICK, first_answer_seconds=10)
    with open_gateway(client, retry_policy=retry_policy) as gateway:
        calls = gateway.answers(many, shard="s", stage="t")
    assert {call.status for call in calls.values()} == {"ok"}


def test_no_more_are_in_flight_than_the_client_allows() -> None:
    class Watching(FakeChatClient):
        max_concurrency = 3
        in_flight = most = 0

        async def complete(self, request: object, *, attempt: int = 0) -> ChatReply:
            self.in_flight += 1
            self.most = max(self.most, self.in_flight)
            reply = await super().complete(request, attempt=attempt)  # type: ignore[arg-type]
            self.in_flight -= 1
            return reply

    client = Watching(seconds=0.002)
    buy(client, MANY)
    assert client.most == 3


def test_progress_counts_what_is_bought_and_what_failed() -> None:
    seen: list[tuple[str, int, int, int, int]] = []

    class Watching:
        def update(self, progress: StageProgress, *, finished: bool) -> None:
            if finished:
                now = progress
                seen.append((now.stage, now.total, now.done, now.failed, now.tokens))

    with reporting_to(Watching()):
        buy(ScriptedClient(by_outcome(["failed"])), MANY[:3])
        buy(ScriptedClient(in_turn(GOOD)), MANY)
    assert seen == [("test", 3, 3, 3, 0), ("test", 20, 20, 0, 300)]


PAGES = pl.DataFrame(
    {
        "document_id": [f"d{number}" for number in range(12)],
        "title": ["Locks"] * 12,
        "text": [f"Barge number {number // 2} waits at the lock." for number in range(12)],
    }
)


def _reply(request: object) -> str:
    result = instance_of_schema(request)  # type: ignore[arg-type]
    return "broken" if json.loads(result)["persona"].endswith("r") else result


@FEWER  # an example buys twelve answers twice
@given(st.integers(0, 1000), st.integers(1, 16))
def test_the_tables_do_not_depend_on_the_order_in_which_answers_arrive(
    seed: int, max_concurrency: int
) -> None:
    plan = PersonaPlan("fake/demo")
    with open_gateway(FakeChatClient(_reply)) as gateway:
        expected = text_to_persona(PAGES, plan, gateway, "s")
    with open_gateway(ShufflingClient(seed, max_concurrency, _reply)) as gateway:
        matches = text_to_persona(PAGES, plan, gateway, "s")
        bought = journaled(gateway)
    assert matches.funnel == expected.funnel
    for name, frame in expected.tables.items():
        assert matches.tables[name].equals(frame)
    assert len(bought) == 12
    assert not expected.tables["personas.rejected"].is_empty()


def test_a_failure_noted_by_another_process_does_not_hide_the_stored_answer(
    tmp_path: Path,
) -> None:
    stored = buy(ScriptedClient(in_turn(GOOD)), [ONE])
    buy(ScriptedClient(in_turn(fails(PERMANENT))), [ONE], tmp_path)
    client = ScriptedClient(in_turn(GOOD))
    assert buy(client, [ONE], tmp_path, stored=stored) == stored
    assert not client.asked


def test_requests_are_read_no_further_ahead_than_the_model_needs() -> None:
    read = received = furthest = 0

    def requests() -> Iterator[ChatRequest]:
        nonlocal read, furthest
        for number in range(5000):
            read += 1
            furthest = max(furthest, read - received)
            yield make_request(str(number))

    def receive(_key: str, _answer: Answer) -> None:
        nonlocal received
        received += 1

    client = FakeChatClient()
    with open_gateway(client) as gateway:
        usage = gateway.buy(requests(), receive, shard="s", stage="t")
    assert (read, received, usage.bought) == (5000, 5000, 5000)
    assert furthest <= WINDOW + 2 * client.max_concurrency + 1


def test_answers_that_were_bought_are_received_without_reading_all_requests() -> None:
    held = {call.call_key: answer_of(call) for call in (make_call(str(n)) for n in range(3000))}
    order: list[str] = []

    def requests() -> Iterator[ChatRequest]:
        for number in range(3000):
            order.append("read")
            yield make_request(str(number))

    with open_gateway(FakeChatClient(), stored=held) as gateway:
        usage = gateway.buy(
            requests(), lambda _key, _answer: order.append("received"), shard="s", stage="t"
        )
    assert (usage.reused, usage.bought) == (3000, 0)
    assert order.index("received") <= WINDOW + 1


def test_an_error_of_the_request_iterator_is_raised_and_bought_answers_are_kept() -> None:
    def requests() -> Iterator[ChatRequest]:
        yield from MANY
        msg = "no such page"
        raise ValueError(msg)

    with open_gateway(FakeChatClient()) as gateway:
        with pytest.raises(ValueError, match="no such page"):
            gateway.buy(requests(), ignore, shard="s", stage="t")
        assert journaled(gateway).keys() <= {request.call_key for request in MANY}


def test_an_error_of_the_receiver_is_raised_and_the_answer_is_kept() -> None:
    def receive(_key: str, _answer: Answer) -> None:
        msg = "no place for it"
        raise ValueError(msg)

    with open_gateway(FakeChatClient()) as gateway:
        with pytest.raises(ValueError, match="no place for it"):
            gateway.buy(MANY, receive, shard="s", stage="t")
        assert journaled(gateway)


def test_the_usage_of_a_stage_counts_its_calls_tokens_and_cost() -> None:
    held = answer_of(make_call("Who reads page 0?"))
    refused = in_turn(fails(RATE), GOOD)
    outcomes = by_outcome(["good", "bad", "failed"])
    with open_gateway(ScriptedClient(refused), stored={held.call_key: held}) as gateway:
        usage = gateway.buy(MANY, ignore, shard="s", stage="t")
        assert usage is gateway.usage["t"]
    assert (usage.reused, usage.bought, usage.refused) == (1, 19, 19)
    assert (usage.tokens_in, usage.tokens_cached, usage.tokens_out) == (190, 19, 95)
    assert usage.cost_usd == pytest.approx(19 * 0.591)
    with open_gateway(ScriptedClient(outcomes)) as gateway:
        usage = gateway.buy(MANY, ignore, shard="s", stage="t")
        calls = journaled(gateway).values()
    statuses = Counter(call.status for call in calls)
    assert (usage.bought, usage.invalid, usage.failed) == (
        statuses["ok"] + statuses["invalid"],
        statuses["invalid"],
        statuses["failed"],
    )
