"""Compare shards: find the similar candidates once, and store them as pairs of keys.

A pair names word sets or texts by stable hashes instead of personas, so it stays true when shards
are added, changed or removed. Every shard that has one side of a pair holds it. A pair is
therefore stored as long as any shard has that side, whichever shard is compared again.

Where the pairs are too many, those that decide are stored instead (`block_comparison.py`).
"""

import logging
from collections.abc import Collection, Sequence

import polars as pl

from persona_pipeline.dedup.comparison import with_scores, word_set_pairs
from persona_pipeline.dedup.resolve import FINGERPRINTS, PAIRS
from persona_pipeline.dedup.rules import TOLERANCE, Comparison
from persona_pipeline.dedup.vectors.search import similar_texts
from persona_pipeline.errors import MemoryLimitError
from persona_pipeline.hub.block_comparison import compare_in_blocks
from persona_pipeline.hub.changed_shards import (
    ComparedShards,
    by_shard,
    read_changed,
    read_vectors_of,
    texts_of_sets,
)
from persona_pipeline.hub.plan import DedupPlan
from persona_pipeline.hub.state import (
    ShardState,
    block_versions,
    current_versions,
    read_states,
    stale_states,
)
from persona_pipeline.stage_names import COMPARISON
from persona_pipeline.store.stage_rows import StageRows
from persona_pipeline.store.store import Store

LOG = logging.getLogger(__name__)
STAGE = COMPARISON
NO_FINGERPRINTS = (
    pl.DataFrame(schema={**FINGERPRINTS, "is_repeated": pl.Boolean})
    .rename({"id": "persona_id"})
    .drop("rank")
)
NO_PAIRS = pl.DataFrame(schema=PAIRS)
COMPARED = {
    "version": pl.String,
    "min_jaccard": pl.Float64,
    "min_cosine": pl.Float64,
    "has_all_pairs": pl.Boolean,
}
"""Columns of `runs.compared`."""


def compare_shards(
    store: Store, plan: DedupPlan, *, again: Collection[str] = ()
) -> list[StageRows]:
    """Compare every shard that has changed since its last comparison with all shards.

    Args:
        store: the database.
        plan: what is compared, and how.
        again: shards to compare although nothing has changed: their pairs are damaged.

    Returns:
        One item per changed shard, with its rows of `personas.fingerprints`, `personas.pairs` and
        `runs.compared`.
    """
    with store.connect(read_only=True) as connection:
        states = read_states(connection, plan)
    stale_names = {state.shard for state in stale_states(states, plan)}.union(again)
    stale = [state for state in states if state.shard in stale_names]
    if not stale:
        return []
    versions, has_all_pairs = current_versions(states, plan), not _has_few_pairs(states, plan)
    if has_all_pairs:
        try:
            compared = _compare_all(store, plan, states, stale)
        except MemoryLimitError as error:
            LOG.info("only the pairs that decide are stored: %s", error)
            has_all_pairs = False
    if not has_all_pairs:
        first = min(state.shard_number for state in stale)
        stale = [state for state in states if state.shard_number >= first]
        versions = block_versions(states, plan)
        compared = compare_in_blocks(store, plan, states, first)
    return [
        StageRows(
            shard=state.shard,
            stage=STAGE,
            tables={
                "personas.fingerprints": compared.fingerprints.get(state.shard, NO_FINGERPRINTS),
                "personas.pairs": compared.pairs.get(state.shard, NO_PAIRS),
                "runs.compared": _compared(versions[state.shard], plan, has_all_pairs),
            },
        )
        for state in stale
    ]


def _has_few_pairs(states: Sequence[ShardState], plan: DedupPlan) -> bool:
    """Tell whether a shard that is up to date stores few pairs: shards after it then do so, too."""
    in_blocks = block_versions(states, plan)
    return any(state.version and state.version == in_blocks[state.shard] for state in states)


def _compare_all(
    store: Store, plan: DedupPlan, states: Sequence[ShardState], stale: Sequence[ShardState]
) -> ComparedShards:
    """Find all pairs of the stale shards with all texts.

    Raises:
        MemoryLimitError: there are more pairs than fit into the memory.
    """
    changed = read_changed(store, plan, states, [state.shard for state in stale])
    jaccard = word_set_pairs(changed.sets, changed.known, plan.comparison, plan.resources)
    texts = changed.texts
    if plan.comparison.has_scores:
        texts = texts_of_sets(store, texts, [jaccard["first_key"], jaccard["second_key"]])
    parts = [with_scores(jaccard, texts, plan.comparison, plan.resources)]
    if plan.comparison.min_cosine is not None:
        vectors = read_vectors_of(store, plan, states, changed)
        least = plan.comparison.min_cosine - TOLERANCE
        parts += [similar_texts(each, least, plan.resources) for each in vectors]
    pairs = _with_holders(pl.concat(parts), changed.fingerprints, is_all=not changed.others)
    return ComparedShards(by_shard(changed.fingerprints), by_shard(pairs))


def _with_holders(pairs: pl.DataFrame, fingerprints: pl.DataFrame, *, is_all: bool) -> pl.DataFrame:
    """Return one row for each shard of the fingerprints that must hold the pair.

    If the fingerprints cover all shards, the shards of one side are enough: the side that fewer
    shards have. Otherwise the shards of both sides hold it, as it is not known here which side the
    others hold. With 2 million personas in 11 shards, a pair has 1.3 rows instead of 3.4.
    """
    shards = fingerprints["shard"].unique()
    if len(shards) == 1:  # every pair has a side in it
        return pairs.select(pl.lit(shards[0]).alias("shard"), *PAIRS).sort(pl.all())
    parts = list[pl.DataFrame]()
    for is_text, key in ((True, "text_key"), (False, "set_key")):
        of_layer = pairs.filter((pl.col("layer") == "semantic") == is_text)
        places = fingerprints.select("shard", side=key).unique()
        parts += _holders(of_layer, places, is_all=is_all)
    return pl.concat([part.select("shard", *PAIRS) for part in parts]).unique().sort(pl.all())


def _holders(pairs: pl.DataFrame, places: pl.DataFrame, *, is_all: bool) -> list[pl.DataFrame]:
    """Join pairs to the shards that hold them; `places` (shard, side) has each key's shards."""
    sides = ("first_key", "second_key")
    if not is_all:
        return [pairs.join(places, left_on=side, right_on="side") for side in sides]
    counts = places.group_by("side").len("shard_count")
    for side in sides:
        pairs = pairs.join(counts.rename({"side": side, "shard_count": f"{side}_count"}), on=side)
    fewer = pl.col("first_key_count") <= pl.col("second_key_count")
    holding = pairs.with_columns(side=pl.when(fewer).then("first_key").otherwise("second_key"))
    return [holding.join(places, on="side")]


def _compared(version: str | None, plan: DedupPlan, has_all_pairs: bool) -> pl.DataFrame:  # noqa: FBT001
    comparison = plan.comparison
    if not has_all_pairs:
        comparison = Comparison.for_thresholds(plan.thresholds, method=comparison.method)
    row = (version, comparison.min_jaccard, comparison.min_cosine, has_all_pairs)
    return pl.DataFrame([] if version is None else [row], schema=COMPARED, orient="row")
