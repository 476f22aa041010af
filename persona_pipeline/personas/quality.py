"""Candidates: the personas of both origins that pass the quality rules."""

from functools import cache

import duckdb
import numpy as np
import polars as pl
from rapidfuzz import fuzz, process

from persona_pipeline.personas.plan import PersonaPlan, stage_prompt
from persona_pipeline.personas.text_to_persona import REJECTED
from persona_pipeline.reasons import PersonaReason
from persona_pipeline.sql import read_sql
from persona_pipeline.stage_names import QUALITY_RULES
from persona_pipeline.store.stage_rows import FunnelCounts, StageRows

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


MIN_WORDS, MAX_WORDS = 6, 80
"""90 % of personas have 6 to 20 distinct words; two full sentences fit in 80."""
NGRAM, TIMES = 3, 3
"""Three words in a row, three times: a model that runs in circles."""

JUDGED = {
    "persona_id": pl.String,
    "persona": pl.String,
    "word_count": pl.Int64,
    "reason": pl.String,
    "detail": pl.String,
}


def judge_personas(
    personas: pl.DataFrame, examples: list[str], *, language: str | None
) -> pl.DataFrame:
    """One row per persona (persona_id, persona): its words, and the `reason` of a rejected one."""
    if personas.is_empty():
        return pl.DataFrame(schema=JUDGED)
    texts = personas.select(id="persona_id", text="persona")
    flags = text_flags(texts, examples, ngram=NGRAM, times=TIMES)
    judged = flags.with_columns(wrong_language=_wrong_language(flags["text"], language))
    words = pl.col("word_count")
    reason, detail = _first_problem(
        {
            PersonaReason.TOO_SHORT: (words < MIN_WORDS, pl.format("{} words", words)),
            PersonaReason.TOO_LONG: (words > MAX_WORDS, pl.format("{} words", words)),
            **{reason: _flag(reason) for reason in _FLAGS},
        }
    )
    return judged.select(
        persona_id="id", persona="text", word_count=words, reason=reason, detail=detail
    )


_FLAGS = (
    PersonaReason.FIRST_PERSON,
    PersonaReason.NOT_A_PERSON,
    PersonaReason.LEAKED_INSTRUCTION,
    PersonaReason.WRONG_LANGUAGE,
    PersonaReason.REPEATED_NGRAM,
    PersonaReason.COPIED_EXAMPLE,
)


def _flag(column: str) -> tuple[pl.Expr, pl.Expr]:
    return pl.col(column) != "", pl.col(column)


def _first_problem(rules: dict[PersonaReason, tuple[pl.Expr, pl.Expr]]) -> tuple[pl.Expr, pl.Expr]:
    reason = pl.coalesce(pl.when(when).then(pl.lit(str(name))) for name, (when, _) in rules.items())
    detail = pl.coalesce(pl.when(when).then(text) for when, text in rules.values())
    return reason, detail


def _wrong_language(texts: pl.Series, language: str | None) -> pl.Series:
    if language is None:
        return pl.Series([""] * len(texts), dtype=pl.String)
    import py3langid  # noqa: PLC0415 - loads a model of 1 MB, only when a language is asked for

    matches = [py3langid.classify(text)[0] for text in texts]
    return pl.Series(["" if code == language else code for code in matches], dtype=pl.String)


COPY_RATIO = 85.0
"""rapidfuzz ratio at which a text counts as a copy of an example (0 to 100)."""


def text_flags(texts: pl.DataFrame, examples: list[str], *, ngram: int, times: int) -> pl.DataFrame:
    """One row per row of `texts` (id, text), in the same order, with a column per flag.

    A flag is the offending words, or an empty string. `ngram`, `times`: that many words in a row,
    that often, count as repetition.
    """
    with duckdb.connect() as connection:
        connection.register("texts", texts.select("id", "text"))
        flags = connection.sql(
            read_sql("quality/text_flags"), params={"ngram": ngram, "times": times}
        ).pl()
    flags = texts.select("id", "text").join(flags, on="id", how="left", maintain_order="left")
    return flags.with_columns(copied_example=_copies(flags["text"].to_list(), examples))


def _copies(texts: list[str], examples: list[str]) -> pl.Series:
    if not texts or not examples:
        return pl.Series("copied_example", [""] * len(texts), dtype=pl.String)
    scores = process.cdist(texts, examples, scorer=fuzz.ratio, score_cutoff=COPY_RATIO)
    nearest = np.argmax(scores, axis=1)
    copied = [
        examples[column][:80] if scores[row, column] else "" for row, column in enumerate(nearest)
    ]
    return pl.Series("copied_example", copied, dtype=pl.String)
