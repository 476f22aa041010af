"""Test what a model's name opens, and which files are fetched for it."""

import json
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from persona_pipeline.artifacts.packages import ARTIFACTS, CACHE_VARIABLE, cached_path
from persona_pipeline.errors import PipelineError
from persona_pipeline.llm.clients.direct import DirectChatClient
from persona_pipeline.llm.clients.embedding_client import ServedEmbedder
from persona_pipeline.llm.clients.embeddings import FakeEmbedder
from persona_pipeline.llm.clients.fake import FakeChatClient, demonstrate, instance_of_schema
from persona_pipeline.llm.clients.litellm_client import LiteLLMChatClient
from persona_pipeline.llm.errors import ModelError
from persona_pipeline.llm.gateway.budget import Cap
from persona_pipeline.llm.prices import NO_COST, Price
from persona_pipeline.llm.requests import ChatRequest, Sampling
from persona_pipeline.models import (
    Endpoints,
    embedded_path,
    needed_corpora,
    needed_models,
    open_chat_client,
    open_embedder,
    open_endpoint,
    open_gateway,
)
from persona_pipeline.settings import load_settings
from tests.support.purchases import MemoryStore
from tests.support.purchases import open_gateway as open_fake_gateway


@pytest.mark.parametrize("name", ["fake/demo", "fake/slow"])
def test_a_fake_name_is_the_fake(name: str) -> None:
    assert isinstance(open_chat_client(load_settings(), name), FakeChatClient)


def test_a_demonstration_has_near_copies_of_personas_at_several_similarities() -> None:
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {"persona": {"type": "string", "minLength": 40}, "why": {"type": "string"}},
    }
    requests = [
        ChatRequest("fake/demo", ({"role": "user", "content": str(n)},), schema, Sampling())
        for n in range(200)
    ]
    answers = [json.loads(demonstrate(request)) for request in requests]
    assert answers == [json.loads(demonstrate(request)) for request in requests]
    plain = [json.loads(instance_of_schema(request)) for request in requests]
    copied = [n for n in range(200) if answers[n] != plain[n]]
    assert 30 < len(copied) < 70
    assert all(answers[n]["why"] == plain[n]["why"] for n in copied)
    sets = [set(answers[n]["persona"].lower().split()) for n in copied]
    matches = {round(len(a & b) / len(a | b), 2) for a, b in combinations(sets, 2)}
    assert {1.0, 0.92, 0.83, 0.69} <= matches


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("openai/gpt-4o", DirectChatClient),
        ("hosted_vllm/qwen", DirectChatClient),
        ("anthropic/claude", LiteLLMChatClient),
    ],
)
def test_any_other_name_is_a_served_model(name: str, kind: type) -> None:
    client = open_chat_client(load_settings(max_concurrency=7), name)
    assert isinstance(client, kind)
    assert client.max_concurrency == 7


def test_under_a_cap_in_usd_an_embedding_model_of_unknown_price_is_not_asked_either() -> None:
    settings = load_settings(max_usd=5, embedding_model="hosted_vllm/my-own")
    with (
        open_fake_gateway(FakeChatClient()) as gateway,
        pytest.raises(ModelError, match="nobody knows the price of hosted_vllm/my-own"),
    ):
        open_embedder(settings, gateway, "s")


def test_an_endpoint_is_opened_once_and_enforces_the_settings_quotas() -> None:
    endpoints = Endpoints(load_settings(max_concurrency=7, tokens_per_minute=100))
    endpoint = endpoints("openai/gpt-4o")
    assert endpoints("openai/gpt-4o") is endpoint
    assert endpoints("openai/gpt-4o-mini").limiter is not endpoint.limiter
    assert (endpoint.model, endpoint.limiter.limit, endpoint.is_paced) == ("openai/gpt-4o", 7, True)
    assert endpoint.price is not None
    assert not Endpoints(load_settings())("fake/demo").is_paced


@pytest.mark.parametrize("cap", [{"max_usd": 5}, {"stage_max_usd": {"hub": 5}}])
def test_under_a_cap_in_usd_a_model_of_unknown_price_is_not_asked_unless_it_is_allowed(
    cap: dict[str, Any],
) -> None:
    name = "hosted_vllm/my-own"
    with pytest.raises(ModelError, match=r"nobody knows the price of hosted_vllm/my-own.*set it"):
        open_endpoint(load_settings(**cap), name)
    assert open_endpoint(load_settings(**cap, allow_unknown_price=True), name).price is None
    assert open_endpoint(load_settings(max_tokens=5), name).price is None
    priced = load_settings(**cap, prices={name: {"input": 1}})
    assert open_endpoint(priced, name).price == Price(1e-6, 1e-6, 0.0)
    assert open_endpoint(load_settings(**cap), "fake/demo").price == NO_COST


