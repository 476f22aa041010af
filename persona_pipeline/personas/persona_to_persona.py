"""Persona-to-Persona: who stands in a close relationship to this person? (report, section 2.2)."""

from dataclasses import dataclass, field
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
FRONTIER = {"persona_id": pl.String, "root_id": pl.String, "persona": pl.String}


@dataclass(slots=True)
class _Expansion:
    """The hops of one shard: how they ask, and the rows found so far."""

    plan: PersonaPlan
    gateway: AnswerSource
    shard: str
    kept: list[dict[str, Any]] = field(default_factory=list)
    rejected: list[dict[str, Any]] = field(default_factory=list)
    rows_in: int = 0


def persona_to_persona(
    extracted: pl.DataFrame, plan: PersonaPlan, gateway: AnswerSource, shard: str
) -> StageRows:
    """Related personas of those in `extracted` (persona_id, persona), hop by hop.

    Each hop expands only what the hop before added, without what breaks a quality rule and without
    near-duplicates of anything seen before.
    """
    matches = _Expansion(plan, gateway, shard)
    seen = pl.DataFrame(schema=FRONTIER)
    added = extracted.with_columns(root_id="persona_id").select(*FRONTIER)
    for hop in range(1, plan.hops + 1):
        frontier = _without_repeats(_without_bad(added, plan), seen)
        added = _expand(frontier, hop, matches)
        seen = pl.concat([seen, frontier])
    return StageRows(
        shard=shard,
        stage=PERSONA_TO_PERSONA,
        tables={
            "personas.related": frame(matches.kept, RELATED),
            "personas.rejected": frame(matches.rejected, REJECTED),
        },
        scope={"personas.rejected": ("stage", PERSONA_TO_PERSONA)},
        funnel=FunnelCounts(len(extracted), matches.rows_in),
    )


def _expand(frontier: pl.DataFrame, hop: int, matches: _Expansion) -> pl.DataFrame:
    plan = matches.plan
    parents = list(frontier.iter_rows(named=True))
    requests = [related_request(parent["persona"], plan) for parent in parents]
    calls = matches.gateway.answers(
        requests, shard=matches.shard, stage=f"{PERSONA_TO_PERSONA}, hop {hop}"
    )
    matches.rows_in += len(parents) * plan.fan_out
    new = []
    for parent, request in zip(parents, requests, strict=True):
        call = calls[request.call_key]
        answer = answer_of(call, request.schema)
        for ordinal in range(plan.fan_out):
            persona_id = stable_id(request.call_key, ordinal, parent["persona_id"])
            if answer is None:
                matches.rejected.append(rejected_call(PERSONA_TO_PERSONA, persona_id, call))
            else:
                item = _item(answer, ordinal)
                new.append(_row(parent, hop, persona_id, item, call.call_key))
    matches.kept.extend(new)
    return frame(new, RELATED).select(*FRONTIER)


def related_request(persona: str, plan: PersonaPlan) -> ChatRequest:
    """Ask for `fan_out` people around this one."""
    prompt = stage_prompt(PERSONA_TO_PERSONA)
    count = plan.fan_out
    examples = [_cut(example, count) for example in prompt.spec.examples]
    return ChatRequest(
        model=plan.model,
        messages=prompt.messages({"persona": persona, "count": count}, examples),
        schema=_schema(prompt.spec.fields["related"], count),
        sampling=with_tokens_for(prompt.sampling, count),
        stage=PERSONA_TO_PERSONA,
        prompt_name=prompt.name,
        prompt_version=prompt.version,
    )


def _schema(related: dict[str, JsonValue], count: int) -> dict[str, JsonValue]:
    return object_schema({"related": {**related, "minItems": count, "maxItems": count}})


def _cut(example: Example, count: int) -> Example:
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
