"""Personas and a domain to synthetic records (report, section 3)."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl
from pydantic import JsonValue

from persona_pipeline.dictionary import ROW, Descriptions, record_descriptions
from persona_pipeline.domains.spec import Domain, Prompting
from persona_pipeline.errors import StoreError
from persona_pipeline.hashing import canonical_json, stable_id
from persona_pipeline.llm.buying.terms import AnswerSource
from persona_pipeline.llm.calls import Answer
from persona_pipeline.llm.requests import ChatRequest
from persona_pipeline.quality import text_flags
from persona_pipeline.reasons import RecordReason
from persona_pipeline.settings import Settings
from persona_pipeline.sql_files import read_sql
from persona_pipeline.stage_names import domain_stage
from persona_pipeline.stages import FunnelCounts, StageRows, answer_of, failure_reason, frame
from persona_pipeline.store import Store

NGRAM, TIMES = 5, 4
"""Five words in a row, four times: a model that runs in circles (lists repeat three-word runs)."""

COMMON = {
    "record_id": pl.String,
    "persona_id": pl.String,
    "variant": pl.String,
    "prompting": pl.String,
    "text": pl.String,
    "call_key": pl.String,
}
REJECTED = {
    "domain": pl.String,
    "persona_id": pl.String,
    "variant": pl.String,
    "prompting": pl.String,
    "reason": pl.String,
    "detail": pl.String,
    "answer": pl.String,
    "call_key": pl.String,
}
_TYPES: dict[str, tuple[type[pl.DataType], str]] = {
    "string": (pl.String, "varchar"),
    "integer": (pl.Int64, "bigint"),
    "number": (pl.Float64, "double"),
    "boolean": (pl.Boolean, "boolean"),
}


@dataclass(frozen=True, slots=True)
class SynthesisPlan:
    """What is asked of the model for each domain."""

    model: str
    prompting: Prompting = Prompting.PERSONA_FEW_SHOT
    records_per_shard: int | None = None
    selection: str | None = None
    """The diverse subset whose personas are asked; None: the whole hub."""


@dataclass(frozen=True, slots=True)
class _Task:
    """One persona in one domain, and the request that asks for its record."""

    persona_id: str
    variant: str
    request: ChatRequest


def synthesis_plan(settings: Settings, domain: Domain) -> SynthesisPlan:
    """What the settings ask of a domain."""
    return SynthesisPlan(
        model=settings.models_for(table_name(domain))[0],
        prompting=settings.prompting,
        records_per_shard=settings.records_per_shard,
        selection=settings.persona_sources.get(domain.name),
    )


def table_name(domain: Domain) -> str:
    """The table of the domain's records, which is the name of its stage, too."""
    return domain_stage(domain.name)


def table_columns(domain: Domain) -> dict[str, str]:
    """DuckDB types of the domain's table; fields that are neither text nor number are JSON text."""
    fields = {name: _column_type(schema)[1] for name, schema in domain.file.fields.items()}
    first = dict.fromkeys(("shard", "record_id", "persona_id", "variant", "prompting"), "varchar")
    last = {"text": "varchar", "call_key": "varchar", "run_id": "varchar"}
    return {**first, **fields, **last, "created_at": "timestamp"}


def add_domain_table(store: Store, domain: Domain) -> None:
    """The domain's table, as its file says."""
    store.add_table(table_name(domain), table_columns(domain), table_descriptions(domain))


def table_descriptions(domain: Domain) -> Descriptions:
    """What a row of the domain's table is, and what its columns hold."""
    fields = {name: _describe_field(domain, name) for name in domain.file.fields}
    return {ROW: domain.file.description, **record_descriptions(), **fields}


def _describe_field(domain: Domain, name: str) -> str:
    schema = domain.file.fields[name]
    if described := domain.file.columns.get(name) or schema.get("description"):
        return str(described)
    return f"A field of the model's answer, of the schema {canonical_json(schema)}."


