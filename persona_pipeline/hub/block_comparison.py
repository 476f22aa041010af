"""Compare shards that have too many similar pairs: only the pairs that decide are found and stored.

A shard of templates has more pairs than a memory holds. Its personas are decided while they are
compared, block by block (`dedup/blocks.py`), and each removed one leaves the pair with its keeper.
These pairs give the same decision from the tables, at the same thresholds. They depend on the
shards before this one, so their version does, too (`state.block_versions`): where one of these
changes, or a threshold, the shard is compared again.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from persona_pipeline.dedup.blocks import resolve_in_blocks
from persona_pipeline.dedup.comparison import PreparedTexts
from persona_pipeline.dedup.resolve import FINGERPRINTS, PAIRS
from persona_pipeline.dedup.vectors.search import TextVectors
from persona_pipeline.dedup.words.join import KeyedSets, are_among
from persona_pipeline.dedup.words.word_sets import concat_sets
from persona_pipeline.hub.changed_shards import (
    ChangedShards,
    ComparedShards,
    by_shard,
    read_changed,
    read_vectors_of,
    texts_of_sets,
)
from persona_pipeline.hub.decisions import removed_before
from persona_pipeline.hub.plan import DedupPlan
from persona_pipeline.hub.state import ShardState
from persona_pipeline.store.store import Store


def compare_in_blocks(
    store: Store, plan: DedupPlan, states: Sequence[ShardState], first: int
) -> ComparedShards:
    """Compare all shards from number `first` on with themselves and with whom earlier ones keep."""
    shards = [state.shard for state in states if state.shard_number >= first]
    changed = read_changed(store, plan, states, shards)
    prepared = _prepare(store, plan, states, changed, _read_kept(store, plan, states, first))
    rules = (plan.comparison, plan.thresholds, plan.resources)
    decided = resolve_in_blocks(prepared, *rules, from_rank=first)
    homes = changed.fingerprints.select("shard", id="persona_id")
    pairs = decided.pairs.join(homes, on="id").select("shard", *PAIRS).unique().sort(pl.all())
    return ComparedShards(by_shard(changed.fingerprints), by_shard(pairs))


FINGERPRINTS_BEFORE_SQL: Final = """
-- One row per compared candidate of these shards.
-- reads: personas.fingerprints   params: $shards
select shard, persona_id as id, quality, sequence_key, set_key, text_key
from personas.fingerprints
where shard in (select unnest($shards))
"""


def _read_kept(
    store: Store, plan: DedupPlan, states: Sequence[ShardState], first: int
) -> pl.DataFrame:
    """Return the `FINGERPRINTS` of whom the shards before number `first` keep."""
    numbers = {state.shard: state.shard_number for state in states if state.shard_number < first}
    rows = store.query(FINGERPRINTS_BEFORE_SQL, {"shards": list(numbers)})
    removed = removed_before(store, plan, first).rename({"persona_id": "id"})
    kept = rows.join(removed, on=["shard", "id"], how="anti")
    return kept.with_columns(rank=pl.col("shard").replace_strict(numbers, return_dtype=pl.Int64))


def _prepare(
    store: Store,
    plan: DedupPlan,
    states: Sequence[ShardState],
    changed: ChangedShards,
    kept: pl.DataFrame,
) -> PreparedTexts:
    """Join what is compared of the kept personas of other shards, and of the changed shards."""
    own = changed.fingerprints.rename({"persona_id": "id"}).with_columns(rank=changed.ranks)
    comparison, texts, vectors = plan.comparison, changed.texts, list[TextVectors]()
    if comparison.has_scores:
        texts = texts_of_sets(store, texts, [kept["set_key"]])
    if comparison.min_cosine is not None:
        vectors = read_vectors_of(store, plan, states, changed)
    schema = pl.Schema(FINGERPRINTS)
    return PreparedTexts(
        pl.concat([rows.select(*FINGERPRINTS).cast(schema) for rows in (kept, own)]),
        _join_sets(changed, np.unique(kept["set_key"].to_numpy())),
        texts,
        vectors,
    )


def _join_sets(changed: ChangedShards, kept: NDArray[np.uint64]) -> KeyedSets:
    """Return the sets of the changed shards and, of the others, those of these keys; each once."""
    parts = [changed.sets]
    for part in changed.known:
        rows = np.flatnonzero(are_among(part.keys, kept))
        parts.append(KeyedSets(part.keys[rows], part.sets.take(rows)))
    keys, rows = np.unique(np.concatenate([part.keys for part in parts]), return_index=True)
    return KeyedSets(keys, concat_sets([part.sets for part in parts]).take(rows))
