"""Test a provider's embeddings: bought text by text, sent in batches."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from persona_pipeline.llm.clients.embedding_client import (
    EmbeddingClient,
    ServedEmbedder,
    embedding_request,
)
from persona_pipeline.llm.clients.embeddings import BATCH
from persona_pipeline.llm.errors import CallError, CallErrorKind, ModelError
from persona_pipeline.llm.gateway.budget import Budget, BudgetExceeded, Cap
from persona_pipeline.llm.gateway.endpoint import ModelEndpoint
from persona_pipeline.llm.gateway.gateway import Gateway
from persona_pipeline.llm.gateway.journal import Journal
from persona_pipeline.llm.gateway.limiter import RateLimiter
from persona_pipeline.llm.prices import Price
from tests.support.faulty_server import FaultyServer, Reply, refuse, serve, vectors
from tests.support.purchases import QUICK, MemoryStore, journaled

CANARY = "sk-canary-81c7"
MODEL = "openai/embed"
PRICE = Price(input=0.001, cached_input=0.001, output=0.0)


@contextmanager
def gateway_of(
    server: FaultyServer, folder: Path, *, budget: Budget | None = None, key: str | None = None
) -> Iterator[Gateway]:
    client = EmbeddingClient(api_base=server.url, api_key=key, timeout=60)
    endpoint = ModelEndpoint(MODEL, client, RateLimiter(client.max_concurrency, start=BATCH), PRICE)
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
        (refuse(400, f"wrong: {CANARY}"), "gave no vector for 1 of 1 texts .*: run again"),
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
