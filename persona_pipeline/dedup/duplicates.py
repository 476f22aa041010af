"""Which personas go because another one says the same, in three layers."""

from dataclasses import dataclass
from typing import Final

import polars as pl

from persona_pipeline.dedup.resolve import resolve_pairs
from persona_pipeline.dedup.scratch import Scratch, open_scratch
from persona_pipeline.dedup.semantic import find_semantic_pairs
from persona_pipeline.dedup.surface import find_surface_pairs
from persona_pipeline.dedup.tokenizer import normalize_candidates
from persona_pipeline.errors import SettingsError

TOLERANCE: Final = 1e-9
"""A similarity is at the threshold from this far below it: a float may fall short of 0.9."""

_CANDIDATES = {"persona_id": pl.String(), "persona": pl.String(), "shard_number": pl.Int64()}
_EMBEDDINGS = {"persona_id": pl.String(), "embedding": pl.List(pl.Float32())}


@dataclass(frozen=True, slots=True)
class Thresholds:
    """From which similarity on two personas are duplicates (arXiv 2406.20094, section 2.3)."""

    jaccard: float = 0.9
    """Surface layer: words in common / words in either."""
    cosine: float = 0.9
    """Semantic layer: the angle between the embeddings."""

    def __post_init__(self) -> None:
        """Turns away what no similarity could be compared with."""
        for name, value in (("jaccard", self.jaccard), ("cosine", self.cosine)):
            if not TOLERANCE < value <= 1:
                message = f"threshold {name} is {value}; give a number above 0 and up to 1"
                raise SettingsError(message)


def find_duplicates(
    candidates: pl.DataFrame,
    embeddings: pl.DataFrame,
    thresholds: Thresholds,
    *,
    memory_limit: str = "2GB",
    threads: int = 2,
) -> pl.DataFrame:
    """One row per persona to remove, and because of which: sorted by persona_id.

    Candidates stand in line: lower shard number first, then a hash of the normalized text, then
    the id. The first of a group of duplicates is kept, so what is kept of a shard, and every row
    about it, depends on this shard and the earlier ones only. Neither the order of the rows nor
    the number of threads matters.

    The layers run one after the other, each on what the last one left: `exact` (the same words in
    the same order), `surface` (Jaccard similarity of the word sets), `semantic` (cosine of the
    embeddings). Of the survivors of a layer, no two are at or above its threshold.

    `kept_id` names the most similar persona before the removed one that *its layer* kept, and
    `similarity` is the one to it, at or above the layer's `threshold`. A later layer may remove
    that keeper in turn; then it has a row of its own. A keeper always stands before what it
    removes, so following `kept_id` never runs in a circle and ends at a persona that is kept.

    Args:
        candidates: persona_id (unique), persona, shard_number.
        embeddings: persona_id (unique), embedding; a persona without one skips the last layer.
        thresholds: where each layer draws the line.
        memory_limit: for DuckDB, which spills to a temporary folder beyond it.
        threads: for DuckDB; the products of the semantic layer use NumPy's own.
    """
    personas = _select_columns(candidates, _CANDIDATES, "candidates")
    vectors = _select_columns(embeddings, _EMBEDDINGS, "embeddings")
    with open_scratch(memory_limit=memory_limit, threads=threads) as scratch:
        normalize_candidates(scratch, personas)
        removed = pl.concat(
            [
                _remove_exact(scratch),
                _remove_surface(scratch, thresholds.jaccard),
                _remove_semantic(scratch, vectors, thresholds.cosine),
            ]
        )
        priorities = scratch.fetch("select priority, persona_id from priorities")
    return _name_personas(removed, priorities)


def _select_columns(frame: pl.DataFrame, schema: dict[str, pl.DataType], what: str) -> pl.DataFrame:
    selected = frame.select(pl.col(name).cast(dtype) for name, dtype in schema.items())
    if selected["persona_id"].is_duplicated().any():
        message = f"{what} have more than one row for a persona_id"
        raise ValueError(message)
    if any(selected.null_count().row(0)):
        message = f"{what} have a null in one of {', '.join(schema)}"
        raise ValueError(message)
    return selected


def _remove_exact(scratch: Scratch) -> pl.DataFrame:
    scratch.create("exact")
    removed = scratch.fetch("select later, earlier, similarity from exact")
    return _label(removed, "exact", 1.0)


def _remove_surface(scratch: Scratch, threshold: float) -> pl.DataFrame:
    find_surface_pairs(scratch, threshold - TOLERANCE)
    return _label(resolve_pairs(scratch), "surface", threshold)


def _remove_semantic(scratch: Scratch, vectors: pl.DataFrame, threshold: float) -> pl.DataFrame:
    left = scratch.fetch(
        "select persona_id, priority from priorities"
        " anti join exact on priorities.priority = exact.later"
        " anti join removed on priorities.priority = removed.later"
    )
    pairs = find_semantic_pairs(left.join(vectors, on="persona_id"), threshold - TOLERANCE)
    scratch.load("pairs", pairs)
    return _label(resolve_pairs(scratch), "semantic", threshold)


def _label(removed: pl.DataFrame, layer: str, threshold: float) -> pl.DataFrame:
    return removed.with_columns(layer=pl.lit(layer), threshold=pl.lit(threshold, pl.Float64))


def _name_personas(removed: pl.DataFrame, priorities: pl.DataFrame) -> pl.DataFrame:
    keepers = priorities.rename({"persona_id": "kept_id"})
    return (
        removed.join(priorities, left_on="later", right_on="priority")
        .join(keepers, left_on="earlier", right_on="priority")
        .select("persona_id", "kept_id", "layer", "similarity", "threshold")
        .sort("persona_id")
    )
