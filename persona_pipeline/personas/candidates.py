"""Candidates: the personas of both origins that pass the quality rules."""

from functools import cache

import polars as pl

from persona_pipeline.personas.plan import PersonaPlan, stage_prompt
from persona_pipeline.personas.rules import judge_personas
from persona_pipeline.personas.text_to_persona import REJECTED
from persona_pipeline.stage_names import QUALITY_RULES
from persona_pipeline.stages import FunnelCounts, StageRows

STAGE = QUALITY_RULES
LONGEST = 1e6
"""More than any persona's words."""


def apply_quality_rules(
    extracted: pl.DataFrame, related: pl.DataFrame, plan: PersonaPlan, shard: str
) -> StageRows:
    """Split all personas (persona_id, persona, call_key) into candidates and rejected ones."""
    columns = ["persona_id", "persona", "call_key"]
    everyone = pl.concat(
        [
            extracted.select(columns).with_columns(origin=pl.lit("text_to_persona")),
            related.select(columns).with_columns(origin=pl.lit("persona_to_persona")),
        ]
    )
    judged = judge_personas(everyone, prompt_examples(), language=plan.language)
    known = judged.join(everyone.drop("persona"), on="persona_id", how="left")
    good = known.filter(pl.col("reason").is_null())
    bad = known.filter(pl.col("reason").is_not_null()).with_columns(stage=pl.lit(STAGE))
    return StageRows(
        shard=shard,
        stage=STAGE,
        tables={
            "personas.candidates": good.select("persona_id", "origin", "persona", "word_count"),
            "personas.rejected": bad.select(*REJECTED),
        },
        scope={"personas.rejected": ("stage", STAGE)},
        funnel=FunnelCounts(len(everyone), len(everyone)),
    )


def quality(candidates: pl.DataFrame) -> pl.Series:
    """Which of two that say the same is kept: higher is.

    Who was found in a page itself comes before whom a model made of them; then the more detailed.
    """
    is_extracted = (candidates["origin"] == "text_to_persona").cast(pl.Float64)
    return (is_extracted * LONGEST + candidates["word_count"]).alias("quality")


@cache
def prompt_examples() -> list[str]:
    """The personas that our own prompts show: one that repeats them is a copy, not an answer."""
    texts = [example.answer["persona"] for example in stage_prompt("text_to_persona").spec.examples]
    for example in stage_prompt("persona_to_persona").spec.examples:
        related = example.answer["related"]
        if isinstance(related, list):
            texts += [item["persona"] for item in related if isinstance(item, dict)]
    return [str(text) for text in texts]
