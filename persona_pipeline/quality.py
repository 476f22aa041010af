"""What is wrong with the form of a text; the same rules for personas and for records.

The flags are computed in SQL (`sql/quality/text_flags.sql`); near copies of a prompt's own examples
are found with rapidfuzz, because a small model sometimes hands its example back.
"""

import duckdb
import numpy as np
import polars as pl
from rapidfuzz import fuzz, process

from persona_pipeline.sql_files import read_sql

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
