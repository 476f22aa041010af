"""Select a diverse subset of the hub: few personas, as different from each other as possible.

The Persona Hub report applies stricter and stricter thresholds when few but diverse personas are
wanted (arXiv 2406.20094, section 2.3). Farthest-point selection on the embeddings then reduces the
rest to a count.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from persona_pipeline.dedup.duplicates import find_duplicates
from persona_pipeline.dedup.rules import Thresholds
from persona_pipeline.dedup.vectors.farthest import farthest_points
from persona_pipeline.dedup.vectors.search import allocate_rows
from persona_pipeline.dedup.words.word_sets import hash_texts
from persona_pipeline.errors import StoreError
from persona_pipeline.hub.embeddings import read_lengths, read_rows
from persona_pipeline.hub.plan import DedupPlan
from persona_pipeline.hub.selection_rules import Selection
from persona_pipeline.personas.quality import quality
from persona_pipeline.sql import read_sql
from persona_pipeline.store.stage_rows import StageRows
from persona_pipeline.store.store import Store

STAGE = "selections"
BLOCK = 1024
"""Chosen personas whose distances to earlier ones are computed at a time."""
SELECTED = ["name", "persona_id", "place", "distance"]
"""Columns of `personas.selections`."""


@dataclass(frozen=True, slots=True)
class SelectionSummary:
    """What a selection holds."""

    name: str
    count: int
    smallest: float | None
    """Smallest cosine distance of a chosen persona to an earlier one; None: there are none."""
    median: float | None
    """Median of these distances; None: there are none."""
    first: pl.DataFrame
    """The personas chosen first: place, persona, distance."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """The rows of a selection, and how its personas were chosen."""

    rows: list[StageRows]
    hub_count: int
    """Personas of the hub that could be chosen."""
    removed: dict[float, int]
    """Personas that each threshold removed, in the order of the thresholds."""

    def describe_removed(self) -> str:
        """Return a text such as '12 at 0.7, 3 at 0.5'; empty without thresholds."""
        return ", ".join(f"{count:,} at {at:g}" for at, count in self.removed.items())


@dataclass(frozen=True, slots=True)
class Changes:
    """What has changed since a selection was made."""

    shards: list[str]
    """Shards whose part of the hub has changed."""
    has_other_rules: bool


SHARDS_OF_SELECTION_SQL: Final = """
-- One row per shard that a selection of this name has rows of.
-- reads: personas.selections   params: $name
select distinct shard
from personas.selections
where name = $name
order by shard
"""


HUB_VERSIONS_SQL: Final = """
-- One row per shard that was decided: which candidates it has, and which of them were removed.
-- reads: runs.stages, corpus.shards
select stages.shard, string_agg(stages.output_version, ' ' order by stages.stage) as hub_version
from runs.stages
inner join corpus.shards using (shard)
where stages.stage in ('quality_rules', 'deduplication')
group by stages.shard, shards.shard_number
order by shards.shard_number
"""


def select_personas(store: Store, plan: DedupPlan, name: str, rules: Selection) -> Chosen:
    """Choose personas of the hub; the rows replace all earlier ones of this name.

    The column `place` counts from 0 in the order of selection. With farthest-point selection,
    `distance` is the cosine distance to the nearest persona chosen before, and the first k rows of
    a selection equal a selection of k. The result does not depend on the order of rows in tables.

    Returns:
        One item per shard, with its rows of `personas.selections` and `runs.selected`.

    Raises:
        StoreError: the rules choose by embeddings, and no persona has one.
    """
    hubs = store.query(HUB_VERSIONS_SQL)
    ranked = _read_ranked(store)
    left, removed = _chain(ranked, rules, plan)
    is_spread = rules.is_spread and len(left) > 0
    chosen = _spread(store, plan, left, rules) if is_spread else _first(left, rules.count)
    chosen = chosen.with_columns(pl.lit(name).alias("name"), pl.arange(pl.len()).alias("place"))
    before = store.query(SHARDS_OF_SELECTION_SQL, {"name": name})["shard"]
    made_from = hubs.with_columns(
        pl.lit(name).alias("name"), pl.lit(rules.model_dump_json()).alias("rules")
    )
    shards = sorted({*chosen["shard"], *before, *hubs["shard"]})
    rows = [_rows_of_shard(name, shard, chosen, made_from) for shard in shards]
    return Chosen(rows, len(ranked), removed)


SELECTED_HUBS_SQL: Final = """
-- One row per shard whose hub a selection was made from: what it was then, and the rules.
-- reads: runs.selected   params: $name
select shard, hub_version, rules
from runs.selected
where name = $name
order by shard
"""


def changes_since(store: Store, name: str, rules: Selection) -> Changes:
    """Return what has changed since the selection was made; nothing if it was never made."""
    noted = store.query(SELECTED_HUBS_SQL, {"name": name})
    if noted.is_empty():
        return Changes([], has_other_rules=False)
    hubs = dict(store.query(HUB_VERSIONS_SQL).iter_rows())
    then = dict(noted.select("shard", "hub_version").iter_rows())
    changed = [shard for shard, version in hubs.items() if then.get(shard) != version]
    return Changes(changed, set(noted["rules"]) != {rules.model_dump_json()})


def summarize_selection(store: Store, name: str, shown: int) -> SelectionSummary:
    """Summarize the stored selection, with the texts of the first `shown` personas."""
    rows = store.query(read_sql("personas/selected"), {"name": name})
    distances = rows["distance"].drop_nulls().to_numpy()
    return SelectionSummary(
        name=name,
        count=len(rows),
        smallest=float(distances.min()) if len(distances) else None,
        median=float(np.median(distances)) if len(distances) else None,
        first=rows.head(shown).select("place", "persona", "distance"),
    )


def require_made(store: Store, selection: str) -> None:
    """Check that the selection has personas, unless the hub is empty, too.

    Raises:
        StoreError: the hub has personas and the selection has none; says how to make it.
    """
    has_hub = not store.query("from personas.hub limit 1").is_empty()
    if has_hub and not selected_count(store, selection):
        msg = (
            f"selection {selection!r}, named in persona_sources, was never made, or the hub "
            f"has none of its personas any more: 'persona-pipeline select {selection}' makes it, "
            "or personas/selections in Dagster, from the hub as it is; 'persona-pipeline run' does "
            "so by itself when all its shards are in the hub"
        )
        raise StoreError(msg)


SELECTED_COUNT_SQL: Final = """
-- One row: how many personas of the selection are in the hub.
-- reads: personas.selections, personas.hub   params: $name
select count(*) as persona_count
from personas.selections
inner join personas.hub using (shard, persona_id)
where selections.name = $name
"""


def selected_count(store: Store, selection: str) -> int:
    """Count the personas of the selection that are in the hub."""
    return int(store.query(SELECTED_COUNT_SQL, {"name": selection}).item())


def _rows_of_shard(
    name: str, shard: str, chosen: pl.DataFrame, made_from: pl.DataFrame
) -> StageRows:
    """Build the shard's rows of a selection, from all chosen personas and all hub versions."""
    is_own = pl.col("shard") == shard
    return StageRows(
        shard=shard,
        stage=STAGE,
        tables={
            "personas.selections": chosen.filter(is_own).select(SELECTED),
            "runs.selected": made_from.filter(is_own).select("name", "hub_version", "rules"),
        },
        scope=dict.fromkeys(("personas.selections", "runs.selected"), ("name", name)),
    )