def synthesize(
    domain: Domain, personas: pl.DataFrame, plan: SynthesisPlan, buyer: AnswerSource, shard: str
) -> StageRows:
    """One record per chosen persona (persona_id, persona), or the reason why not."""
    stage = table_name(domain)
    tasks = list(_tasks(domain, _choose(domain, personas, plan), plan))
    calls = buyer.answers((task.request for task in tasks), shard=shard, stage=stage)
    kept, rejected = _split(domain, tasks, calls, plan)
    return StageRows(
        shard=shard,
        stage=stage,
        tables={table_name(domain): kept, "synthetic.rejected": rejected},
        scope={"synthetic.rejected": ("domain", domain.name)},
        funnel=FunnelCounts(len(personas), len(tasks), plan.selection),
    )


def read_personas(store: Store, plan: SynthesisPlan, shard: str) -> pl.DataFrame:
    """persona_id and persona of those that a domain may ask: of the hub, or of its selection.

    Raises:
        StoreError: the selection has nobody, and the hub has somebody; says how to make it.
    """
    if plan.selection is None:
        return store.query(read_sql("personas/hub_of_shard"), {"shard": shard})
    _check_made(store, plan.selection)
    parameters = {"shard": shard, "name": plan.selection}
    return store.query(read_sql("personas/selected_of_shard"), parameters)


def unmade_selections(store: Store, settings: Settings) -> list[str]:
    """The selections that the chosen domains are to draw from, and that have nobody."""
    return sorted(name for name in settings.drawn_selections() if not selected_count(store, name))


def _check_made(store: Store, selection: str) -> None:
    has_hub = not store.query("from personas.hub limit 1").is_empty()
    if has_hub and not selected_count(store, selection):
        msg = (
            f"selection {selection!r}, named in persona_sources, was never made, or the hub "
            f"has none of its personas any more: 'persona-pipeline select {selection}' makes it, "
            "or personas/selections in Dagster, from the hub as it is; 'persona-pipeline run' does "
            "so by itself when all its shards are in the hub"
        )
        raise StoreError(msg)


def selected_count(store: Store, selection: str) -> int:
    """How many personas of the selection are in the hub."""
    return int(store.query(read_sql("personas/selected_count"), {"name": selection}).item())


def build_request(
    domain: Domain, persona: str, options: Mapping[str, str], plan: SynthesisPlan
) -> ChatRequest:
    """The request for one record."""
    return ChatRequest(
        model=plan.model,
        messages=domain.messages(persona, options, plan.prompting),
        schema=domain.prompt.schema,
        sampling=domain.prompt.sampling,
        stage=table_name(domain),
        prompt_name=domain.name,
        prompt_version=domain.prompt.version,
    )


def _choose(domain: Domain, personas: pl.DataFrame, plan: SynthesisPlan) -> pl.DataFrame:
    """The same personas on every machine: those with the lowest hash for this domain."""
    draw = pl.Series(
        "draw", [stable_id("draw", domain.name, key) for key in personas["persona_id"]], pl.String
    )
    ordered = personas.with_columns(draw).sort("draw")
    chosen = ordered if plan.records_per_shard is None else ordered.head(plan.records_per_shard)
    return chosen.sort("persona_id")


def _tasks(domain: Domain, personas: pl.DataFrame, plan: SynthesisPlan) -> Iterator[_Task]:
    for persona_id, persona in personas.select("persona_id", "persona").iter_rows():
        options = domain.draw_options(persona_id)
        variant = ", ".join(f"{name}={value}" for name, value in options.items())
        yield _Task(persona_id, variant, build_request(domain, persona, options, plan))


