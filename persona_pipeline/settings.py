"""Every setting of the platform: one class, shared by the command line and Dagster.

Values come from the command line, then the environment (`PERSONA_PIPELINE_<NAME>`, also through a
`.env` file), then `persona_pipeline.toml`, then the defaults below; each whole, from the first.
"""

import os
import tomllib
from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal
from urllib.parse import urlsplit

import dotenv
from pydantic import BaseModel, ByteSize, Field, SecretStr, ValidationError, field_validator
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)
from pydantic_settings import SettingsError as UnreadableSetting

from persona_pipeline.corpus.addresses import refuse_nested
from persona_pipeline.dedup.rules import Method
from persona_pipeline.errors import SettingsError, tell_renamed, unknown_choice
from persona_pipeline.hub.selection_rules import Selection, SelectionName, check_selection
from persona_pipeline.llm.gateway.budget import Cap
from persona_pipeline.llm.prices import PriceSetting
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

PREFIX = "PERSONA_PIPELINE_"
CONFIG_VARIABLE = f"{PREFIX}CONFIG"
DEFAULT_CONFIG = Path("persona_pipeline.toml")
ELSEWHERE = {CONFIG_VARIABLE, f"{PREFIX}CACHE_DIR"}
"""Variables with the prefix that are read before, or without, the settings."""


class Verb(StrEnum):
    """How a person stands to a text (report, section 2.1)."""

    READ = "read"
    WRITE = "write"
    LIKE = "like"
    DISLIKE = "dislike"


def _comma_separated(value: object) -> object:
    if isinstance(value, str):
        return [item.strip() for item in value.split(",") if item.strip()]
    return value


RENAMED = {
    "memory": "dedup_memory",
    "pairs_from": "store_pairs_from",
    "threads": "dedup_threads",
}
"""Settings by their names before 0.2, which work until 0.3, and their names now."""
NESTED: dict[str, type[BaseModel]] = {"prices": PriceSetting, "selections": Selection}
"""What the values of a setting are made of."""
Names = Annotated[list[str], NoDecode]
Amounts = dict[str, Annotated[float, Field(ge=0)]]
Counts = dict[str, Annotated[int, Field(ge=0)]]


