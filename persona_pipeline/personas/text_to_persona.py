"""Text-to-Persona: ask who is likely to read, write, like or dislike a text.

The method is from section 2.1 of the Persona Hub report (arXiv 2406.20094).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from persona_pipeline.control_characters import clean_text
from persona_pipeline.hashing import stable_id
from persona_pipeline.llm.answers import answer_of, failure_reason
from persona_pipeline.llm.calls import Answer
from persona_pipeline.llm.gateway.context import AnswerSource
from persona_pipeline.llm.prompts import fence
from persona_pipeline.llm.requests import ChatRequest
from persona_pipeline.personas.plan import PersonaPlan, stage_prompt
from persona_pipeline.stage_names import TEXT_TO_PERSONA
from persona_pipeline.store.stage_rows import FunnelCounts, StageRows, frame

EXTRACTED = {
    "persona_id": pl.String,
    "document_id": pl.String,
    "verb": pl.String,
    "granularity": pl.String,
    "persona": pl.String,
    "call_key": pl.String,
}
"""Columns of `personas.extracted`."""
REJECTED = {
    "stage": pl.String,
    "persona_id": pl.String,
    "persona": pl.String,
    "reason": pl.String,
    "detail": pl.String,
    "call_key": pl.String,
}
"""Columns of `personas.rejected`, which all persona stages write to."""


@dataclass(frozen=True, slots=True)
class _Question:
    """The request about one document and verb."""

    persona_id: str
    document_id: str
    verb: str
    request: ChatRequest


def text_to_persona(
    documents: pl.DataFrame, plan: PersonaPlan, gateway: AnswerSource, shard: str = "notebook"
) -> StageRows:
    """Ask who is likely to read, write, like or dislike each document.

    This is Text-to-Persona (arXiv 2406.20094, section 2.1). One call is made per document and verb,
    and none for what was asked before.

    Args:
        documents: one row per document. Columns document_id (String, unique), title (String, may be
            null) and text (String).
        plan: model, verbs, granularity and the characters of a text that are shown;
            `Project.persona_plan("text_to_persona")` makes it of the settings.
        gateway: what answers the requests; `Project.open_gateway()` opens it.
        shard: the name of this batch of documents.

    Returns:
        `kept` has one row per persona: persona_id, document_id, verb, granularity, persona and
        call_key, all String. `rejected` has one row per call without a usable answer: persona_id,
        reason, detail, persona and call_key. Both add up to documents times verbs.

    Raises:
        ModelError: the model cannot be used at all.
        BudgetExceeded: the caps do not cover the next call. What was bought is kept.
    """
    questions = list(_questions(documents, plan))
    calls = gateway.answers(
        (item.request for item in questions), shard=shard, stage=TEXT_TO_PERSONA
    )
    kept, rejected = [], []
    for question in questions:
        call = calls[question.request.call_key]
        answer = answer_of(call, question.request.schema)
        if answer is None:
            rejected.append(rejected_call(TEXT_TO_PERSONA, question.persona_id, call))
        else:
            kept.append(_row(question, plan, str(answer["persona"]), call.call_key))
    return StageRows(
        shard=shard,
        stage=TEXT_TO_PERSONA,
        tables={
            "personas.extracted": frame(kept, EXTRACTED),
            "personas.rejected": frame(rejected, REJECTED),
        },
        scope={"personas.rejected": ("stage", TEXT_TO_PERSONA)},
        funnel=FunnelCounts(len(documents), len(questions)),
    )


def rejected_call(stage: str, persona_id: str, call: Answer) -> dict[str, Any]:
    """Build the row of `personas.rejected` for a call that gave no usable answer."""
    reason, detail = failure_reason(call)
    return {
        "stage": stage,
        "persona_id": persona_id,
        "persona": call.response and clean_text(call.response),
        "reason": reason,
        "detail": detail,
        "call_key": call.call_key,
    }


def _questions(documents: pl.DataFrame, plan: PersonaPlan) -> Iterator[_Question]:
    for document in documents.iter_rows(named=True):
        for verb in plan.verbs:
            request = _request(document, verb, plan)
            document_id = document["document_id"]
            persona_id = stable_id(request.call_key, 0, document_id)
            yield _Question(persona_id, document_id, verb, request)


def _request(document: Mapping[str, Any], verb: str, plan: PersonaPlan) -> ChatRequest:
    prompt = stage_prompt(TEXT_TO_PERSONA)
    text = document["text"][: plan.document_chars]
    arguments = {
        "document": text,
        "fence": fence(text, document["title"] or ""),
        "title": document["title"],
        "verb": verb,
        "granularity": plan.granularity,
    }
    request = ChatRequest(
        model=plan.model,
        messages=prompt.messages(arguments, prompt.spec.examples),
        schema=prompt.schema,
        sampling=prompt.sampling,
        stage=TEXT_TO_PERSONA,
        prompt_name=prompt.name,
        prompt_version=prompt.version,
    )
    return plan.options.apply(request)


def _row(question: _Question, plan: PersonaPlan, persona: str, call_key: str) -> dict[str, Any]:
    return {
        "persona_id": question.persona_id,
        "document_id": question.document_id,
        "verb": question.verb,
        "granularity": plan.granularity,
        "persona": persona.strip(),
        "call_key": call_key,
    }
