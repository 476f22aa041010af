"""Persona-to-Persona: ask who stands in a close relationship to a person.

The method is from section 2.2 of the Persona Hub report (arXiv 2406.20094).
"""

from dataclasses import dataclass, field
from functools import cache
from typing import Any

import polars as pl
from pydantic import JsonValue

from persona_pipeline.dedup.duplicates import find_duplicates
from persona_pipeline.dedup.rules import Thresholds
from persona_pipeline.hashing import stable_id
from persona_pipeline.llm.answers import answer_of
from persona_pipeline.llm.gateway.context import AnswerSource
from persona_pipeline.llm.prompts import Example, object_schema
from persona_pipeline.llm.requests import ChatRequest
from persona_pipeline.personas.plan import PersonaPlan, stage_prompt, with_tokens_for
from persona_pipeline.personas.quality import judge_personas, prompt_examples
from persona_pipeline.personas.text_to_persona import REJECTED, rejected_call
from persona_pipeline.stage_names import PERSONA_TO_PERSONA
from persona_pipeline.store.stage_rows import FunnelCounts, StageRows, frame

RELATED = {
    "persona_id": pl.String,
    "parent_id": pl.String,
    "root_id": pl.String,
    "hop": pl.Int32,
    "relationship": pl.String,
    "persona": pl.String,
    "call_key": pl.String,
}
"""Columns of `personas.related`."""
FRONTIER = {"persona_id": pl.String, "root_id": pl.String, "persona": pl.String}
"""Columns of the personas that a hop starts at."""


@dataclass(slots=True)
class _Expansion:
    """The hops of one shard: how they ask, and the rows so far."""

    plan: PersonaPlan
    gateway: AnswerSource
    shard: str
    kept: list[dict[str, Any]] = field(default_factory=list)
    rejected: list[dict[str, Any]] = field(default_factory=list)
    rows_in: int = 0


def persona_to_persona(
    extracted: pl.DataFrame, plan: PersonaPlan, gateway: AnswerSource, shard: str = "notebook"
) -> StageRows:
    """Ask who is in close relationship with each persona, hop by hop.

    This is Persona-to-Persona (arXiv 2406.20094, section 2.2), which stops after six hops. A hop
    starts at the personas that the last hop added. Personas that break a quality rule or nearly
    duplicate an earlier one stay in the result, but no hop starts at them.

    Args:
        extracted: one row per persona. Columns persona_id (String, unique) and persona (String).
        plan: model, hops and fan-out; `Project.persona_plan("persona_to_persona")` makes it of the
            settings.
        gateway: what answers the requests; `Project.open_gateway()` opens it.
        shard: the name of this batch of personas.

    Returns:
        `kept` has one row per related persona: persona_id, parent_id, root_id, relationship,
        persona and call_key (String), and hop (Int64, from 1). `rejected` has one row per persona
        whose call gave no usable answer.

    Raises:
        ModelError: the model cannot be used at all.
        BudgetExceeded: the caps do not cover the next call. What was bought is kept.
    """
    expansion = _Expansion(plan, gateway, shard)
    seen = pl.DataFrame(schema=FRONTIER)
    added = extracted.with_columns(root_id="persona_id").select(*FRONTIER)
    for hop in range(1, plan.hops + 1):
        frontier = _without_repeats(_without_bad(added, plan), seen)
        added = _expand(frontier, hop, expansion)
        seen = pl.concat([seen, frontier])
    return StageRows(
        shard=shard,
        stage=PERSONA_TO_PERSONA,
        tables={
            "personas.related": frame(expansion.kept, RELATED),
            "personas.rejected": frame(expansion.rejected, REJECTED),
        },
        scope={"personas.rejected": ("stage", PERSONA_TO_PERSONA)},
        funnel=FunnelCounts(len(extracted), expansion.rows_in),
    )