def test_a_gateway_has_the_settings_journal_budget_and_fallbacks(tmp_path: Path) -> None:
    settings = load_settings(
        data_dir=tmp_path,
        fallback_models=["fake/slow"],
        max_tokens=9,
        stage_max_usd={"hub": 0.5},
        stage_max_tokens={"hub": 7},
    )
    with open_gateway(settings, MemoryStore()) as gateway:
        assert gateway.fallbacks == ("fake/slow",)
        assert gateway.budget.run == Cap(tokens=9)
        assert gateway.budget.stages == {"hub": Cap(7, 0.5)}
        assert (tmp_path / "journal" / "claims").is_file()


def test_the_name_of_an_embedding_model_is_fake_or_served() -> None:
    with open_fake_gateway(FakeChatClient()) as gateway:
        fake = open_embedder(load_settings(embedding_model="fake/any"), gateway, "s")
        served = open_embedder(load_settings(embedding_model="openai/small"), gateway, "s")
    assert isinstance(fake, FakeEmbedder)
    assert isinstance(served, ServedEmbedder)
    assert served.model == "openai/small"


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("fake/dmeo", "unknown model 'fake/dmeo'; did you mean 'fake/demo'"),
        ("embedded/qwen2.5-coder-1.5", "did you mean 'embedded/qwen2.5-coder-1.5b'"),
        ("embedded/none.gguf", r"no model file at none\.gguf: give the path of a GGUF file"),
    ],
)
def test_a_model_that_is_not_there_is_named_with_the_choices(model: str, message: str) -> None:
    with pytest.raises(PipelineError, match=message):
        open_chat_client(load_settings(), model)


def test_a_file_that_is_no_model_is_named(tmp_path: Path) -> None:
    path = tmp_path / "bad.gguf"
    path.write_bytes(b"no model at all")
    with pytest.raises(ModelError, match=r"bad\.gguf could not be loaded as a GGUF model"):
        open_chat_client(load_settings(), f"embedded/{path}")


def test_an_embedding_model_that_is_not_there_is_named_with_the_choices() -> None:
    settings = load_settings(embedding_model="embedded/minilm")
    with (
        open_fake_gateway(FakeChatClient()) as gateway,
        pytest.raises(ModelError, match="did you mean 'embedded/minilm-l6-int8'"),
    ):
        open_embedder(settings, gateway, "s")


def test_an_embedded_name_may_be_the_path_of_a_file() -> None:
    assert embedded_path("embedded//models/my.gguf") == Path("/models/my.gguf")
    assert embedded_path("embedded/~/my.gguf") == Path.home() / "my.gguf"


def test_an_embedded_name_is_the_file_in_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    name = "qwen2.5-coder-0.5b"
    with cached_path(name).open("wb") as file:
        file.truncate(ARTIFACTS[name].size)
    assert embedded_path(f"embedded/{name}") == cached_path(name)


@pytest.mark.parametrize(
    ("model", "embedding_model", "source", "needed"),
    [
        ("fake/demo", "fake/any", "pages.jsonl", []),
        ("openai/x", "openai/y", "wikipedia", ["wikipedia-en"]),
        ("fake/demo", "fake/any", "wikipedia:fr", ["wikipedia-fr"]),
        ("fake/demo", "fake/any", "wikipedia:xx", []),
        (
            "embedded/my.gguf",
            "embedded/minilm-l6-int8",
            "a",
            ["minilm-l6-int8", "minilm-l6-tokenizer"],
        ),
        ("embedded/qwen2.5-coder-0.5b", "fake/any", "a", ["qwen2.5-coder-0.5b"]),
    ],
)  # fmt: skip
def test_only_what_the_settings_use_is_fetched(
    model: str, embedding_model: str, source: str, needed: list[str]
) -> None:
    settings = load_settings(model=model, embedding_model=embedding_model, source=source)
    assert [*needed_corpora(settings), *needed_models(settings)] == needed


def test_the_models_of_fallbacks_and_stages_are_fetched_too() -> None:
    settings = load_settings(
        model="fake/demo",
        fallback_models=["embedded/qwen2.5-coder-0.5b"],
        stage_models={"hub": ["openai/x", "embedded/qwen2.5-coder-1.5b"]},
        embedding_model="fake/any",
        source="a",
    )
    assert needed_models(settings) == ["qwen2.5-coder-0.5b", "qwen2.5-coder-1.5b"]


def test_a_model_of_vectors_is_not_fetched_where_nobody_needs_them() -> None:
    by_words = load_settings(model="fake/demo", source="texts", cosine_threshold=None)
    assert needed_models(by_words) == []
