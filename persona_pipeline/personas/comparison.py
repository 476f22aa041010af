"""Comparing shards: which candidates are like which, found once and kept as pairs of keys.

A pair names word sets or texts by stable hashes, not personas, so it stays true when shards come,
change or go. All shards that have one of its sides hold it: while that side is anywhere, the pair
is there, whichever shard is compared again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import duckdb
import numpy as np
import polars as pl

from persona_pipeline.dedup.duplicates import fingerprint, with_scores, word_set_pairs
from persona_pipeline.dedup.resolve import FINGERPRINTS, PAIRS
from persona_pipeline.dedup.resources import Resources
from persona_pipeline.dedup.rules import TOLERANCE, Comparison, Thresholds
from persona_pipeline.dedup.set_cache import SetCache
from persona_pipeline.dedup.surface import (
    KeyedSets,
    are_among,
    are_shared,
    distinct_sets,
)
from persona_pipeline.dedup.text_vectors import CELLS_VERSION, EXACT_UP_TO, similar_texts
from persona_pipeline.dedup.word_sets import LEARNED_TEXTS, TOKENIZER_VERSION, Vocabulary, encode
from persona_pipeline.hashing import stable_id
from persona_pipeline.personas.candidates import quality
from persona_pipeline.personas.vectors import read_vectors
from persona_pipeline.settings import Settings
from persona_pipeline.sql_files import fetch, read_sql
from persona_pipeline.stages import StageRows
from persona_pipeline.store import Store

STAGE = "comparison"
NO_FINGERPRINTS = pl.DataFrame(schema={**FINGERPRINTS, "is_repeated": pl.Boolean}).drop(
    "shard_number"
)
NO_PAIRS = pl.DataFrame(schema=PAIRS)
COMPARED = {"version": pl.String, "min_jaccard": pl.Float64, "min_cosine": pl.Float64}


@dataclass(frozen=True, slots=True)
class DedupPlan:
    """How a project's personas are deduplicated."""

    thresholds: Thresholds
    comparison: Comparison
    embedding_model: str
    cache: SetCache
    resources: Resources
    exact_up_to: int = EXACT_UP_TO
    """Personas in the first shards, whose texts are compared exactly by meaning."""


def dedup_plan(settings: Settings) -> DedupPlan:
    """What the settings ask for."""
    thresholds = Thresholds(
        settings.jaccard_threshold, settings.cosine_threshold, settings.fuzzy_threshold
    )
    comparison = Comparison.for_thresholds(thresholds, settings.pairs_from, settings.dedup_method)
    return DedupPlan(
        thresholds=thresholds,
        comparison=comparison,
        embedding_model=settings.embedding_model,
        cache=SetCache(settings.dedup_dir, comparison.joined_from),
        resources=Resources(settings.memory, settings.threads),
    )


@dataclass(frozen=True, slots=True)
class ShardState:
    """A shard's candidates as they are, and when they were last compared."""

    shard: str
    shard_number: int
    candidate_count: int
    candidates_at: str | None
    vectors_at: str | None
    version: str | None
    """Of the last comparison."""


def read_states(connection: duckdb.DuckDBPyConnection, plan: DedupPlan) -> list[ShardState]:
    """Every shard that has or had candidates, in line."""
    rows = fetch(connection, read_sql("personas/shard_states"), {"model": plan.embedding_model})
    return [ShardState(**row) for row in rows.iter_rows(named=True)]


def current_versions(states: Sequence[ShardState], plan: DedupPlan) -> dict[str, str | None]:
    """Of the comparison that each shard should have; None: it has nothing to compare.

    Where there are late shards, their texts are compared in cells that are learned from the early
    ones. All shards have the pairs that these cells find, so all are compared again when an early
    one changes.
    """
    is_semantic = plan.comparison.min_cosine is not None
    early, cells = early_shards(states, plan), None
    if is_semantic and any(s.candidate_count and s.shard not in early for s in states):
        learned_from = [f"{s.candidates_at} {s.vectors_at}" for s in states if s.shard in early]
        cells = stable_id(CELLS_VERSION, *learned_from)
    versions = dict[str, str | None]()
    for state in states:
        vectors = f"{plan.embedding_model} {state.vectors_at}" if is_semantic else None
        comparison = plan.comparison.version_text()
        parts = [state.candidates_at, vectors, comparison, TOKENIZER_VERSION, cells]
        versions[state.shard] = stable_id(*parts) if state.candidate_count else None
    return versions


def early_shards(states: Sequence[ShardState], plan: DedupPlan) -> set[str]:
    """The first shards in line, until they have as many vectors as are compared exactly."""
    early, count = set[str](), 0
    for state in states:
        if state.candidate_count and count < plan.exact_up_to:
            early.add(state.shard)
            count += state.candidate_count if state.vectors_at else 0
    return early


