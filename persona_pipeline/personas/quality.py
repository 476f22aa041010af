"""Split personas into candidates and rejected ones, by quality rules that need no model."""

from functools import cache

import numpy as np
import polars as pl
from rapidfuzz import fuzz, process

from persona_pipeline.personas.plan import PersonaPlan, stage_prompt
from persona_pipeline.personas.text_to_persona import REJECTED
from persona_pipeline.reasons import PersonaReason
from persona_pipeline.sql import open_in_memory, read_sql
from persona_pipeline.stage_names import PERSONA_TO_PERSONA, QUALITY_RULES, TEXT_TO_PERSONA
from persona_pipeline.store.stage_rows import FunnelCounts, StageRows

STAGE = QUALITY_RULES
MIN_WORDS, MAX_WORDS = 6, 80
"""Limits of a persona's words. 90 % of personas have 6 to 20 distinct words; two full sentences fit
in 80."""
NGRAM, TIMES = 3, 3
"""Three words in a row, three times in a persona: the model repeats itself."""
COPY_RATIO = 85.0
"""rapidfuzz ratio (0 to 100) from which on a text counts as a copy of an example."""
COPY_SHOWN = 80
"""Characters of a copied example that `detail` shows."""
EXTRACTED_BONUS = 1e6
"""What a persona found in a document has above its word count, which is always lower than that."""
FLAGS = (
    PersonaReason.FIRST_PERSON,
    PersonaReason.NOT_A_PERSON,
    PersonaReason.LEAKED_INSTRUCTION,
    PersonaReason.WRONG_LANGUAGE,
    PersonaReason.REPEATED_NGRAM,
    PersonaReason.COPIED_EXAMPLE,
)
"""Reasons that have a column of their own with the offending words, in the order of their rank."""
JUDGED = {
    "persona_id": pl.String,
    "persona": pl.String,
    "word_count": pl.Int64,
    "reason": pl.String,
    "detail": pl.String,
}
"""Columns of judged personas."""


def apply_quality_rules(
    extracted: pl.DataFrame,
    related: pl.DataFrame,
    plan: PersonaPlan,
    shard: str = "notebook",
) -> StageRows:
    """Split the personas of both origins by the quality rules.

    Args:
        extracted: the kept rows of `text_to_persona`.
        related: the kept rows of `persona_to_persona`; may have no rows.
        plan: the language that personas must be in, and the examples that they may not copy.
        shard: the name of this batch.

    Returns:
        `kept` has one row per candidate: persona_id, origin, persona (String) and word_count
        (Int64). `rejected` has one row per persona that breaks a rule, with the reason, one of
        `persona_pipeline.reasons.PersonaReason`. Both add up to the personas that came in.
    """
    columns = ["persona_id", "persona", "call_key"]
    everyone = pl.concat(
        [
            extracted.select(columns).with_columns(origin=pl.lit(TEXT_TO_PERSONA)),
            related.select(columns).with_columns(origin=pl.lit(PERSONA_TO_PERSONA)),
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


def judge_personas(
    personas: pl.DataFrame, examples: list[str], *, language: str | None
) -> pl.DataFrame:
    """Apply the rules to each persona (persona_id, persona).

    Args:
        personas: the personas to judge.
        examples: texts that count as copied when a persona repeats them.
        language: ISO 639-1 code that personas must have; None: any.

    Returns:
        One row per persona with the columns of `JUDGED`. `reason` is null for a good persona, else
        the first rule that it breaks.
    """
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
            **{flag: (pl.col(flag) != "", pl.col(flag)) for flag in FLAGS},
        }
    )
    return judged.select(
        persona_id="id", persona="text", word_count=words, reason=reason, detail=detail
    )


def text_flags(texts: pl.DataFrame, examples: list[str], *, ngram: int, times: int) -> pl.DataFrame:
    """Mark texts (id, text) that look like a failure of the model.

    Args:
        texts: personas or records.
        examples: texts of our own prompts; a text that repeats one is a copy.
        ngram: words in a row that count as repetition if they occur `times` times.
        times: see `ngram`.

    Returns:
        One row per text in the same order: id, text, word_count, and one column per flag that has
        the offending words, or an empty string.
    """
    with open_in_memory() as connection:
        connection.register("texts", texts.select("id", "text"))
        flags = connection.sql(
            read_sql("quality/text_flags"), params={"ngram": ngram, "times": times}
        ).pl()
    flags = texts.select("id", "text").join(flags, on="id", how="left", maintain_order="left")
    return flags.with_columns(copied_example=_copies(flags["text"].to_list(), examples))


def quality(candidates: pl.DataFrame) -> pl.Series:
    """Rank candidates (origin, word_count): of two duplicates, the one with more is kept.

    A persona found in a document comes before one that a model made from another persona. Within
    both, the more detailed persona comes first.
    """
    is_extracted = (candidates["origin"] == TEXT_TO_PERSONA).cast(pl.Float64)
    return (is_extracted * EXTRACTED_BONUS + candidates["word_count"]).alias("quality")


@cache
def prompt_examples() -> list[str]:
    """List the personas that our own prompts show: one that repeats them is no answer."""
    examples = stage_prompt(TEXT_TO_PERSONA).spec.examples
    texts = [example.answer["persona"] for example in examples]
    for example in stage_prompt(PERSONA_TO_PERSONA).spec.examples:
        related = example.answer["related"]
        if isinstance(related, list):
            texts += [item["persona"] for item in related if isinstance(item, dict)]
    return [str(text) for text in texts]


def _first_problem(rules: dict[PersonaReason, tuple[pl.Expr, pl.Expr]]) -> tuple[pl.Expr, pl.Expr]:
    """Return reason and detail of the first rule whose condition holds; null if none does."""
    reason = pl.coalesce(pl.when(when).then(pl.lit(str(name))) for name, (when, _) in rules.items())
    detail = pl.coalesce(pl.when(when).then(text) for when, text in rules.values())
    return reason, detail


def _wrong_language(texts: pl.Series, language: str | None) -> pl.Series:
    """Return the language code of each text that is not in `language`, else an empty string."""
    if language is None:
        return pl.Series([""] * len(texts), dtype=pl.String)
    import py3langid  # noqa: PLC0415 - loads a model of 1 MB, only when a language is asked for

    codes = [py3langid.classify(text)[0] for text in texts]
    return pl.Series(["" if code == language else code for code in codes], dtype=pl.String)


def _copies(texts: list[str], examples: list[str]) -> pl.Series:
    """Return the start of the example that each text copies, else an empty string."""
    if not texts or not examples:
        return pl.Series("copied_example", [""] * len(texts), dtype=pl.String)
    scores = process.cdist(texts, examples, scorer=fuzz.ratio, score_cutoff=COPY_RATIO)
    nearest = np.argmax(scores, axis=1)
    copied = [
        examples[column][:COPY_SHOWN] if scores[row, column] else ""
        for row, column in enumerate(nearest)
    ]
    return pl.Series("copied_example", copied, dtype=pl.String)