def _split(
    domain: Domain, tasks: list[_Task], calls: Mapping[str, Answer], plan: SynthesisPlan
) -> tuple[pl.DataFrame, pl.DataFrame]:
    kept: list[dict[str, Any]] = []
    rejected: list[dict[str, Any]] = []
    flags = _flags(domain, tasks, calls)
    for task in tasks:
        call = calls[task.request.call_key]
        answer = answer_of(call, task.request.schema)
        problem = failure_reason(call) if answer is None else _problem(domain, answer, flags, call)
        common = {
            "persona_id": task.persona_id,
            "variant": task.variant,
            "prompting": str(plan.prompting),
            "call_key": call.call_key,
        }
        if answer is None or problem:
            rejected.append(common | _rejection(domain, problem, call))
        else:
            kept.append(common | _record(domain, answer, task))
    fields = {name: _column_type(schema)[0] for name, schema in domain.file.fields.items()}
    return frame(kept, {**COMMON, **fields}), frame(rejected, REJECTED)


def _record(domain: Domain, answer: dict[str, JsonValue], task: _Task) -> dict[str, Any]:
    fields = {name: _as_column(answer[name], schema) for name, schema in domain.file.fields.items()}
    identity = stable_id(task.request.call_key, 0, task.persona_id)
    return {**fields, "record_id": identity, "text": domain.render_text(answer)}


def _rejection(domain: Domain, problem: tuple[str, str] | None, call: Answer) -> dict[str, Any]:
    reason, detail = problem or ("", "")
    return {"domain": domain.name, "reason": reason, "detail": detail, "answer": call.response}


def _flags(
    domain: Domain, tasks: list[_Task], calls: Mapping[str, Answer]
) -> dict[str, dict[str, str]]:
    texts = {}
    for task in tasks:
        call = calls[task.request.call_key]
        answer = answer_of(call, task.request.schema)
        if answer is not None:
            texts[call.call_key] = domain.render_text(answer)
    rows = pl.DataFrame(
        {"id": list(texts), "text": list(texts.values())},
        schema={"id": pl.String, "text": pl.String},
    )
    examples = [domain.render_text(example.answer) for example in domain.file.examples]
    flagged = text_flags(rows, examples, ngram=NGRAM, times=TIMES)
    return {row["id"]: row for row in flagged.iter_rows(named=True)}


def _problem(
    domain: Domain,
    answer: Mapping[str, JsonValue],
    flags: Mapping[str, Mapping[str, str]],
    call: Answer,
) -> tuple[str, str] | None:
    found = flags[call.call_key]
    for reason in (
        RecordReason.LEAKED_INSTRUCTION,
        RecordReason.REPEATED_NGRAM,
        RecordReason.COPIED_EXAMPLE,
    ):
        if found[reason]:
            return reason, found[reason]
    problem = domain.check(answer) if domain.check else None
    return (RecordReason.FAILED_CHECK, problem) if problem else None


def _column_type(schema: Mapping[str, JsonValue]) -> tuple[Any, str]:
    kind = schema.get("type")
    items = schema.get("items")
    if kind == "array" and isinstance(items, dict) and items.get("type") == "string":
        return pl.List(pl.String), "varchar[]"
    return _TYPES.get(str(kind), (pl.String, "varchar"))


def _as_column(value: JsonValue, schema: Mapping[str, JsonValue]) -> JsonValue:
    is_plain = _column_type(schema)[1] != "varchar" or isinstance(value, str)
    return value if is_plain else json.dumps(value, ensure_ascii=False)


def answer_of_record(domain: Domain, row: Mapping[str, Any]) -> dict[str, JsonValue]:
    """The fields of a row of the domain's table, as the model gave them."""
    return {name: _from_column(row[name], schema) for name, schema in domain.file.fields.items()}


def _from_column(value: Any, schema: Mapping[str, JsonValue]) -> JsonValue:  # noqa: ANN401 - any column
    is_json = _column_type(schema)[1] == "varchar" and schema.get("type") in {"array", "object"}
    parsed: JsonValue = json.loads(value) if is_json else value
    return parsed
