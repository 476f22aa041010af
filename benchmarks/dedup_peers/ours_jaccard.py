"""Ours: the exact word-set join, the semantic layer left out."""

from collections.abc import Iterator
from itertools import combinations, product

import polars as pl
from adapter import Job, Matches, measure, read_job

from persona_pipeline.dedup.comparison import compare_texts
from persona_pipeline.dedup.duplicates import find_duplicates
from persona_pipeline.dedup.resources import Resources
from persona_pipeline.dedup.rules import Comparison, Thresholds

MEMORY = 1_000_000_000
"""Bytes that the join and DuckDB may take, beside the texts."""
LISTED_ROWS = 50_000
"""Up to here the pairs are listed, for their recall."""


def find(personas: pl.DataFrame, job: Job) -> Matches:
    """Find duplicates in the Jaccard layer only; ids are row numbers."""
    thresholds = Thresholds(jaccard=job.threshold, cosine=None)
    duplicates = find_duplicates(personas, thresholds=thresholds, resources=Resources(MEMORY))
    removed = duplicates.removed["id"].to_list()
    is_listed = len(personas) <= LISTED_ROWS
    return Matches(removed=removed, pairs=_row_pairs(personas, thresholds) if is_listed else None)


def _row_pairs(personas: pl.DataFrame, thresholds: Thresholds) -> Iterator[tuple[int, int]]:
    """All similar pairs as row numbers: read after the clock has stopped, so found once more."""
    comparison = Comparison.for_thresholds(thresholds)
    ranked = personas.with_columns(rank=pl.lit(0, pl.Int64))
    fingerprints, pairs = compare_texts(ranked, None, comparison, Resources(MEMORY))
    rows = fingerprints.select("set_key", "id")
    members = {key: of_set["id"].to_list() for (key,), of_set in rows.group_by("set_key")}
    for left, right in pairs.select("first_key", "second_key").iter_rows():
        yield from product(members[left], members[right])
    for of_set in members.values():
        yield from combinations(of_set, 2)


def main() -> None:
    """Read the Parquet file as the pipeline would hold it."""
    job = read_job()
    personas = pl.read_parquet(job.source, columns=["persona"], n_rows=job.rows)
    measure(find, personas.rename({"persona": "text"}).with_row_index("id"), job)


if __name__ == "__main__":
    main()