def sets_version(state: ShardState) -> str:
    """Of the word sets of a shard, which no threshold changes."""
    return stable_id(state.candidates_at, TOKENIZER_VERSION)


def compare_shards(store: Store, plan: DedupPlan) -> list[StageRows]:
    """Fingerprints and pairs of every shard that has changed since it was last compared."""
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
    """Fingerprints of the changed shards by name, and their pairs with everything."""
    changed = personas["shard"].unique().to_list()
    vocabulary = plan.cache.vocabulary(
        lambda: _sample(store, states), sum(state.candidate_count for state in states)
    )
    encoded = encode(personas["persona"], vocabulary, threads=plan.resources.threads)
    fingerprints = fingerprint(personas, encoded, quality(personas)).with_columns(personas["shard"])
    sets = distinct_sets(encoded)
    unchanged = [state for state in states if state.candidate_count and state.shard not in changed]
    known = [_known_sets(store, plan, state, vocabulary) for state in unchanged]
    if known and plan.comparison.joined_from:
        sets = sets.with_join_keys(plan.comparison.joined_from)  # for the join, and to be kept
    _keep_sets(plan, states, fingerprints, sets)
    fingerprints = fingerprints.with_columns(is_repeated=_are_repeated(fingerprints, sets, known))
    texts = personas.select("persona").with_columns(key=fingerprints["set_key"])
    found = [
        _surface(store, plan, texts, word_set_pairs(sets, known, plan.comparison, plan.resources))
    ]
    if plan.comparison.min_cosine is not None:
        known_shards = [state.shard for state in unchanged]
        early = early_shards(states, plan)
        vectors = read_vectors(store, plan.embedding_model, fingerprints, known_shards, early)
        least = plan.comparison.min_cosine - TOLERANCE
        found += [similar_texts(each, least, plan.resources) for each in vectors]
    pairs = _with_holders(pl.concat(found), fingerprints, is_all=not unchanged)
    return _by_shard(fingerprints.drop("shard_number")), _by_shard(pairs)


def _known_sets(
    store: Store, plan: DedupPlan, state: ShardState, vocabulary: Vocabulary
) -> KeyedSets:
    def texts() -> pl.Series:
        with store.connect(read_only=True) as connection:
            return _candidates(connection, [state.shard])["persona"]

    return plan.cache.sets(state.shard, sets_version(state), texts, vocabulary)


def _surface(
    store: Store, plan: DedupPlan, texts: pl.DataFrame, pairs: pl.DataFrame
) -> pl.DataFrame:
    """The pairs with their scores; `texts` (key, persona) has the sets of the changed shards."""
    if plan.comparison.has_scores:
        wanted = pl.concat([pairs["first_key"], pairs["second_key"]]).unique()
        others = wanted.filter(~wanted.is_in(texts["key"].implode())).to_frame("key")
        query = read_sql("personas/texts_of_sets")
        texts = pl.concat(
            [texts, store.query(query, frames={"wanted_sets": others}).select(texts.columns)]
        )
    return with_scores(pairs, texts, plan.comparison, plan.resources)


def _are_repeated(
    fingerprints: pl.DataFrame, sets: KeyedSets, known: Sequence[KeyedSets]
) -> pl.Series:
    """Whether others have the same words; true for texts without words, which are no sets."""
    alone = pl.Series(sets.keys[~are_shared(sets, known)])
    keys = fingerprints["set_key"]
    return keys.is_duplicated() | ~keys.is_in(alone.implode())


def _with_holders(pairs: pl.DataFrame, fingerprints: pl.DataFrame, *, is_all: bool) -> pl.DataFrame:
    """A row for each shard of the fingerprints that is to hold the pair.

    Where these are all shards, those with one side are enough: the side that is in fewer. Else all
    that have a side, as which one the others hold is not known here. For 2 million personas in 11
    shards: 1.3 rows a pair instead of 3.4.
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
    """`places` (shard, side) has every shard that has the set or text."""
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
    """Cache each changed shard's own sets; those of shards without candidates go."""
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
    """Candidates of the first shards, enough to learn the frequency of words from."""
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


def shards_without_vectors(store: Store, plan: DedupPlan) -> list[str]:
    """Shards that cannot be compared by meaning, although the plan asks for it."""
    with store.connect(read_only=True) as connection:
        return without_vectors(read_states(connection, plan), plan)


def without_vectors(states: Sequence[ShardState], plan: DedupPlan) -> list[str]:
    """Those of the shards that cannot be compared by meaning, although the plan asks for it."""
    if plan.comparison.min_cosine is None:
        return []
    return [state.shard for state in states if state.candidate_count and not state.vectors_at]


def _compared(version: str | None, comparison: Comparison) -> pl.DataFrame:
    row = (version, comparison.min_jaccard, comparison.min_cosine)
    return pl.DataFrame([] if version is None else [row], schema=COMPARED, orient="row")
