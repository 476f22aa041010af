"""Test a provider's embeddings: bought text by text, sent in batches."""

import asyncio
import base64
import json
import math
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from persona_pipeline.llm.clients import embedding_client
from persona_pipeline.llm.clients.embedding_client import (
    EmbeddingClient,
    ServedEmbedder,
    embedding_request,
)
from persona_pipeline.llm.clients.embedding_pace import TextLimiter
from persona_pipeline.llm.clients.embeddings import BATCH
from persona_pipeline.llm.errors import CallError, CallErrorKind, ModelError
from persona_pipeline.llm.gateway.budget import Budget, BudgetExceeded, Cap
from persona_pipeline.llm.gateway.concurrency import Outcome, Permit
from persona_pipeline.llm.gateway.endpoint import ModelEndpoint
from persona_pipeline.llm.gateway.gateway import Gateway
from persona_pipeline.llm.gateway.journal import Journal
from persona_pipeline.llm.gateway.limiter import RateLimiter
from persona_pipeline.llm.prices import Price
from tests.support.faulty_server import (
    Answering,
    FaultyServer,
    Reply,
    refuse,
    serve,
    serve_texts,
    vectors,
)
from tests.support.purchases import QUICK, MemoryStore, journaled, make_call

CANARY = "sk-canary-81c7"
MODEL = "openai/embed"
PRICE = Price(input=0.001, cached_input=0.001, output=0.0)


