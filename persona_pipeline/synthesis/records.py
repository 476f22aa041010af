"""Ask for one synthetic record per persona in a domain.

The method is from section 3 of the Persona Hub report (arXiv 2406.20094).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import polars as pl
from pydantic import JsonValue

from persona_pipeline.control_characters import clean_text
from persona_pipeline.hashing import stable_id, stable_ids
from persona_pipeline.hub.selection import require_made
from persona_pipeline.llm.answers import answer_of, failure_reason
from persona_pipeline.llm.calls import Answer
from persona_pipeline.llm.gateway.context import AnswerSource
from persona_pipeline.llm.request_options import AS_THE_PROMPTS_SAY, RequestOptions
from persona_pipeline.llm.requests import ChatRequest
from persona_pipeline.personas.quality import text_flags
from persona_pipeline.reasons import RecordReason
from persona_pipeline.sql import read_sql
from persona_pipeline.store.stage_rows import FunnelCounts, StageRows, frame
from persona_pipeline.store.store import Store
from persona_pipeline.synthesis.domain import Domain
from persona_pipeline.synthesis.prompting import Prompting
from persona_pipeline.synthesis.tables import as_column, column_type, table_name

NGRAM, TIMES = 5, 4
"""Five words in a row, four times: the model repeats itself. Lists repeat three-word runs."""

COMMON = {
    "record_id": pl.String,
    "persona_id": pl.String,
    "variant": pl.String,
    "prompting": pl.String,
    "text": pl.String,
    "call_key": pl.String,
}
"""Columns that the table of every domain has before its fields."""
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
"""Columns of `synthetic.rejected`."""


@dataclass(frozen=True, slots=True)
class SynthesisPlan:
    """What is asked of the model for each domain."""

    model: str
    prompting: Prompting = Prompting.PERSONA_FEW_SHOT
    records_per_shard: int | None = None
    """Records that are asked for per shard and domain; None: one for each persona."""
    selection: str | None = None
    """The diverse subset of the hub whose personas are used; None: the whole hub."""
    options: RequestOptions = AS_THE_PROMPTS_SAY
    """What is asked in another way than the prompt says."""


@dataclass(frozen=True, slots=True)
class _Task:
    """The request for the record of one persona in one domain."""

    persona_id: str
    variant: str
    request: ChatRequest


def synthesize(
    domain: Domain,
    personas: pl.DataFrame,
    plan: SynthesisPlan,
    gateway: AnswerSource,
    shard: str = "notebook",
) -> StageRows:
    """Ask for one record of a domain per persona (arXiv 2406.20094, section 3).

    Args:
        domain: one of `load_domains()`, or of `Project.domains`.
        personas: one row per persona. Columns persona_id (String, unique) and persona (String).
        plan: model, prompting, and how many personas get a record; `Project.synthesis_plan(domain)`
            makes it of the settings.
        gateway: what answers the requests; `Project.open_gateway()` opens it.
        shard: the name of this batch of personas.

    Returns:
        `kept` has one row per record: record_id, persona_id, variant, prompting, text and call_key
        (String), and the domain's fields. `rejected` has one row per answer that was turned away,
        with the reason, one of `persona_pipeline.reasons.RecordReason`, and the raw answer.

    Raises:
        ModelError: the model cannot be used at all.
        BudgetExceeded: the caps do not cover the next call. What was bought is kept.
    """
    stage = table_name(domain)
    tasks = list(_tasks(domain, _choose(domain, personas, plan), plan))
    calls = gateway.answers((task.request for task in tasks), shard=shard, stage=stage)
    kept, rejected = _split(domain, tasks, calls, plan)
    return StageRows(
        shard=shard,
        stage=stage,
        tables={table_name(domain): kept, "synthetic.rejected": rejected},
        scope={"synthetic.rejected": ("domain", domain.name)},
        funnel=FunnelCounts(len(personas), len(tasks), plan.selection),
    )


HUB_OF_SHARD_SQL: Final = """
-- One row per kept persona of a shard.
-- reads: personas.hub   params: $shard
select persona_id, persona
from personas.hub
where shard = $shard
order by persona_id
"""


def read_personas(store: Store, plan: SynthesisPlan, shard: str) -> pl.DataFrame:
    """Read the personas (persona_id, persona) of a shard that records are asked for.

    They come from the hub, or from the plan's selection of it.

    Raises:
        StoreError: the hub has personas and the selection has none; says how to make it.
    """
    if plan.selection is None:
        return store.query(HUB_OF_SHARD_SQL, {"shard": shard})
    require_made(store, plan.selection)
    parameters = {"shard": shard, "name": plan.selection}
    return store.query(read_sql("personas/selected_of_shard"), parameters)


def build_request(
    domain: Domain, persona: str, options: Mapping[str, str], plan: SynthesisPlan
) -> ChatRequest:
    """Build the request for one record of a domain."""
    request = ChatRequest(
        model=plan.model,
        messages=domain.messages(persona, options, plan.prompting),
        schema=domain.prompt.schema,
        sampling=domain.prompt.sampling,
        stage=table_name(domain),
        prompt_name=domain.name,
        prompt_version=domain.prompt.version,
    )
    return plan.options.apply(request)


def _choose(domain: Domain, personas: pl.DataFrame, plan: SynthesisPlan) -> pl.DataFrame:
    """Choose the personas with the lowest hash for this domain: the same ones on every machine."""
    draw = pl.Series("draw", stable_ids(["draw", domain.name], personas["persona_id"]), pl.String)
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
    """Split the answers into rows of the domain's table and rows of `synthetic.rejected`."""
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
    fields = {name: column_type(schema)[0] for name, schema in domain.file.fields.items()}
    return frame(kept, {**COMMON, **fields}), frame(rejected, REJECTED)


def _record(domain: Domain, answer: dict[str, JsonValue], task: _Task) -> dict[str, Any]:
    fields = {name: as_column(answer[name], schema) for name, schema in domain.file.fields.items()}
    identity = stable_id(task.request.call_key, 0, task.persona_id)
    return {**fields, "record_id": identity, "text": domain.render_text(answer)}


def _rejection(domain: Domain, problem: tuple[str, str] | None, call: Answer) -> dict[str, Any]:
    reason, detail = problem or ("", "")
    answer = call.response and clean_text(call.response)
    return {"domain": domain.name, "reason": reason, "detail": detail, "answer": answer}


def _flags(
    domain: Domain, tasks: list[_Task], calls: Mapping[str, Answer]
) -> dict[str, dict[str, str]]:
    """Return the flags of each usable answer's text, by call key."""
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
    """Return the reason and the detail of a usable answer that is rejected; None: it is kept."""
    flagged = flags[call.call_key]
    for reason in (
        RecordReason.LEAKED_INSTRUCTION,
        RecordReason.REPEATED_NGRAM,
        RecordReason.COPIED_EXAMPLE,
    ):
        if flagged[reason]:
            return reason, flagged[reason]
    problem = domain.check(answer) if domain.check else None
    return (RecordReason.FAILED_CHECK, problem) if problem else None
