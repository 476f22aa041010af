"""Read the shards that are compared now: their texts, word sets, fingerprints and vectors."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import duckdb
import numpy as np
import polars as pl

from persona_pipeline.dedup.comparison import fingerprint
from persona_pipeline.dedup.vectors.search import TextVectors
from persona_pipeline.dedup.words.join import KeyedSets, are_among, are_shared, distinct_sets
from persona_pipeline.dedup.words.word_sets import LEARNED_TEXTS, Vocabulary, encode
from persona_pipeline.hub.embeddings import read_vectors
from persona_pipeline.hub.plan import DedupPlan
from persona_pipeline.hub.state import ShardState, early_shards, sets_version
from persona_pipeline.personas.quality import quality
from persona_pipeline.sql import fetch, read_sql
from persona_pipeline.store.store import Store


@dataclass(frozen=True, slots=True)
class ChangedShards:
    """The shards that are compared, and the others that they are compared with."""

    fingerprints: pl.DataFrame
    """shard, and the columns of `personas.fingerprints`; one row per candidate."""
    ranks: pl.Series
    """(candidate): the number of its shard."""
    texts: pl.DataFrame
    """text, key: the texts, and the key of the word set of each."""
    sets: KeyedSets
    others: Sequence[str]
    known: Sequence[KeyedSets]
    """(other shard): its word sets."""


@dataclass(frozen=True, slots=True)
class ComparedShards:
    """Rows by shard, without the column shard."""

    fingerprints: Mapping[str, pl.DataFrame]
    pairs: Mapping[str, pl.DataFrame]


def read_changed(
    store: Store, plan: DedupPlan, states: Sequence[ShardState], shards: Collection[str]
) -> ChangedShards:
    """Read these shards, and the word sets of all others; the cache keeps the new sets."""
    changed = [state.shard for state in states if state.candidate_count and state.shard in shards]
    with store.connect(read_only=True) as connection:
        personas = _candidates(connection, changed)
    vocabulary = plan.cache.vocabulary(
        lambda: _sample(store, states), sum(state.candidate_count for state in states)
    )
    encoded = encode(personas["persona"], vocabulary, threads=plan.resources.threads)
    rows = personas.select(quality(personas), id="persona_id", text="persona", rank="shard_number")
    fingerprints = fingerprint(rows, encoded).with_columns(personas["shard"]).drop("rank")
    fingerprints = fingerprints.rename({"id": "persona_id"})
    sets = distinct_sets(encoded)
    others = [state for state in states if state.candidate_count and state.shard not in changed]
    known = [_known_sets(store, plan, state, vocabulary) for state in others]
    if known and plan.comparison.joined_from:
        sets = sets.with_join_keys(plan.comparison.joined_from)  # for the join, and to be kept
    _keep_sets(plan, states, fingerprints, sets)
    return ChangedShards(
        fingerprints.with_columns(is_repeated=_are_repeated(fingerprints, sets, known)),
        rows["rank"],
        rows.select("text").with_columns(key=fingerprints["set_key"]),
        sets,
        [state.shard for state in others],
        known,
    )


TEXTS_OF_SETS_SQL: Final = """
-- One row per wanted word set: one text that has it.
-- reads: personas.fingerprints, personas.candidates, wanted_sets (a frame)   params: none
select fingerprints.set_key as key, min(candidates.persona) as text
from personas.fingerprints
inner join personas.candidates using (persona_id)
where fingerprints.set_key in (select key from wanted_sets)
group by fingerprints.set_key
"""


def texts_of_sets(store: Store, texts: pl.DataFrame, keys: Iterable[pl.Series]) -> pl.DataFrame:
    """Add to `texts` (text, key) a text of each word set of these keys that it lacks."""
    wanted = pl.concat(list(keys)).unique()
    others = wanted.filter(~wanted.is_in(texts["key"].implode())).to_frame("key")
    read = store.query(TEXTS_OF_SETS_SQL, frames={"wanted_sets": others})
    return pl.concat([texts, read.select(texts.columns)])


def read_vectors_of(
    store: Store, plan: DedupPlan, states: Sequence[ShardState], changed: ChangedShards
) -> list[TextVectors]:
    """Read the vectors of all texts; those that only other shards have are known."""
    early = early_shards(states, plan)
    return read_vectors(store, plan.embedding_model, changed.fingerprints, changed.others, early)


def by_shard(rows: pl.DataFrame) -> dict[str, pl.DataFrame]:
    """Split rows by the column shard, which the parts lack."""
    parts = rows.partition_by("shard", as_dict=True, include_key=False)
    return {str(shard): part for (shard,), part in parts.items()}


def _known_sets(
    store: Store, plan: DedupPlan, state: ShardState, vocabulary: Vocabulary
) -> KeyedSets:
    def texts() -> pl.Series:
        with store.connect(read_only=True) as connection:
            return _candidates(connection, [state.shard])["persona"]

    return plan.cache.sets(state.shard, sets_version(state), texts, vocabulary)


def _are_repeated(
    fingerprints: pl.DataFrame, sets: KeyedSets, known: Sequence[KeyedSets]
) -> pl.Series:
    """Tell whether others have the same words; true for texts without words."""
    alone = pl.Series(sets.keys[~are_shared(sets, known)])
    keys = fingerprints["set_key"]
    return keys.is_duplicated() | ~keys.is_in(alone.implode())


def _keep_sets(
    plan: DedupPlan, states: Sequence[ShardState], fingerprints: pl.DataFrame, sets: KeyedSets
) -> None:
    """Cache the word sets of each changed shard, and drop those of shards without candidates."""
    of_shard = by_shard(fingerprints.select("shard", "set_key"))
    for state in states:
        if state.shard in of_shard:
            own = sets
            if len(of_shard) > 1:
                keys = np.unique(of_shard[state.shard]["set_key"].to_numpy())
                rows = np.searchsorted(sets.keys, keys[are_among(keys, sets.keys)])
                own = KeyedSets(sets.keys[rows], sets.sets.take(rows))
            plan.cache.keep(state.shard, sets_version(state), own)
        elif not state.candidate_count:
            plan.cache.forget(state.shard)


def _candidates(connection: duckdb.DuckDBPyConnection, shards: Sequence[str]) -> pl.DataFrame:
    return fetch(connection, read_sql("personas/candidates_of_shards"), {"shards": list(shards)})


def _sample(store: Store, states: Sequence[ShardState]) -> pl.Series:
    """Return candidates of the first shards, enough to learn the frequency of words from."""
    shards, count = list[str](), 0
    for state in states:
        if count < LEARNED_TEXTS:
            shards.append(state.shard)
            count += state.candidate_count
    with store.connect(read_only=True) as connection:
        return _candidates(connection, shards)["persona"]