class Settings(DataFolder, BaseSettings):
    """What a run does, where it keeps things, and which models it asks."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, extra="forbid", frozen=True, env_ignore_empty=True
    )

    source: str = Field(
        "wikipedia", description="file, folder, URL, or wikipedia, wikipedia:es, wikipedia:fr"
    )
    documents: int | None = Field(20, ge=1, description="how many documents to take; none: all")
    shard_size: int = Field(1000, ge=1, description="documents in a shard")
    min_chars: int = Field(200, ge=1, description="shorter documents are rejected")
    max_chars: int = Field(100_000, ge=1, description="longer documents are rejected")
    text_field: str = Field("text", description="the column or key that holds a document's text")
    url_field: str = Field("url", description="the column or key of its address")

    watch: Names = Field(
        default=[],
        description="folders, files, URL patterns that the sensor looks at; none in another",
    )
    watch_seconds: int = Field(
        60, ge=1, description="between two looks; what is new then becomes a shard of its own"
    )
    schedule: str | None = Field(
        None, description="cron of the schedule that runs what is missing, e.g. 0 2 * * *"
    )

    model: str = Field("embedded/qwen2.5-coder-1.5b", description="any LiteLLM name, or embedded/*")
    api_base: str | None = Field(None, description="address of an OpenAI-compatible server")
    api_key: SecretStr | None = Field(
        None, description="else, without api_base, the provider's own variable is read"
    )
    fallback_models: Names = Field(
        default=[], description="asked in turn where the model gives no usable answer"
    )
    stage_models: dict[str, list[str]] = Field(
        {}, description="per stage, its model and fallbacks instead of these"
    )
    max_concurrency: int = Field(
        256, ge=1, description="most calls in flight; fewer when the server refuses or queues"
    )
    requests_per_minute: float | None = Field(None, gt=0, description="a quota to keep to, or none")
    tokens_per_minute: float | None = Field(None, gt=0, description="a quota to keep to, or none")
    request_timeout: float = Field(120.0, gt=0, description="seconds to wait for one answer")

    batch: bool = Field(
        default=False, description="buy in the provider's batches: cheaper, up to a day"
    )
    batch_size: int = Field(5000, ge=1, le=50_000, description="most requests in one batch")
    batch_poll_seconds: float = Field(30.0, gt=0, description="between two looks at a batch")

    max_usd: float | None = Field(None, ge=0, description="most a run may spend, or none")
    max_tokens: int | None = Field(None, ge=0, description="most tokens a run may use, or none")
    stage_max_usd: Amounts = Field({}, description="most that a stage of a run may spend")
    stage_max_tokens: Counts = Field({}, description="most tokens that a stage of a run may use")
    prices: dict[str, PriceSetting] = Field(
        {}, description="your prices of models: USD per million tokens: input, output, cached_input"
    )
    allow_unknown_price: bool = Field(
        default=False, description="under max_usd, ask models whose price nobody knows"
    )

    embedding_model: str = Field("embedded/minilm-l6-int8", description="LiteLLM name or embedded")

    verbs: Annotated[list[Verb], NoDecode] = Field(
        [Verb.READ, Verb.WRITE], min_length=1, description="ways a persona stands to its document"
    )
    granularity: Literal["fine", "coarse"] = Field("fine", description="how detailed personas are")
    document_chars: int = Field(2000, ge=100, description="characters of a page that are shown")
    hops: int = Field(1, ge=0, le=6, description="rounds of persona-to-persona")
    fan_out: int = Field(1, ge=1, le=6, description="related personas asked for per persona")
    language: str | None = Field(None, description="ISO 639-1 code personas must be in, or none")
    jaccard_threshold: float = Field(
        0.9, gt=0, le=1, description="word-set similarity to remove at"
    )
    cosine_threshold: float | None = Field(
        0.9, gt=0, le=1, description="embedding cosine to remove at, or none"
    )
    fuzzy_threshold: float | None = Field(
        None, gt=0, le=100, description="rapidfuzz ratio to remove at below jaccard_threshold"
    )
    dedup_method: Method = Field(
        "exact", description="exact, or the report's minhash128, or minhash128-verified"
    )
    store_pairs_from: float = Field(
        0.7, gt=0, le=1, description="word-set similarity from which on pairs are kept"
    )
    dedup_memory: ByteSize = Field(
        ByteSize(2_000_000_000), ge=200_000_000, description="memory that deduplication may take"
    )
    dedup_threads: int = Field(2, ge=1, description="threads that deduplication may take")
    selections: dict[SelectionName, Selection] = Field(
        {}, description="by name, diverse subsets of the hub: count, thresholds, method, seed"
    )

    domains: Names = Field(default=[], description="domains to run; empty: all there are")
    domain_dirs: Annotated[list[Path], NoDecode] = Field([], description="folders of your domains")
    domain_options: dict[str, dict[str, list[str]]] = Field(
        {}, description="per domain and option, the values to draw from"
    )
    record_thresholds: dict[str, Annotated[float, Field(gt=0, le=1)] | None] = Field(
        {}, description="per domain, word-set similarity to remove records at, instead of its own"
    )
    persona_sources: dict[str, str] = Field(
        {}, description="per domain, the selection to take personas from instead of the hub"
    )
    prompting: Prompting = Field(Prompting.PERSONA_FEW_SHOT, description="how examples are shown")
    records_per_shard: int | None = Field(
        3, ge=1, description="personas per domain and shard that get a record; none: all"
    )

    shards_per_run: int = Field(
        4, ge=1, description="shards that one run of a backfill buys answers for"
    )
    warn_rejected_share: float = Field(
        0.5, ge=0, le=1, description="share of a stage's rows that one reason may reject: a check"
    )
    warn_cost_growth: float = Field(
        2.0, ge=1, description="cost of a record, in times that of the runs before: a check"
    )
    fresh_within_hours: float | None = Field(
        None, ge=1, description="Dagster marks the funnel as stale after that, or none: never"
    )

    lock_timeout: float = Field(120.0, gt=0, description="seconds to wait for the database's lock")

    @field_validator("verbs", "domains", "domain_dirs", "fallback_models", "watch", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return _comma_separated(value)

    @field_validator("watch")
    @classmethod
    def _apart(cls, value: list[str]) -> list[str]:
        refuse_nested(value)
        return value

    @field_validator("api_base")
    @classmethod
    def _plain_address(cls, value: str | None) -> str | None:
        """An http(s) address that may be shown: without a password."""
        parts = urlsplit(value or "http://localhost")
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            msg = "not an address such as http://gpu:8000/v1"
            raise ValueError(msg)
        if parts.username or parts.password:
            msg = "holds a user or password: give it as api_key"
            raise ValueError(msg)
        return value

    @field_validator("documents", "records_per_shard", mode="before")
    @classmethod
    def _none_for_all(cls, value: object) -> object:
        return None if value in ("none", "all") else value

    @field_validator(
        "language",
        "cosine_threshold",
        "fuzzy_threshold",
        "api_base",
        "api_key",
        "requests_per_minute",
        "tokens_per_minute",
        "max_usd",
        "max_tokens",
        "schedule",
        "fresh_within_hours",
        mode="before",
    )
    @classmethod
    def _none_for_absent(cls, value: object) -> object:
        return None if value == "none" else value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - load_settings() does it
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - not offered
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Command line, environment, TOML file."""
        toml = TomlConfigSettingsSource(settings_cls, toml_file=config_file())
        return init_settings, WholeSettings(env_settings), WholeSettings(toml, renamed_settings)

    @property
    def chat_models(self) -> set[str]:
        """Every chat model that some stage may ask."""
        of_stages = {name for names in self.stage_models.values() for name in names}
        return {self.model, *self.fallback_models} | of_stages

    @property
    def needs_vectors(self) -> bool:
        """Whether personas are compared, or chosen for a selection, by their meaning."""
        is_spread = (rules.is_spread for rules in self.selections.values())
        return self.cosine_threshold is not None or any(is_spread)

    def models_for(self, stage: str) -> list[str]:
        """The model of a stage and its fallbacks, in the order in which they are asked."""
        return self.stage_models.get(stage) or [self.model, *self.fallback_models]

    def caps(self) -> tuple[Cap, dict[str, Cap]]:
        """What a run may spend, and what each stage of it may."""
        stages = {
            stage: Cap(self.stage_max_tokens.get(stage), self.stage_max_usd.get(stage))
            for stage in (*self.stage_max_tokens, *self.stage_max_usd)
        }
        return Cap(self.max_tokens, self.max_usd), stages

    @property
    def caps_usd(self) -> bool:
        """Whether a cap in USD is set, so that prices must be known."""
        return self.max_usd is not None or bool(self.stage_max_usd)

    def drawn_selections(self) -> dict[str, list[str]]:
        """The selections that chosen domains draw from, and which domains do."""
        drawn: dict[str, list[str]] = {}
        for domain, selection in sorted(self.persona_sources.items()):
            if not self.domains or domain in self.domains:
                drawn.setdefault(selection, []).append(domain)
        return drawn

    def load_domains(self) -> dict[str, "Domain"]:
        """The chosen domains, with their options narrowed; settings may name no others."""
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
        return {
            name: domain.narrowed(self.domain_options.get(name, {}))
            for name, domain in known.items()
            if not self.domains or name in self.domains
        }


