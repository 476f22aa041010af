"""Make a small table of texts, and list what was removed from it."""

import polars as pl

from persona_pipeline.dedup.duplicates import Duplicates

TEN = "one two three four five six seven eight nine ten"


def table(*texts: str, ids: str = "abcdefgh") -> pl.DataFrame:
    """Rows a, b, ... that rank in this order."""
    return pl.DataFrame(
        {"id": list(ids[: len(texts)]), "text": texts, "place": range(len(texts))},
        schema={"id": pl.String, "text": pl.String, "place": pl.Int64},
    )


def removed(duplicates: Duplicates) -> list[tuple[object, ...]]:
    return duplicates.removed.select(duplicates.removed.columns[:3]).rows()