@pytest.fixture(autouse=True)
def _patient_client(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine may take longer than 5 ms to ask for the texts that should travel together."""
    monkeypatch.setattr(embedding_client, "GATHERING", 0.2)


@contextmanager
def gateway_of(
    server: FaultyServer, folder: Path, *, budget: Budget | None = None, key: str | None = None
) -> Iterator[Gateway]:
    client = EmbeddingClient(api_base=server.url, api_key=key, timeout=60)
    endpoint = ModelEndpoint(MODEL, client, TextLimiter(client.limiter), PRICE)
    with Journal(folder) as journal:
        yield Gateway(
            lambda _: endpoint, journal, MemoryStore(), budget or Budget(), retry_policy=QUICK
        )


def test_embeddings_are_unit_vectors_in_the_order_of_the_texts(tmp_path: Path) -> None:
    with serve(vectors([3.0, 4.0], [0.0, 2.0])) as server, gateway_of(server, tmp_path) as gateway:
        matches = ServedEmbedder(MODEL, gateway, "s").embed(["a", "b"])
    assert matches.dtype == np.float32
    assert matches == pytest.approx(np.array([[0.6, 0.8], [0.0, 1.0]]))
    assert server.bodies[0]["input"] == ["a", "b"]


def test_embeddings_travel_in_batches(tmp_path: Path) -> None:
    texts = [f"text {number}" for number in range(BATCH + 1)]
    with (
        serve(vectors(*[[1.0]] * BATCH), vectors([1.0])) as server,
        gateway_of(server, tmp_path) as gateway,
    ):
        embedder = ServedEmbedder(MODEL, gateway, "s")
        assert embedder.embed(texts).shape == (BATCH + 1, 1)
        assert embedder.embed([]).shape == (0, 0)
    assert [len(body["input"]) for body in server.bodies] == [BATCH, 1]


def test_each_text_is_a_call_of_its_own_and_bought_once(tmp_path: Path) -> None:
    with serve(vectors([1.0, 0.0], [0.0, 1.0]), vectors([1.0, 1.0])) as server:
        with gateway_of(server, tmp_path) as gateway:
            ServedEmbedder(MODEL, gateway, "s").embed(["a", "b", "a"])
            calls = journaled(gateway)
        with gateway_of(server, tmp_path) as gateway:
            ServedEmbedder(MODEL, gateway, "s").embed(["b", "c", "a"])
    assert [body["input"] for body in server.bodies] == [["a", "b"], ["c"]]
    first = calls[embedding_request(MODEL, "a").call_key]
    assert (first.stage, first.tokens_in, first.cost_usd) == ("embeddings", 4, 0.004)
    assert sum(call.tokens_in for call in calls.values()) == 7


def test_a_chat_with_the_same_words_is_another_purchase() -> None:
    assert embedding_request(MODEL, "a").call_key != embedding_request(MODEL, "b").call_key
    assert embedding_request(MODEL, "a").call_key != embedding_request("openai/b", "a").call_key


def test_embeddings_outlast_trouble_that_passes(tmp_path: Path) -> None:
    with (
        serve(refuse(500), refuse(429, retry_after="0"), vectors([1.0])) as server,
        gateway_of(server, tmp_path) as gateway,
    ):
        assert ServedEmbedder(MODEL, gateway, "s").embed(["a"]).shape == (1, 1)


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (refuse(401, f"wrong: {CANARY}"), "openai/embed cannot be used: .*Check --model"),
        (refuse(500, f"wrong: {CANARY}"), "has given no answer for .*Run again when it answers"),
    ],
)
def test_an_embedding_model_that_gives_nothing_says_what_to_do(
    tmp_path: Path, reply: Reply, message: str
) -> None:
    with (
        serve(reply) as server,
        gateway_of(server, tmp_path, key=CANARY) as gateway,
        pytest.raises(ModelError, match=message) as caught,
    ):
        ServedEmbedder(MODEL, gateway, "s").embed(["a"])
    assert CANARY not in str(caught.value)


def test_embeddings_count_against_the_budget(tmp_path: Path) -> None:
    budget = Budget(Cap(usd=0.0))
    with (
        serve(vectors([1.0])) as server,
        gateway_of(server, tmp_path, budget=budget) as gateway,
        pytest.raises(BudgetExceeded, match="stopped at budget: 0 USD"),
    ):
        ServedEmbedder(MODEL, gateway, "s").embed(["a"])
    assert not server.bodies


def test_too_few_vectors_are_trouble_that_may_be_billed() -> None:
    async def ask(client: EmbeddingClient) -> None:
        try:
            await asyncio.gather(
                *(client.complete(embedding_request(MODEL, text)) for text in "ab")
            )
        finally:
            await client.close()

    with (
        serve(vectors([1.0])) as server,
        pytest.raises(CallError, match="1 vectors for 2") as caught,
    ):
        asyncio.run(ask(EmbeddingClient(api_base=server.url)))
    assert (caught.value.kind, caught.value.maybe_billed) == (CallErrorKind.TRANSIENT, True)


def answer_each(vector_of: Callable[[str], object], *, most: int = 1000) -> Answering:
    """Return the vectors of each request's texts; refuse more texts than `most`, and too long."""

    def answer(texts: list[str]) -> Reply:
        if len(texts) > most:
            return refuse(413, f"batch size {len(texts)} > maximum allowed batch size {most}")
        if any(text == "too long" for text in texts):
            return refuse(400, "input has 900 tokens, and the maximum is 512")
        return vectors(*map(vector_of, texts))

    return answer


def of_length(text: str) -> list[float]:
    return [float(len(text)), 1.0]


@pytest.mark.parametrize("most", [32, 10, 1])
def test_a_batch_is_halved_until_the_server_takes_it(tmp_path: Path, most: int) -> None:
    texts = [f"text {'x' * number}" for number in range(2 * BATCH)]
    with (
        serve_texts(answer_each(of_length, most=most)) as server,
        gateway_of(server, tmp_path) as gateway,
    ):
        matches = ServedEmbedder(MODEL, gateway, "s").embed(texts)
        assert all(call.status == "ok" for call in journaled(gateway).values())
        assert len(journaled(gateway)) == len(texts)
        server.bodies.clear()
        ServedEmbedder(MODEL, gateway, "t").embed(["another", "one"])
    assert np.isfinite(matches).all()
    assert [len(body["input"]) for body in server.bodies] == [2] if most > 1 else [1, 1]


def test_a_server_that_takes_few_texts_is_sent_few_from_then_on(tmp_path: Path) -> None:
    first, second = ([f"{name} {'x' * i}" for i in range(BATCH)] for name in "ab")
    with (
        serve_texts(answer_each(of_length, most=10)) as server,
        gateway_of(server, tmp_path) as gateway,
    ):
        ServedEmbedder(MODEL, gateway, "s").embed(first)
        sent = [len(body["input"]) for body in server.bodies]
        assert sorted(sent, reverse=True) == [64, 32, 32, *[16] * 4, *[8] * 8]
        server.bodies.clear()
        ServedEmbedder(MODEL, gateway, "t").embed(second)
    assert [len(body["input"]) for body in server.bodies] == [8] * 8


def test_one_text_that_is_too_long_fails_alone_and_counts_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    texts = [f"text {'x' * number}" for number in range(BATCH - 1)] + ["too long"]
    with serve_texts(answer_each(of_length)) as server, gateway_of(server, tmp_path) as gateway:
        matches = ServedEmbedder(MODEL, gateway, "s").embed(texts)
        calls = journaled(gateway)
    assert np.isfinite(matches[:-1]).all()
    assert np.isnan(matches[-1]).all()
    failed = [call for call in calls.values() if call.status == "failed"]
    assert [call.call_key for call in failed] == [embedding_request(MODEL, "too long").call_key]
    assert failed[0].error == (
        "the model gives no vector of this text: HTTP 400: input has 900 tokens, and the maximum "
        "is 512"
    )
    assert len(calls) == BATCH
    assert len(server.bodies) == 1 + 2 * 6
    assert "1 of 64 texts of s are compared by their words only" in caplog.text


def test_a_model_that_refuses_every_text_ends_the_run_after_twenty(tmp_path: Path) -> None:
    texts = [f"text {number}" for number in range(BATCH)]
    with (
        serve_texts(lambda _texts: refuse(400, "no embeddings here")) as server,
        gateway_of(server, tmp_path) as gateway,
        pytest.raises(ModelError, match=r"turns every request down: .*no embeddings here"),
    ):
        ServedEmbedder(MODEL, gateway, "s").embed(texts)
    assert len(server.bodies) < BATCH


@pytest.mark.parametrize(
    "bad", [None, [None, None], [None, 1.0], [math.nan, 1.0], [math.inf, 1.0], []], ids=str
)
def test_a_vector_that_is_none_is_asked_again_and_the_others_are_kept(
    tmp_path: Path, bad: object
) -> None:
    asked = Counter[str]()

    def once_bad(text: str) -> object:
        asked[text] += 1
        return bad if text == "b" and asked[text] == 1 else of_length(text)

    with serve_texts(answer_each(once_bad)) as server, gateway_of(server, tmp_path) as gateway:
        matches = ServedEmbedder(MODEL, gateway, "s").embed(["a", "b", "c"])
        calls = journaled(gateway)
    assert np.isfinite(matches).all()
    assert asked == {"a": 1, "b": 2, "c": 1}
    assert [body["input"] for body in server.bodies] == [["a", "b", "c"], ["b"]]
    assert {call.status for call in calls.values()} == {"ok"}


def test_a_text_without_any_vector_fails_alone_and_is_asked_again_by_the_next_run(
    tmp_path: Path,
) -> None:
    vector_of: dict[str, object] = {"b": None}
    answer = answer_each(lambda text: vector_of.get(text, of_length(text)))
    with serve_texts(answer) as server:
        with gateway_of(server, tmp_path) as gateway:
            first = ServedEmbedder(MODEL, gateway, "s").embed(["a", "b"])
            calls = journaled(gateway)
        vector_of.clear()
        with gateway_of(server, tmp_path) as gateway:
            second = ServedEmbedder(MODEL, gateway, "s").embed(["a", "b"])
    assert np.isnan(first[1]).all()
    failed = calls[embedding_request(MODEL, "b").call_key]
    assert (failed.status, failed.response) == ("failed", None)
    assert (failed.error or "").endswith("null in place of a vector or of its numbers")
    assert np.isfinite(second).all()


def test_a_journal_of_an_earlier_version_with_null_vectors_is_not_bought(tmp_path: Path) -> None:
    good, bad = ([*map(float, numbers)] for numbers in ([1, 2], [math.nan]))
    lines = [
        replace(
            make_call("x", text=json.dumps({"embedding": _base64(vector)})),
            call_key=embedding_request(MODEL, text).call_key,
            stage="embeddings",
        )
        for text, vector in {"a": good, "b": bad}.items()
    ]
    with serve_texts(answer_each(of_length)) as server:
        with Journal(tmp_path) as journal:
            for line in lines:
                journal.append(line)
        with gateway_of(server, tmp_path) as gateway:
            matches = ServedEmbedder(MODEL, gateway, "s").embed(["a", "b"])
    assert np.isfinite(matches).all()
    assert [body["input"] for body in server.bodies] == [["b"]]


def test_replies_are_counted_and_not_their_texts(tmp_path: Path) -> None:
    texts = [f"text {number}" for number in range(BATCH)]
    limiter = RecordingLimiter(8)
    refusals = iter([refuse(429, retry_after="0"), refuse(503, retry_after="0")])

    def answer(texts: list[str]) -> Reply:
        return next(refusals, None) or vectors(*map(of_length, texts))

    with serve_texts(answer) as server:
        client = EmbeddingClient(api_base=server.url, timeout=60, limiter=limiter)
        endpoint = ModelEndpoint(MODEL, client, TextLimiter(limiter), PRICE)
        with Journal(tmp_path) as journal:
            gateway = Gateway(lambda _: endpoint, journal, MemoryStore(), retry_policy=QUICK)
            ServedEmbedder(MODEL, gateway, "s").embed(texts)
    assert limiter.outcomes == [Outcome.REFUSED, Outcome.TROUBLE, Outcome.ANSWERED]
    assert [len(body["input"]) for body in server.bodies] == [BATCH] * 3


def test_vectors_of_two_lengths_are_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    lengths = {"a": [1.0, 2.0], "b": [1.0, 2.0, 3.0]}
    with (
        serve_texts(answer_each(lambda text: lengths[text])) as server,
        gateway_of(server, tmp_path) as gateway,
        pytest.raises(ModelError, match=r"vectors of \[2, 3\] numbers.*a name of its own"),
    ):
        ServedEmbedder(MODEL, gateway, "s").embed(["a", "b"])


def _base64(vector: list[float]) -> str:
    return base64.b64encode(np.array(vector, dtype="<f4").tobytes()).decode()


class RecordingLimiter(RateLimiter):
    """Note the outcome of each request."""

    def __init__(self, ceiling: int) -> None:
        super().__init__(ceiling, start=ceiling)
        self.outcomes: list[Outcome] = []

    def leave(
        self,
        permit: Permit,
        outcome: Outcome,
        *,
        retry_after: float | None = None,
        tokens: int | None = None,
    ) -> None:
        self.outcomes.append(outcome)
        super().leave(permit, outcome, retry_after=retry_after, tokens=tokens)