def config_file() -> Path:
    """The TOML file that settings are read from, whether it is there or not."""
    return Path(os.environ.get(CONFIG_VARIABLE, DEFAULT_CONFIG))


def load_settings(**arguments: Any) -> Settings:  # noqa: ANN401 - any setting
    """The settings, with what is `arguments` first; reads `.env` into the environment.

    Raises:
        SettingsError: names the setting, what is wrong with it, and the choices.
    """
    dotenv.load_dotenv(Path(".env"), override=False)
    _rename_variables()
    _refuse_unknown_variables()
    if CONFIG_VARIABLE in os.environ and not config_file().is_file():
        msg = f"{CONFIG_VARIABLE} names {config_file()}, which is not there"
        raise SettingsError(msg)
    try:
        return Settings(**renamed_settings(arguments, "an argument"))
    except ValidationError as error:
        raise SettingsError(_explain(error)) from None
    except tomllib.TOMLDecodeError as error:
        msg = f"{config_file()}: {error}"
        raise SettingsError(msg) from error
    except UnreadableSetting as error:
        example = f"""{PREFIX}PERSONA_SOURCES='{{"math": "diverse"}}'"""
        msg = f"{error}: {error.__cause__}; it is JSON, such as {example}"
        raise SettingsError(msg) from error


