"""A diverse subset of the hub: few personas, as different from each other as possible.

The report chains stricter thresholds where few but diverse personas are wanted (arXiv 2406.20094,
section 2.3). What is left is thinned to a count by farthest-point selection on the embeddings.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from persona_pipeline.dedup.duplicates import find_duplicates
from persona_pipeline.dedup.rules import Thresholds
from persona_pipeline.dedup.vectors.farthest import farthest_points
from persona_pipeline.dedup.vectors.search import allocate_rows
from persona_pipeline.dedup.words.word_sets import hash_texts
from persona_pipeline.errors import StoreError
from persona_pipeline.hub.embeddings import read_rows
from persona_pipeline.hub.plan import DedupPlan
from persona_pipeline.hub.selection_rules import Selection
from persona_pipeline.personas.quality import quality
from persona_pipeline.sql import fetch, read_sql
from persona_pipeline.store.stage_rows import StageRows
from persona_pipeline.store.store import Store

STAGE = "selections"
BLOCK = 1024
"""Chosen personas whose distances to those before them are computed at a time."""

SELECTED = ["name", "persona_id", "place", "distance"]


@dataclass(frozen=True, slots=True)
class SelectionSummary:
    """What a selection holds. `smallest`, `median`: of the distances, None where there are none."""

    name: str
    count: int
    smallest: float | None
    median: float | None
    first: pl.DataFrame
    """Of those chosen first: place, persona, distance."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """The rows of a selection, of how many personas, and how many each threshold removed."""

    rows: list[StageRows]
    hub_count: int
    removed: dict[float, int]

    def describe_removed(self) -> str:
        """As '12 at 0.7, 3 at 0.5'; empty where there are no thresholds."""
        return ", ".join(f"{count:,} at {at:g}" for at, count in self.removed.items())


def select_personas(store: Store, plan: DedupPlan, name: str, rules: Selection) -> Chosen:
    """One row per chosen persona of the hub, shard by shard; replaces all that the name had.

    `place`: from 0, in the order of selection. With farthest-point selection, the first k of any
    selection are the selection of k, and `distance` is the cosine distance to the nearest persona
    chosen before. Depends on the hub, the vectors and the rules, not on any order of rows.

    Raises:
        StoreError: personas are to be chosen by their embeddings, and there are none.
    """
    hubs = store.query(read_sql("personas/hub_versions"))
    ranked = _read_ranked(store)
    left, removed = _chain(ranked, rules, plan)
    is_spread = rules.is_spread and len(left) > 0
    chosen = _spread(store, plan, left, rules) if is_spread else _first(left, rules.count)
    chosen = chosen.with_columns(pl.lit(name).alias("name"), pl.arange(pl.len()).alias("place"))
    before = store.query(read_sql("personas/shards_of_selection"), {"name": name})["shard"]
    rows = [
        StageRows(
            shard=shard,
            stage=STAGE,
            tables={
                "personas.selections": chosen.filter(pl.col("shard") == shard).select(SELECTED),
                "runs.selected": hubs.filter(pl.col("shard") == shard).select(
                    pl.lit(name).alias("name"),
                    "hub_version",
                    pl.lit(rules.model_dump_json()).alias("rules"),
                ),
            },
            scope=dict.fromkeys(("personas.selections", "runs.selected"), ("name", name)),
        )
        for shard in sorted({*chosen["shard"], *before, *hubs["shard"]})
    ]
    return Chosen(rows, len(ranked), removed)


@dataclass(frozen=True, slots=True)
class Changes:
    """What is another than it was when a selection was made."""

    shards: list[str]
    """Those whose hub has changed."""
    has_other_rules: bool


def changes_since(store: Store, name: str, rules: Selection) -> Changes:
    """What has changed since the selection was made; nothing where that was not noted."""
    noted = store.query(read_sql("personas/selected_hubs"), {"name": name})
    if noted.is_empty():
        return Changes([], has_other_rules=False)
    hubs = dict(store.query(read_sql("personas/hub_versions")).iter_rows())
    then = dict(noted.select("shard", "hub_version").iter_rows())
    changed = [shard for shard, version in hubs.items() if then.get(shard) != version]
    return Changes(changed, set(noted["rules"]) != {rules.model_dump_json()})


def summarize_selection(store: Store, name: str, shown: int) -> SelectionSummary:
    """Of the selection as it is in the store, with the texts of the first `shown`."""
    rows = store.query(read_sql("personas/selected"), {"name": name})
    distances = rows["distance"].drop_nulls().to_numpy()
    return SelectionSummary(
        name=name,
        count=len(rows),
        smallest=float(distances.min()) if len(distances) else None,
        median=float(np.median(distances)) if len(distances) else None,
        first=rows.head(shown).select("place", "persona", "distance"),
    )


def _read_ranked(store: Store) -> pl.DataFrame:
    """The hub, in rank order: as deduplication keeps the first."""
    hub = store.query(read_sql("personas/ranked_hub"))
    return (
        hub.with_columns(quality(hub).fill_null(0.0), pl.Series("hash", hash_texts(hub["persona"])))
        .sort("shard_number", -pl.col("quality"), "hash", "persona_id")
        .select("shard", "shard_number", "persona_id", "persona", "quality")
    )


def _chain(
    ranked: pl.DataFrame, rules: Selection, plan: DedupPlan
) -> tuple[pl.DataFrame, dict[float, int]]:
    """What is left at the last threshold, and how many were removed at each.

    One after the other: similar pairs grow with the square of the texts, so each pass spares the
    next, stricter one most of its work.
    """
    removed = dict[float, int]()
    for threshold in rules.thresholds:
        duplicates = find_duplicates(
            ranked,
            id="persona_id",
            text="persona",
            rank="shard_number",
            quality="quality",
            thresholds=Thresholds(threshold, cosine=None),
            resources=plan.resources,
        )
        ranked, removed[threshold] = duplicates.kept, len(duplicates)
    return ranked, removed


def _first(ranked: pl.DataFrame, count: int | None) -> pl.DataFrame:
    return ranked.slice(0, count).with_columns(distance=pl.lit(None, pl.Float64))


def _spread(store: Store, plan: DedupPlan, ranked: pl.DataFrame, rules: Selection) -> pl.DataFrame:
    """The farthest from those before, one by one; those without a vector last, as ranked."""
    placed, matrix = _vectors(store, plan, ranked)
    count = rules.count or len(ranked)
    picks = farthest_points(matrix, count, seed=rules.seed)
    if not len(picks):
        msg = (
            f"none of the {len(ranked):,} personas has a vector of {plan.embedding_model!r}: run the "
            "main job with this embedding_model, and with a cosine_threshold or this selection in "
            "the settings; or choose the first of the hub (--method first, or method = 'first')"
        )
        raise StoreError(msg)
    chosen = ranked[placed[picks]].with_columns(_distances(matrix[picks]))
    others = ranked.join(chosen, on="persona_id", how="anti", maintain_order="left")
    return pl.concat([chosen, _first(others, count - len(chosen))])


def _vectors(
    store: Store, plan: DedupPlan, ranked: pl.DataFrame
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Places in rank order of those with a vector, and the vectors; of several lengths, the usual one."""
    with store.connect(read_only=True) as connection:
        connection.register("wanted_personas", ranked.select("shard", "persona_id"))
        parameters = {"model": plan.embedding_model}
        lengths = fetch(connection, read_sql("personas/lengths_of_personas"), parameters)
        length = lengths["length"].mode().max()
        if not isinstance(length, int):
            return np.empty(0, np.int64), np.empty((0, 0), np.float32)
        known = (
            ranked.select("shard", "persona_id")
            .with_row_index("row")
            .join(lengths.filter(pl.col("length") == length), on=["shard", "persona_id"])
            .sort("row")
        )
        plan.resources.check_vectors(len(known), length)
        rows = allocate_rows(len(known), length, store.path.parent)
        read_rows(connection, plan.embedding_model, known, rows)
    return known["row"].cast(pl.Int64).to_numpy(), rows


