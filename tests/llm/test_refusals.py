"""Test what a provider's refusals and time-outs do to a run."""

from pathlib import Path

import pytest

from persona_pipeline.llm.errors import CallError, CallErrorKind, ModelError
from persona_pipeline.llm.progress import StageProgress, reporting_to
from persona_pipeline.llm.requests import ChatReply, ChatRequest
from tests.support.purchases import (
    GOOD,
    ScriptedClient,
    buy,
    buy_one,
    fails,
    in_turn,
    make_request,
    open_gateway,
)

ONE = make_request()
MANY = [make_request(f"Who reads page {number}?") for number in range(20)]
RATE, TRANSIENT = CallErrorKind.RATE, CallErrorKind.TRANSIENT
PERMANENT, FATAL = CallErrorKind.PERMANENT, CallErrorKind.FATAL


def test_a_time_out_lowers_the_limit() -> None:
    slow = CallError(TRANSIENT, "timed out", maybe_billed=True, is_timeout=True)

    def answer(request: ChatRequest, before: int) -> str:
        if before == 0 and int(request.call_key[0], 16) % 2:
            raise slow
        return GOOD

    client = ScriptedClient(answer, max_concurrency=64)
    with open_gateway(client) as gateway:
        limiter = gateway.endpoints("fake/demo").limiter
        calls = gateway.answers(HUNDREDS, shard="s", stage="t")
    assert {call.status for call in calls.values()} == {"ok"}
    assert limiter.limit < 32


HUNDREDS = [make_request(str(number)) for number in range(300)]


def test_a_403_is_a_wrong_key_at_first_and_one_requests_trouble_after_an_answer() -> None:
    forbidden = CallError(FATAL, "flagged", is_doubtful=True)
    with pytest.raises(ModelError, match="cannot be used: flagged"):
        buy(ScriptedClient(in_turn(forbidden)), MANY)

    def answer(request: ChatRequest, _before: int) -> str:
        if request.call_key == MANY[-1].call_key:
            raise forbidden
        return GOOD

    calls = buy(ScriptedClient(answer, max_concurrency=1), MANY)
    assert [call.status for call in calls.values()] == ["ok"] * 19 + ["failed"]


def test_a_model_that_refuses_every_request_ends_the_run() -> None:
    client = ScriptedClient(in_turn(fails(PERMANENT, "no such parameter")))
    with pytest.raises(ModelError, match="turns every request down: no such parameter"):
        buy(client, HUNDREDS)
    assert client.asked.total() < 40


def test_an_unusable_answer_stays_unusable_when_the_retry_is_refused(tmp_path: Path) -> None:
    client = ScriptedClient(in_turn(ChatReply(GOOD[:-1], "length"), fails(PERMANENT, "too many")))
    call = buy_one(client, ONE, tmp_path)
    assert (call.status, call.response, call.error) == (
        "invalid", GOOD[:-1], "answer was cut off (length) at 256 tokens",
    )  # fmt: skip


def test_the_progress_knows_the_total_from_the_start() -> None:
    totals: list[int] = []

    class Watching:
        def update(self, progress: StageProgress, *, finished: bool) -> None:
            totals.append(progress.total)
            assert finished in {True, False}

    many = [make_request(str(number)) for number in range(2500)]
    with reporting_to(Watching()):
        buy(ScriptedClient(in_turn(GOOD)), many)
    assert set(totals) == {0, 2500}