def related_request(persona: str, plan: PersonaPlan) -> ChatRequest:
    """Build the request for `plan.fan_out` people who are close to this one."""
    prompt = stage_prompt(PERSONA_TO_PERSONA)
    count = plan.fan_out
    request = ChatRequest(
        model=plan.model,
        messages=prompt.messages({"persona": persona, "count": count}, _examples(count)),
        schema=_schema(count),
        sampling=with_tokens_for(prompt.sampling, count),
        stage=PERSONA_TO_PERSONA,
        prompt_name=prompt.name,
        prompt_version=prompt.version,
    )
    return plan.options.apply(request)


def _expand(frontier: pl.DataFrame, hop: int, expansion: _Expansion) -> pl.DataFrame:
    """Ask about every persona of the frontier, and return the personas that this adds."""
    plan = expansion.plan
    parents = list(frontier.iter_rows(named=True))
    requests = [related_request(parent["persona"], plan) for parent in parents]
    calls = expansion.gateway.answers(
        requests, shard=expansion.shard, stage=f"{PERSONA_TO_PERSONA}, hop {hop}"
    )
    expansion.rows_in += len(parents) * plan.fan_out
    new = []
    for parent, request in zip(parents, requests, strict=True):
        call = calls[request.call_key]
        answer = answer_of(call, request.schema)
        for ordinal in range(plan.fan_out):
            persona_id = stable_id(request.call_key, ordinal, parent["persona_id"])
            if answer is None:
                expansion.rejected.append(rejected_call(PERSONA_TO_PERSONA, persona_id, call))
            else:
                item = _item(answer, ordinal)
                new.append(_row(parent, hop, persona_id, item, call.call_key))
    expansion.kept.extend(new)
    return frame(new, RELATED).select(*FRONTIER)


@cache
def _schema(count: int) -> dict[str, JsonValue]:
    """Return the schema of `count` related personas. All requests share it: see `schema_json`."""
    related = stage_prompt(PERSONA_TO_PERSONA).spec.fields["related"]
    return object_schema({"related": {**related, "minItems": count, "maxItems": count}})


@cache
def _examples(count: int) -> list[Example]:
    """Return the examples with `count` related personas each."""
    return [_cut(example, count) for example in stage_prompt(PERSONA_TO_PERSONA).spec.examples]


def _cut(example: Example, count: int) -> Example:
    """Shorten an example to `count` related personas."""
    related = example.answer["related"]
    shown = related[:count] if isinstance(related, list) else related
    return Example(given={**example.given, "count": count}, answer={"related": shown})


def _item(answer: dict[str, JsonValue], ordinal: int) -> dict[str, Any]:
    related = answer["related"]
    item = related[ordinal] if isinstance(related, list) else None
    return item if isinstance(item, dict) else {}


def _row(
    parent: dict[str, Any], hop: int, persona_id: str, item: dict[str, Any], call_key: str
) -> dict[str, Any]:
    return {
        "persona_id": persona_id,
        "parent_id": parent["persona_id"],
        "root_id": parent["root_id"],
        "hop": hop,
        "relationship": str(item["relationship"]).strip(),
        "persona": str(item["persona"]).strip(),
        "call_key": call_key,
    }


def _without_bad(personas: pl.DataFrame, plan: PersonaPlan) -> pl.DataFrame:
    judged = judge_personas(personas, prompt_examples(), language=plan.language)
    good = judged.filter(pl.col("reason").is_null()).select("persona_id")
    return personas.join(good, on="persona_id", how="semi", maintain_order="left")


def _without_repeats(personas: pl.DataFrame, seen: pl.DataFrame) -> pl.DataFrame:
    numbered = pl.concat([seen.with_columns(shard_number=0), personas.with_columns(shard_number=1)])
    repeats = find_duplicates(
        numbered, id="persona_id", text="persona", rank="shard_number", thresholds=Thresholds()
    )
    return personas.join(repeats.removed, on="persona_id", how="anti", maintain_order="left")
