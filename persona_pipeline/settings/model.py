"""Define the settings: name, type, default and what each one does.

The text below a setting is its description in SETTINGS.md and on the site. It says what the
setting does, in which unit, and when to change it.
"""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, ByteSize, Field, SecretStr
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from persona_pipeline.dedup.rules import Method
from persona_pipeline.errors import SettingsError, unknown_choice
from persona_pipeline.hub.selection_rules import Selection, SelectionName, check_selection
from persona_pipeline.llm.gateway.budget import Cap
from persona_pipeline.llm.prices import PriceSetting
from persona_pipeline.llm.request_options import RequestOptions
from persona_pipeline.settings.sampling import Parameters, SamplingSetting
from persona_pipeline.settings.sources import (
    PREFIX,
    WholeSettings,
    config_file,
    renamed_settings,
)
from persona_pipeline.settings.types import (
    Address,
    AtLeastOnce,
    AtLeastOne,
    Listed,
    OrAll,
    OrNone,
    Place,
    Places,
    Positive,
    Share,
    Similarity,
    Tokens,
    Usd,
)
from persona_pipeline.stage_names import (
    EMBEDDINGS,
    PERSONA_TO_PERSONA,
    TEXT_TO_PERSONA,
    domain_stage,
)
from persona_pipeline.store.data_folder import DataFolder
from persona_pipeline.synthesis.prompting import Prompting

if TYPE_CHECKING:
    from persona_pipeline.synthesis.domain import Domain


class Verb(StrEnum):
    """Relation of a person to a text (report, section 2.1)."""

    READ = "read"
    WRITE = "write"
    LIKE = "like"
    DISLIKE = "dislike"


NESTED: dict[str, type[BaseModel]] = {
    "prices": PriceSetting,
    "sampling": SamplingSetting,
    "selections": Selection,
}
"""Settings whose values have named parts, with the pydantic model of these parts."""