def renamed_settings(values: Mapping[str, Any], place: str) -> dict[str, Any]:
    """The values with old names of settings replaced; says so, once for each.

    Raises:
        SettingsError: a setting is given by its old and by its new name.
    """
    renamed = dict(values)
    for old, new in RENAMED.items():
        if old in renamed:
            if new in renamed:
                msg = f"{place} gives setting {new!r} twice: {old!r} is its old name"
                raise SettingsError(msg)
            renamed[new] = renamed.pop(old)
            tell_renamed(f"setting {old!r}", f"{new!r}")
    return renamed


def _rename_variables() -> None:
    """As above, in the environment, which child processes read too."""
    for old, new in RENAMED.items():
        before, now = f"{PREFIX}{old.upper()}", f"{PREFIX}{new.upper()}"
        if before in os.environ:
            value = os.environ.pop(before)
            if os.environ.setdefault(now, value) != value:
                msg = f"{before} and {now} differ: the first is the old name of the second"
                raise SettingsError(msg)
            tell_renamed(before, now)


def _refuse_unknown_variables() -> None:
    known = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields} | ELSEWHERE
    for variable in os.environ:
        if variable.startswith(PREFIX) and variable not in known:
            raise SettingsError(unknown_choice("setting", variable, known))


def _explain(error: ValidationError) -> str:
    problems = []
    for item in error.errors(include_url=False, include_input=True):
        name = ".".join(map(str, item["loc"]))
        if item["type"] == "extra_forbidden" and len(item["loc"]) > 1:
            *path, key = map(str, item["loc"])
            fields = NESTED[path[0]].model_fields
            problems.append(unknown_choice(f"key of setting {'.'.join(path)!r}:", key, fields))
        elif item["type"] == "extra_forbidden":
            problems.append(unknown_choice("setting", name, Settings.model_fields))
        else:
            shown = "" if name in {"api_key", "api_base", "watch"} else f" (got {item['input']!r})"
            problems.append(f"setting {name!r}: {item['msg']}{shown}")
    return "; ".join(problems)


class WholeSettings(PydanticBaseSettingsSource):
    """A source without the settings that one before it has.

    Pydantic would merge those with names inside, key by key: what the file maps could then not be
    switched off by a variable.
    """

    def __init__(
        self,
        source: PydanticBaseSettingsSource,
        rename: Callable[[Mapping[str, Any], str], dict[str, Any]] | None = None,
    ) -> None:
        """`source`: what is read; `rename`: replaces old names."""
        super().__init__(source.settings_cls)
        self._source, self._rename = source, rename

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """As in the source."""
        return self._source.get_field_value(field, field_name)

    def __call__(self) -> dict[str, Any]:
        """The settings that it gives, by name."""
        read = self._source()
        if self._rename:
            read = self._rename(read, str(config_file()))
        return {name: value for name, value in read.items() if name not in self.current_state}