def _distances(vectors: NDArray[np.float32]) -> pl.Series:
    """The cosine distance of each row to the nearest one before it.

    Rounded: matrix products differ in the last bits from machine to machine.
    """
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    units = (vectors / lengths).astype(np.float32)
    distances = list[float | None]()
    for start in range(0, len(units), BLOCK):
        block = units[start : start + BLOCK]
        cosines = block @ units[: start + len(block)].T
        is_later = np.arange(cosines.shape[1]) >= start + np.arange(len(block))[:, None]
        nearest = np.where(is_later, -np.inf, cosines).max(axis=1)
        distances += [round(max(0.0, 1.0 - float(cosine)), 6) for cosine in nearest]
    distances[0] = None
    return pl.Series("distance", distances, dtype=pl.Float64)


def require_made(store: Store, selection: str) -> None:
    has_hub = not store.query("from personas.hub limit 1").is_empty()
    if has_hub and not selected_count(store, selection):
        msg = (
            f"selection {selection!r}, named in persona_sources, was never made, or the hub "
            f"has none of its personas any more: 'persona-pipeline select {selection}' makes it, "
            "or personas/selections in Dagster, from the hub as it is; 'persona-pipeline run' does "
            "so by itself when all its shards are in the hub"
        )
        raise StoreError(msg)


def selected_count(store: Store, selection: str) -> int:
    """How many personas of the selection are in the hub."""
    return int(store.query(read_sql("personas/selected_count"), {"name": selection}).item())
