"""From a model's name in the settings to the client that answers."""

from pathlib import Path

from persona_pipeline.errors import unknown_choice
from persona_pipeline.llm.client import ChatClient
from persona_pipeline.llm.embedded import EmbeddedChatClient
from persona_pipeline.llm.embeddings import (
    Embedder,
    FakeEmbedder,
    LiteLLMEmbedder,
    MiniLMEmbedder,
)
from persona_pipeline.llm.errors import ModelError
from persona_pipeline.llm.fake import FakeChatClient
from persona_pipeline.llm.litellm_client import LiteLLMChatClient
from persona_pipeline.models.artifacts import ARTIFACTS, Report, fetch, is_cached
from persona_pipeline.progress import stage_progress
from persona_pipeline.settings import Settings

EMBEDDED = "embedded/"
EMBEDDED_CHAT = ("qwen2.5-coder-1.5b", "qwen2.5-coder-0.5b")
MINILM = "minilm-l6-int8"
FAKE_SECONDS = {"fake/demo": 0.0, "fake/slow": 0.05}
"""The fake models, with the seconds an answer takes."""


def open_chat_client(settings: Settings, report: Report | None = None) -> ChatClient:
    """The client for `settings.model`; fetches an embedded model that is not in the cache.

    Raises:
        ModelError, ArtifactError: with what to do.
    """
    name = settings.model
    if name in FAKE_SECONDS:
        return FakeChatClient(seconds=FAKE_SECONDS[name])
    if name.startswith("fake/"):
        raise ModelError(unknown_choice("model", name, FAKE_SECONDS))
    if name.startswith(EMBEDDED):
        return EmbeddedChatClient(embedded_path(name, report))
    key = settings.api_key
    return LiteLLMChatClient(
        api_base=settings.api_base,
        api_key=key.get_secret_value() if key else None,
        max_concurrency=settings.max_concurrency,
        timeout=settings.request_timeout,
    )


def open_embedder(settings: Settings, report: Report | None = None) -> Embedder:
    """The embedder for `settings.embedding_model`; address and key go to the same provider only."""
    name = settings.embedding_model
    if name.startswith("fake/"):
        return FakeEmbedder(name)
    if name == f"{EMBEDDED}{MINILM}":
        tokenizer = fetch("minilm-l6-tokenizer", report)
        return MiniLMEmbedder(name, fetch(MINILM, report), tokenizer)
    if name.startswith(EMBEDDED):
        raise ModelError(unknown_choice("embedding model", name, [f"{EMBEDDED}{MINILM}"]))
    same_provider = name.partition("/")[0] == settings.model.partition("/")[0]
    key = settings.api_key.get_secret_value() if settings.api_key and same_provider else None
    api_base = settings.api_base if same_provider else None
    return LiteLLMEmbedder(name, api_base=api_base, api_key=key)


def embedded_path(name: str, report: Report | None = None) -> Path:
    """The GGUF file of `embedded/<known name>` or `embedded/<path of a GGUF file>`."""
    rest = name.removeprefix(EMBEDDED)
    if rest in EMBEDDED_CHAT:
        return fetch(rest, report)
    if rest.endswith(".gguf"):
        return Path(rest).expanduser()
    known = [f"{EMBEDDED}{known}" for known in EMBEDDED_CHAT]
    raise ModelError(unknown_choice("embedded model", name, [*known, f"{EMBEDDED}/path/to.gguf"]))


def prefetch(settings: Settings) -> None:
    """Fetch what the settings need, with progress in megabytes, before anything else starts."""
    for name in needed_artifacts(settings):
        if not is_cached(name):
            megabytes = ARTIFACTS[name].size // 1_000_000 + 1
            with stage_progress(f"download {name} (MB)", megabytes) as tracker:
                fetch(name, lambda _what, done, _total: tracker.reach(done // 1_000_000))
                tracker.reach(megabytes)


def needed_artifacts(settings: Settings) -> list[str]:
    """The packaged files that a run with these settings uses."""
    needed = []
    model = settings.model.removeprefix(EMBEDDED)
    if settings.model.startswith(EMBEDDED) and model in EMBEDDED_CHAT:
        needed.append(model)
    if settings.embedding_model == f"{EMBEDDED}{MINILM}":
        needed += [MINILM, "minilm-l6-tokenizer"]
    if settings.source == "wikipedia" or settings.source.startswith("wikipedia:"):
        needed.append(f"wikipedia-{settings.source.partition(':')[2] or 'en'}")
    return [name for name in needed if name in ARTIFACTS]
