"""Compare shards: find the similar candidates once, and store them as pairs of keys.

A pair names word sets or texts by stable hashes instead of personas, so it stays true when shards
are added, changed or removed. Every shard that has one side of a pair holds it. A pair is
therefore stored as long as any shard has that side, whichever shard is compared again.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import duckdb
import numpy as np
import polars as pl

from persona_pipeline.dedup.comparison import fingerprint, with_scores, word_set_pairs
from persona_pipeline.dedup.resolve import FINGERPRINTS, PAIRS
from persona_pipeline.dedup.rules import TOLERANCE, Comparison
from persona_pipeline.dedup.vectors.search import similar_texts
from persona_pipeline.dedup.words.join import KeyedSets, are_among, are_shared, distinct_sets
from persona_pipeline.dedup.words.word_sets import LEARNED_TEXTS, Vocabulary, encode
from persona_pipeline.hub.embeddings import read_vectors
from persona_pipeline.hub.plan import DedupPlan
from persona_pipeline.hub.state import (
    ShardState,
    current_versions,
    early_shards,
    read_states,
    sets_version,
)
from persona_pipeline.personas.quality import quality
from persona_pipeline.sql import fetch, read_sql
from persona_pipeline.store.stage_rows import StageRows
from persona_pipeline.store.store import Store

STAGE = "comparison"
NO_FINGERPRINTS = (
    pl.DataFrame(schema={**FINGERPRINTS, "is_repeated": pl.Boolean})
    .rename({"id": "persona_id"})
    .drop("rank")
)
NO_PAIRS = pl.DataFrame(schema=PAIRS)
COMPARED = {"version": pl.String, "min_jaccard": pl.Float64, "min_cosine": pl.Float64}
"""Columns of `runs.compared`."""


def compare_shards(store: Store, plan: DedupPlan) -> list[StageRows]:
    """Compare every shard that has changed since its last comparison with all shards.

    Returns:
        One item per changed shard, with its rows of `personas.fingerprints`, `personas.pairs` and
        `runs.compared`.
    """
    with store.connect(read_only=True) as connection:
        states = read_states(connection, plan)
        versions = current_versions(states, plan)
        stale = [state for state in states if state.version != versions[state.shard]]
        changed = [state.shard for state in stale if state.candidate_count]
        personas = _candidates(connection, changed)
    if not stale:
        return []
    fingerprints, pairs = _compare(store, plan, states, personas)
    return [
        StageRows(
            shard=state.shard,
            stage=STAGE,
            tables={
                "personas.fingerprints": fingerprints.get(state.shard, NO_FINGERPRINTS),
                "personas.pairs": pairs.get(state.shard, NO_PAIRS),
                "runs.compared": _compared(versions[state.shard], plan.comparison),
            },
        )
        for state in stale
    ]


def _compare(
    store: Store, plan: DedupPlan, states: Sequence[ShardState], personas: pl.DataFrame
) -> tuple[Mapping[str, pl.DataFrame], Mapping[str, pl.DataFrame]]:
    """Return the fingerprints of the changed shards, and their pairs with all texts, by shard."""
    changed = personas["shard"].unique().to_list()
    vocabulary = plan.cache.vocabulary(
        lambda: _sample(store, states), sum(state.candidate_count for state in states)
    )
    encoded = encode(personas["persona"], vocabulary, threads=plan.resources.threads)
    rows = personas.select(quality(personas), id="persona_id", text="persona", rank="shard_number")
    fingerprints = fingerprint(rows, encoded).with_columns(personas["shard"]).drop("rank")
    fingerprints = fingerprints.rename({"id": "persona_id"})
    sets = distinct_sets(encoded)
    unchanged = [state for state in states if state.candidate_count and state.shard not in changed]
    known = [_known_sets(store, plan, state, vocabulary) for state in unchanged]
    if known and plan.comparison.joined_from:
        sets = sets.with_join_keys(plan.comparison.joined_from)  # for the join, and to be kept
    _keep_sets(plan, states, fingerprints, sets)
    fingerprints = fingerprints.with_columns(is_repeated=_are_repeated(fingerprints, sets, known))
    texts = rows.select("text").with_columns(key=fingerprints["set_key"])
    parts = [
        _jaccard(store, plan, texts, word_set_pairs(sets, known, plan.comparison, plan.resources))
    ]
    if plan.comparison.min_cosine is not None:
        known_shards = [state.shard for state in unchanged]
        early = early_shards(states, plan)
        vectors = read_vectors(store, plan.embedding_model, fingerprints, known_shards, early)
        least = plan.comparison.min_cosine - TOLERANCE
        parts += [similar_texts(each, least, plan.resources) for each in vectors]
    pairs = _with_holders(pl.concat(parts), fingerprints, is_all=not unchanged)
    return _by_shard(fingerprints), _by_shard(pairs)


def _known_sets(
    store: Store, plan: DedupPlan, state: ShardState, vocabulary: Vocabulary
) -> KeyedSets:
    def texts() -> pl.Series:
        with store.connect(read_only=True) as connection:
            return _candidates(connection, [state.shard])["persona"]

    return plan.cache.sets(state.shard, sets_version(state), texts, vocabulary)


TEXTS_OF_SETS_SQL: Final = """
-- One row per wanted word set: one text that has it.
-- reads: personas.fingerprints, personas.candidates, wanted_sets (a frame)   params: none
select fingerprints.set_key as key, min(candidates.persona) as text
from personas.fingerprints
inner join personas.candidates using (persona_id)
where fingerprints.set_key in (select key from wanted_sets)
group by fingerprints.set_key
"""


def _jaccard(
    store: Store, plan: DedupPlan, texts: pl.DataFrame, pairs: pl.DataFrame
) -> pl.DataFrame:
    """Add the fuzzy scores to the pairs of word sets.

    `texts` (key, text) has the word sets of the changed shards; other texts are read.
    """
    if plan.comparison.has_scores:
        wanted = pl.concat([pairs["first_key"], pairs["second_key"]]).unique()
        others = wanted.filter(~wanted.is_in(texts["key"].implode())).to_frame("key")
        query = TEXTS_OF_SETS_SQL
        texts = pl.concat(
            [texts, store.query(query, frames={"wanted_sets": others}).select(texts.columns)]
        )
    return with_scores(pairs, texts, plan.comparison, plan.resources)


def _are_repeated(
    fingerprints: pl.DataFrame, sets: KeyedSets, known: Sequence[KeyedSets]
) -> pl.Series:
    """Tell whether others have the same words; true for texts without words."""
    alone = pl.Series(sets.keys[~are_shared(sets, known)])
    keys = fingerprints["set_key"]
    return keys.is_duplicated() | ~keys.is_in(alone.implode())


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


def _keep_sets(
    plan: DedupPlan, states: Sequence[ShardState], fingerprints: pl.DataFrame, sets: KeyedSets
) -> None:
    """Cache the word sets of each changed shard, and drop those of shards without candidates."""
    of_shard = _by_shard(fingerprints.select("shard", "set_key"))
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


def _by_shard(rows: pl.DataFrame) -> dict[str, pl.DataFrame]:
    parts = rows.partition_by("shard", as_dict=True, include_key=False)
    return {str(shard): part for (shard,), part in parts.items()}


def _compared(version: str | None, comparison: Comparison) -> pl.DataFrame:
    row = (version, comparison.min_jaccard, comparison.min_cosine)
    return pl.DataFrame([] if version is None else [row], schema=COMPARED, orient="row")