def _read_ranked(store: Store) -> pl.DataFrame:
    """Read the hub, ordered by rank: deduplication keeps the first of similar personas."""
    hub = store.query(read_sql("personas/ranked_hub"))
    return (
        hub.with_columns(quality(hub).fill_null(0.0), pl.Series("hash", hash_texts(hub["persona"])))
        .sort("shard_number", -pl.col("quality"), "hash", "persona_id")
        .select("shard", "shard_number", "persona_id", "persona", "quality")
    )


def _chain(
    ranked: pl.DataFrame, rules: Selection, plan: DedupPlan
) -> tuple[pl.DataFrame, dict[float, int]]:
    """Return what is left at the last threshold, and how many personas each threshold removed.

    The thresholds are applied one after the other. Similar pairs grow with the square of the
    texts, so each pass spares the next, stricter one most of its work.
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
    """Choose the persona farthest from all chosen ones, one by one; those without a vector last."""
    placed, matrix = _vectors(store, plan, ranked)
    count = rules.count or len(ranked)
    picks = farthest_points(matrix, count, seed=rules.seed)
    if not len(picks):
        msg = (
            f"none of the {len(ranked):,} personas has a vector of {plan.embedding_model!r}: run "
            "the main job with this embedding_model, and with a cosine_threshold or this selection "
            "in the settings; or choose the first of the hub (--method first, or method = 'first')"
        )
        raise StoreError(msg)
    chosen = ranked[placed[picks]].with_columns(_distances(matrix[picks]))
    others = ranked.join(chosen, on="persona_id", how="anti", maintain_order="left")
    return pl.concat([chosen, _first(others, count - len(chosen))])


def _vectors(
    store: Store, plan: DedupPlan, ranked: pl.DataFrame
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the row numbers of the ranked personas that have a vector, and these vectors.

    If vectors have several lengths, only those of the most frequent length are used.
    """
    with store.connect(read_only=True) as connection:
        lengths = read_lengths(connection, plan.embedding_model, ranked)
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
    """Return the cosine distance (0 to 2) of each row to the nearest earlier row.

    Distances are rounded to 6 digits: matrix products differ in the last bits between machines.
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
