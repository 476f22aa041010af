"""Test interrupts: calls in flight are kept, and no new call is sent."""

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from persona_pipeline.llm.errors import CallError, CallErrorKind
from persona_pipeline.llm.requests import ChatReply, ChatRequest
from tests.support.purchases import (
    GOOD,
    QUICK,
    Script,
    ScriptedClient,
    ignore,
    in_turn,
    journaled,
    make_request,
    open_gateway,
)

pytestmark = pytest.mark.serial  # nothing may be sent later than 0.1 s after the interrupt
MANY = [make_request(f"Who reads page {number}?") for number in range(200)]
LONG_DRAIN = replace(QUICK, drain_seconds=2.0)


class Interrupting:
    """Interrupt the process when the `after`th request is sent. Each answer takes a while."""

    max_concurrency = 8

    def __init__(self, after: int, answer: Script, seconds: float = 0.05) -> None:
        self.billed = 0
        self.sent = 0
        self.sent_late = 0
        self._interrupted_at = 0.0
        self._after, self._seconds = after, seconds
        self._scripted = ScriptedClient(answer)

    async def complete(self, request: ChatRequest, *, attempt: int = 0) -> ChatReply:
        self.sent += 1
        if self._interrupted_at and time.monotonic() > self._interrupted_at + 0.1:
            self.sent_late += 1
        if self.sent == self._after:
            self._interrupted_at = time.monotonic()
            os.kill(os.getpid(), signal.SIGINT)
        await asyncio.sleep(self._seconds)
        reply = await self._scripted.complete(request, attempt=attempt)
        self.billed += 1
        return reply

    async def close(self) -> None:
        return None


@contextmanager
def interrupted(
    client: Interrupting, retry_policy: object = LONG_DRAIN
) -> Iterator[tuple[Counter[str], int]]:
    """Yield the journal's calls by status after the interrupt, and their tokens in total."""
    with open_gateway(client, retry_policy=retry_policy) as gateway:  # type: ignore[arg-type]
        with pytest.raises(KeyboardInterrupt):
            gateway.buy(MANY, ignore, shard="s", stage="t")
        calls = journaled(gateway).values()
        tokens = sum(call.tokens_in for call in calls)
        yield Counter(call.status for call in calls), tokens


def test_calls_in_flight_at_an_interrupt_are_kept_and_no_new_call_is_sent() -> None:
    client = Interrupting(30, in_turn(GOOD))
    with interrupted(client) as (journal, _):
        assert journal == {"ok": client.billed}
    assert client.billed == client.sent
    assert 30 <= client.sent < 30 + 2 * client.max_concurrency
    assert client.sent_late == 0


def test_unusable_answers_that_arrive_after_an_interrupt_are_in_the_journal_too() -> None:
    client = Interrupting(45, in_turn("no JSON", GOOD))
    with interrupted(client) as (journal, tokens):
        assert journal["failed"] > 8, "in flight, and waiting to be asked again"
        assert tokens == 10 * client.billed
    assert client.billed == client.sent


def test_a_transient_error_at_an_interrupt_is_not_retried() -> None:
    client = Interrupting(5, in_turn(CallError(CallErrorKind.TRANSIENT, "reset")))
    with interrupted(client) as (journal, _):
        assert set(journal) <= {"failed"}
    assert client.sent_late == 0


def test_a_call_that_does_not_return_within_the_grace_is_abandoned() -> None:
    client = Interrupting(5, in_turn(GOOD), seconds=600)
    started = time.monotonic()
    with interrupted(client, replace(QUICK, drain_seconds=0.2)) as (journal, _):
        assert not journal
    assert time.monotonic() - started < 100


def test_after_an_interrupt_the_rest_is_bought_by_the_next_run() -> None:
    client = Interrupting(30, in_turn(GOOD), seconds=0.002)
    with open_gateway(client, retry_policy=LONG_DRAIN) as gateway:
        with pytest.raises(KeyboardInterrupt):
            gateway.buy(MANY, ignore, shard="s", stage="t")
        answers = gateway.answers(MANY, shard="s", stage="t")
        assert len(answers) == len(journaled(gateway)) == len(MANY)
    assert client.billed == len(MANY)


def test_a_request_interrupted_while_its_client_loads_is_never_sent() -> None:
    client = Interrupting(1, in_turn(GOOD))

    def load() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.3)  # the loop is busy, and does not hear of it

    with open_gateway(client, retry_policy=LONG_DRAIN) as gateway:
        endpoints = gateway.endpoints
        gateway.endpoints = lambda model: replace(endpoints(model), prepare=load)
        with pytest.raises(KeyboardInterrupt):
            gateway.buy(MANY, ignore, shard="s", stage="t")
    assert client.sent == 0