class Settings(DataFolder, BaseSettings):
    """What a run does, where it keeps things, and which models it asks."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        extra="forbid",
        frozen=True,
        env_ignore_empty=True,
    )

    source: Place = "wikipedia"
    """Where documents come from: a file, a folder, a URL pattern, a data set of the Hugging Face
    Hub such as `hf://datasets/owner/name`, or the packaged `wikipedia`, `wikipedia:es`,
    `wikipedia:fr`."""
    documents: OrAll[AtLeastOne] = 20
    """Number of documents to take from the source. `all` takes every one."""
    shard_size: AtLeastOne = 1000
    """Number of documents in a shard. A smaller shard needs less memory; a larger one has less
    overhead."""
    min_chars: AtLeastOne = 200
    """Shortest document, in characters. Shorter ones are rejected as `too_short`."""
    max_chars: AtLeastOne = 100_000
    """Longest document, in characters. Longer ones are rejected as `too_long`."""
    sample_by: Literal["document", "line"] = "document"
    """What a `.txt` file holds: one `document`, or a document per `line`."""
    text_field: str = "text"
    """JSON key or column that holds a document's text, or the path to a nested one, such as
    `article.body`. The default also finds `raw_content` and `content`, or
    else a chat or an HTML page."""
    url_field: str = "url"
    """The same for a document's address. The default also finds `metadata.url`, `meta.url` and
    `warc_headers.warc-target-uri`."""
    title_field: str = "title"
    """The same for a document's title."""
    language_field: str = "language"
    """The same for a document's language."""
    license_field: str = "license"
    """The same for a document's licence."""
    watch: Places = []
    """Folders, files and URL patterns that the sensor scans for new documents. No place may lie
    inside another one."""
    watch_seconds: AtLeastOne = 60
    """Seconds between two scans. What a scan finds becomes a shard of its own."""
    schedule: OrNone[str] = None
    """Cron expression of the schedule `nightly`, such as `0 2 * * *`. It runs unfinished shards.
    `none`: the schedule is off until you switch it on in Dagster."""

    model: str = "embedded/qwen2.5-coder-1.5b"
    """Chat model: any LiteLLM name, an `embedded/` model that runs in the process, or
    `fake/demo`."""
    api_base: Address = None
    """Address of an OpenAI-compatible server. `none`: the provider's own address."""
    api_key: OrNone[SecretStr] = None
    """API key. `none` without `api_base`: the provider's own variable is read, such as
    OPENAI_API_KEY."""
    fallback_models: Listed[str] = []
    """Models to ask in turn when `model` gives no usable answer."""
    stage_models: dict[str, list[str]] = {}
    """Per stage, its model and then its fallbacks, instead of `model` and `fallback_models`."""
    max_concurrency: AtLeastOne = 256
    """Most calls in flight. The platform uses fewer when the server refuses or queues calls."""
    requests_per_minute: OrNone[Positive] = None
    """Quota of requests per minute to keep. `none`: only the server's refusals limit the pace."""
    tokens_per_minute: OrNone[Positive] = None
    """Quota of tokens per minute to keep. `none`: only the server's refusals limit the pace."""
    request_timeout: Positive = 120.0
    """Seconds to wait for one answer. Raise it for a slow server."""
    schema_mode: Literal["auto", "json_schema", "json_object", "prompt"] = "auto"
    """How models are told the form of an answer: `json_schema` (the server holds the model to
    it), `json_object` (to JSON, and the prompt shows the schema), or `prompt` (the prompt shows
    it). `auto`: the first of these that a model's server does not refuse."""
    sampling: dict[str, SamplingSetting] = {}
    """Per model or stage, `temperature`, `top_p` and `max_tokens` (the longest answer) instead of
    the prompt's own. `"none"`: the parameter is not sent. A stage's values win over a model's.
    Other values are other calls."""
    request_parameters: dict[str, Parameters] = {}
    """Per model or stage, further parameters of a request, which are sent as they are. A stage's
    values win over a model's. Other values are other calls."""
    reasoning_effort: OrNone[str] = None
    """How much served models think before they answer, such as `low`. Another value is another
    call. `none`: the provider's own value."""
    reasoning_tokens: Annotated[int, Field(ge=0)] = 4096
    """Tokens added to the longest answer, for the thoughts of models that think. Raise it when
    answers are rejected because thoughts left no room: these rows are asked again, no others."""
    batch: bool = False
    """Whether to use the provider's batch API. It is cheaper (OpenAI: half the price) and takes
    up to a day."""
    batch_size: Annotated[int, Field(ge=1, le=50_000)] = 5000
    """Most requests in one batch."""
    batch_poll_seconds: Positive = 30.0
    """Seconds between two questions whether a batch is done."""
    max_usd: OrNone[Usd] = None
    """Most USD that a run may spend. The run stops before the cap; run it again to go on.
    `none`: no cap."""
    max_tokens: OrNone[Tokens] = None
    """Most tokens, in and out, that a run may use. `none`: no cap."""
    stage_max_usd: dict[str, Usd] = {}
    """Per stage, the most USD that a run may spend on it."""
    stage_max_tokens: dict[str, Tokens] = {}
    """Per stage, the most tokens that a run may use for it."""
    prices: dict[str, PriceSetting] = {}
    """Per model, its price in USD per million tokens: `input`, `output` and, optionally,
    `cached_input`. It replaces LiteLLM's price."""
    allow_unknown_price: bool = False
    """Whether a run with a USD cap may ask models whose price is unknown. Such calls count as
    free of charge."""
    embedding_model: str = "embedded/minilm-l6-int8"
    """Embedding model: a LiteLLM name, an `embedded/` model, or `fake/embedder`. Only vectors of
    the same model are compared."""

    verbs: Annotated[Listed[Verb], Field(min_length=1)] = [Verb.READ, Verb.WRITE]
    """Relations to ask for: who would `read`, `write`, `like` or `dislike` the document. Each
    verb costs one call per document."""
    granularity: Literal["fine", "coarse"] = "fine"
    """Level of detail to ask for in a persona: `fine` or `coarse`."""
    document_chars: Annotated[int, Field(ge=100)] = 2000
    """Characters of a document that the model is shown, from its beginning."""
    hops: Annotated[int, Field(ge=0, le=6)] = 1
    """Rounds of Persona-to-Persona. Each round asks about the personas of the round before. 0
    switches it off."""
    fan_out: Annotated[int, Field(ge=1, le=6)] = 1
    """Related personas to ask for per persona and round."""
    language: OrNone[str] = None
    """ISO 639-1 code of the language that personas must be in. `none`: any language."""

    jaccard_threshold: Similarity = 0.9
    """Jaccard similarity of the word sets from which on a persona is removed. A new value needs
    no comparison, down to `store_pairs_from`."""
    cosine_threshold: OrNone[Share] = 0.9
    """Cosine similarity of the embeddings from which on a persona is removed. `none`: no
    semantic layer, and no embeddings unless a selection needs them."""
    fuzzy_threshold: OrNone[Annotated[float, Field(gt=0, le=100)]] = None
    """rapidfuzz ratio, above 1 and up to 100, from which on a persona is removed. It catches
    typos, inflection and one other word in pairs with a Jaccard similarity from 0.7 on. `none`:
    no fuzzy layer."""
    dedup_method: Method = "exact"
    """How similar word sets are found: `exact`; or `minhash128`, the report's method, which
    estimates the similarity; or `minhash128-verified`, which computes it for each MinHash pair."""
    store_pairs_from: Similarity = 0.7
    """Jaccard similarity from which on pairs are stored. Lower it to try lower thresholds; more
    pairs need more room."""
    record_thresholds: dict[str, Similarity | None] = {}
    """Per domain, the Jaccard similarity from which on a record is removed, instead of the
    domain's own."""
    selections: dict[SelectionName, Selection] = {}
    """Per name, a diverse subset of the hub: `count` (most personas), `thresholds` (falling
    Jaccard similarities below `jaccard_threshold`), `method` (`"farthest"`, the default:
    embeddings farthest apart; `"first"`: first in rank), `seed` (draws the first persona)."""
    dedup_memory: Annotated[ByteSize, Field(ge=200_000_000)] = ByteSize(2_000_000_000)
    """Memory for deduplication, such as `2GB`. It holds 3 million similar pairs per GB. With more,
    as among texts of a template, the same personas are kept, but only their deciding pairs are
    stored."""
    dedup_threads: AtLeastOne = 2
    """Threads for deduplication. The result does not depend on it."""

    domains: Listed[str] = []
    """Domains to run. Empty: all domains, yours included."""
    domain_dirs: Listed[Path] = []
    """Folders that hold domains of your own, one folder each."""
    domain_options: dict[str, dict[str, list[str]]] = {}
    """Per domain and option, the values to draw from."""
    persona_sources: dict[str, str] = {}
    """Per domain, the selection to draw personas from, instead of the hub. A run makes the
    selection if it was never made."""
    prompting: Prompting = Prompting.PERSONA_FEW_SHOT
    """How examples are shown to the model: `zero_shot`, `few_shot` or `persona_few_shot`
    (report, section 3)."""
    records_per_shard: OrAll[AtLeastOne] = 3
    """Personas of each shard that get a record in each domain. `all` takes every persona of the
    hub."""

    warn_rejected_share: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Share of a stage's rows. A check warns when one reason rejects more."""
    warn_cost_growth: AtLeastOnce = 2.0
    """Factor. A check warns when a record costs so many times what it cost in the runs before."""
    fresh_within_hours: OrNone[AtLeastOnce] = None
    """Hours after which Dagster marks `marts/funnel` as stale if no run has ended. `none`:
    never."""

    shards_per_run: AtLeastOne = 10
    """Shards that one run does together, or buys answers for in a backfill. `run` does one at a
    time if there is a cap."""
    force: bool = False
    """Whether a run does stages again whose settings, program and input are what they were."""
    lock_timeout: Positive = 120.0
    """Seconds that a run waits for the database while another process writes."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - load_settings() does it
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - not offered
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Order the sources: command line, environment, TOML file."""
        toml = TomlConfigSettingsSource(settings_cls, toml_file=config_file())
        return init_settings, WholeSettings(env_settings), WholeSettings(toml, renamed_settings)

    @property
    def chat_models(self) -> set[str]:
        """The chat models that some stage may ask."""
        of_stages = {name for names in self.stage_models.values() for name in names}
        return {self.model, *self.fallback_models} | of_stages

    @property
    def needs_vectors(self) -> bool:
        """Whether a semantic layer or a selection needs embeddings."""
        is_spread = (rules.is_spread for rules in self.selections.values())
        return self.cosine_threshold is not None or any(is_spread)

    def models_for(self, stage: str) -> list[str]:
        """Return the models of a stage, in the order in which they are asked.

        Args:
            stage: such as `text_to_persona` or `synthetic.math`.

        Returns:
            The model of the stage, then its fallbacks.
        """
        return self.stage_models.get(stage) or [self.model, *self.fallback_models]

    @property
    def request_options(self) -> RequestOptions:
        """What is asked of models in another way than the prompts say."""
        return RequestOptions(
            sampling={
                name: changes.model_dump(exclude_unset=True)
                for name, changes in self.sampling.items()
            },
            parameters=self.request_parameters,
            reasoning_effort=self.reasoning_effort,
        )

    def caps(self) -> tuple[Cap, dict[str, Cap]]:
        """Return the caps on tokens and USD.

        Returns:
            The cap of a run, and the caps of its stages by name.
        """
        stages = {
            stage: Cap(self.stage_max_tokens.get(stage), self.stage_max_usd.get(stage))
            for stage in (*self.stage_max_tokens, *self.stage_max_usd)
        }
        return Cap(self.max_tokens, self.max_usd), stages

    @property
    def has_caps(self) -> bool:
        """Whether a cap of any kind is set."""
        of_run, of_stages = self.caps()
        return bool(of_stages) or of_run != Cap()

    @property
    def caps_usd(self) -> bool:
        """Whether a cap in USD is set, so that prices must be known."""
        return self.max_usd is not None or bool(self.stage_max_usd)

    def drawn_selections(self) -> dict[str, list[str]]:
        """Return the selections that chosen domains draw from.

        Returns:
            Per selection, the sorted names of its domains.
        """
        drawn: dict[str, list[str]] = {}
        for domain, selection in sorted(self.persona_sources.items()):
            if not self.domains or domain in self.domains:
                drawn.setdefault(selection, []).append(domain)
        return drawn

    def load_domains(self) -> dict[str, "Domain"]:
        """Load the chosen domains, with the options that the settings allow.

        Returns:
            The domains by name.

        Raises:
            SettingsError: a setting names an unknown domain, selection or stage.
        """
        from persona_pipeline.synthesis.domain import load_domains  # noqa: PLC0415 - 0.25 s

        known = load_domains(self.domain_dirs)
        named = [*self.domains, *self.domain_options, *self.record_thresholds]
        for name in [*named, *self.persona_sources]:
            if name not in known:
                raise SettingsError(unknown_choice("domain", name, known))
        for name in self.persona_sources.values():
            check_selection(name, self.selections)
        stages = [TEXT_TO_PERSONA, PERSONA_TO_PERSONA, EMBEDDINGS, *map(domain_stage, known)]
        for name in [*self.stage_models, *self.stage_max_usd, *self.stage_max_tokens]:
            if name not in stages:
                raise SettingsError(unknown_choice("stage", name, stages))
        for name in [*self.sampling, *self.request_parameters]:
            if "/" not in name and name not in {*stages, *self.chat_models}:
                choices = [*sorted(self.chat_models), *stages]
                raise SettingsError(unknown_choice("model or stage", name, choices))
        return {
            name: domain.narrowed(self.domain_options.get(name, {}))
            for name, domain in known.items()
            if not self.domains or name in self.domains
        }
