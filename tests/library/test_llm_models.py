"""From the name of a model to what answers, and what must be fetched for it."""

from pathlib import Path

import pytest

from persona_pipeline.errors import PipelineError
from persona_pipeline.llm.embeddings import FakeEmbedder, LiteLLMEmbedder
from persona_pipeline.llm.errors import ModelError
from persona_pipeline.llm.fake import FakeChatClient
from persona_pipeline.llm.litellm_client import LiteLLMChatClient
from persona_pipeline.llm.models import (
    embedded_path,
    needed_artifacts,
    open_chat_client,
    open_embedder,
)
from persona_pipeline.models.artifacts import ARTIFACTS, CACHE_VARIABLE, cached_path
from persona_pipeline.settings import load_settings


@pytest.mark.parametrize("name", ["fake/demo", "fake/slow"])
def test_a_fake_name_is_the_fake(name: str) -> None:
    assert isinstance(open_chat_client(load_settings(model=name)), FakeChatClient)


def test_any_other_name_is_a_served_model() -> None:
    client = open_chat_client(load_settings(model="openai/gpt-4o", max_concurrency=7))
    assert isinstance(client, LiteLLMChatClient)
    assert client.max_concurrency == 7


def test_the_name_of_an_embedding_model_is_fake_or_served() -> None:
    assert isinstance(open_embedder(load_settings(embedding_model="fake/any")), FakeEmbedder)
    served = open_embedder(load_settings(embedding_model="openai/small", api_key="k"))
    assert isinstance(served, LiteLLMEmbedder)
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
        open_chat_client(load_settings(model=model))


def test_a_file_that_is_no_model_is_named(tmp_path: Path) -> None:
    path = tmp_path / "bad.gguf"
    path.write_bytes(b"no model at all")
    with pytest.raises(ModelError, match=r"bad\.gguf could not be loaded as a GGUF model"):
        open_chat_client(load_settings(model=f"embedded/{path}"))


def test_an_embedding_model_that_is_not_there_is_named_with_the_choices() -> None:
    with pytest.raises(ModelError, match="did you mean 'embedded/minilm-l6-int8'"):
        open_embedder(load_settings(embedding_model="embedded/minilm"))


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
    assert needed_artifacts(settings) == needed
