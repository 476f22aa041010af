"""The quality rules of personas: each has a reason, the first that applies is given."""

import polars as pl

from persona_pipeline.quality import text_flags
from persona_pipeline.reasons import PersonaReason

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

    found = [py3langid.classify(text)[0] for text in texts]
    return pl.Series(["" if code == language else code for code in found], dtype=pl.String)
