"""Read what the stored personas were compared and decided with, and what is out of date.

A shard is *compared* once its pairs are stored, and *decided* once its duplicates are stored. Each
leaves a version in the database. A shard is out of date when the plan of now gives another version.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import duckdb

from persona_pipeline.dedup.rules import Thresholds
from persona_pipeline.dedup.vectors.search import IVF_VERSION
from persona_pipeline.dedup.words.word_sets import TOKENIZER_VERSION
from persona_pipeline.hashing import stable_id
from persona_pipeline.hub.plan import DedupPlan
from persona_pipeline.sql import fetch, read_sql
from persona_pipeline.store.store import Store


@dataclass(frozen=True, slots=True)
class DedupState:
    """The settings that shards were compared and decided with, and the shards to do again.

    `thresholds` holds every combination that shards were decided with. It is empty if none is
    known. It holds several if a run was cut off between two shards.
    """

    min_jaccard: float | None
    """Jaccard similarity from which on all pairs are stored; None: not known."""
    min_cosine: float | None
    """Cosine similarity from which on all pairs are stored; None: not known, or not compared."""
    with_few_pairs: list[str]
    """Shards with too many pairs: of these, only those of a removed persona and its keeper."""
    thresholds: list[Thresholds]
    uncompared: list[str]
    """Shards to compare again under the plan."""
    undecided: list[str]
    """Shards whose duplicates must be decided again under the plan."""
    without_vectors: list[str]
    """Shards that have no vectors although the plan compares by meaning."""


@dataclass(frozen=True, slots=True)
class ShardState:
    """What a shard's candidates are now, and the version of their last comparison."""

    shard: str
    shard_number: int
    candidate_count: int
    candidates_at: str | None
    """When the candidates were written; None: the shard has none any more."""
    vectors_at: str | None
    """When the vectors were written; None: there are none of this embedding model."""
    version: str | None
    """Version of the last comparison; None: never compared."""


@dataclass(frozen=True, slots=True)
class Decision:
    """The versions of a shard's comparison and of its duplicates."""

    shard: str
    shard_number: int
    version: str | None
    """Version of the comparison; None: never compared."""
    basis: str | None
    """Hash of what the duplicates were decided from; None: never decided."""


DECIDED_AT_SQL: Final = """
-- One row per combination of thresholds that shards were decided with.
-- reads: runs.resolved
select distinct jaccard_threshold as jaccard, cosine_threshold as cosine, fuzzy_threshold as fuzzy
from runs.resolved
where jaccard_threshold is not null
order by all
"""


def read_dedup_state(store: Store, plan: DedupPlan) -> DedupState:
    """Read what all shards were compared and decided with, and find those that differ from `plan`.

    Args:
        store: the database with `runs.compared` and `runs.resolved`.
        plan: the present settings of deduplication.
    """
    with store.connect(read_only=True) as connection:
        min_jaccard, min_cosine = read_compared_from(connection)
        decided = fetch(connection, DECIDED_AT_SQL)
        states = read_states(connection, plan)
        undecided = undecided_shards(connection, plan)
        with_few_pairs = read_with_few_pairs(connection)
    return DedupState(
        min_jaccard=min_jaccard,
        min_cosine=min_cosine,
        with_few_pairs=with_few_pairs,
        thresholds=[Thresholds(**row) for row in decided.iter_rows(named=True)],
        uncompared=[state.shard for state in stale_states(states, plan)],
        undecided=undecided,
        without_vectors=_without_vectors(states, plan),
    )


WITH_FEW_PAIRS_SQL: Final = """
-- One row per shard of which only the pairs that decided are stored.
-- reads: runs.compared
select shard
from runs.compared
where not has_all_pairs
order by shard
"""


COMPARED_FROM_SQL: Final = """
-- One row: the similarities from which on every compared shard holds its pairs; null: not known.
-- reads: runs.compared
select max(min_jaccard) as min_jaccard, max(min_cosine) as min_cosine
from runs.compared
"""


def read_compared_from(
    connection: duckdb.DuckDBPyConnection,
) -> tuple[float | None, float | None]:
    """Return the least Jaccard similarity and cosine that every compared shard stores pairs from.

    None stands for a similarity that no shard has stored.
    """
    min_jaccard, min_cosine = fetch(connection, COMPARED_FROM_SQL).row(0)
    return min_jaccard, min_cosine


def read_with_few_pairs(connection: duckdb.DuckDBPyConnection) -> list[str]:
    """List the shards of which only the pairs of a removed persona and its keeper are stored."""
    return [shard for (shard,) in connection.execute(WITH_FEW_PAIRS_SQL).fetchall()]


def read_states(connection: duckdb.DuckDBPyConnection, plan: DedupPlan) -> list[ShardState]:
    """Read every shard that has or had candidates, by shard number."""
    rows = fetch(connection, read_sql("personas/shard_states"), {"model": plan.embedding_model})
    return [ShardState(**row) for row in rows.iter_rows(named=True)]


def current_versions(states: Sequence[ShardState], plan: DedupPlan) -> dict[str, str | None]:
    """Return the version that each shard's comparison should have; None: nothing to compare.

    Vectors of late shards are searched with an IVF index whose centroids are learned from the early
    shards. All shards store pairs that the index finds, so a change in an early shard outdates all.
    """
    is_semantic = plan.comparison.min_cosine is not None
    early, index = early_shards(states, plan), None
    if is_semantic and any(s.candidate_count and s.shard not in early for s in states):
        learned_from = [f"{s.candidates_at} {s.vectors_at}" for s in states if s.shard in early]
        index = stable_id(IVF_VERSION, *learned_from)
    versions = dict[str, str | None]()
    for state in states:
        vectors = f"{plan.embedding_model} {state.vectors_at}" if is_semantic else None
        comparison = plan.comparison.version_text()
        parts = [state.candidates_at, vectors, comparison, TOKENIZER_VERSION, index]
        versions[state.shard] = stable_id(*parts) if state.candidate_count else None
    return versions


def block_versions(states: Sequence[ShardState], plan: DedupPlan) -> dict[str, str | None]:
    """Return the version of each shard's comparison if it stores only the pairs that decided.

    These depend on the thresholds, and on all that is compared of this shard and those before it.
    """
    basis, versions = stable_id("blocks", plan.thresholds.version_text()), dict[str, str | None]()
    for shard, version in current_versions(states, plan).items():
        basis = basis if version is None else stable_id(basis, version)
        versions[shard] = None if version is None else basis
    return versions


def stale_states(states: Sequence[ShardState], plan: DedupPlan) -> list[ShardState]:
    """Return the shards whose comparison is out of date, whether it stores all pairs or few."""
    versions, in_blocks = current_versions(states, plan), block_versions(states, plan)
    return [
        state
        for state in states
        if state.version not in {versions[state.shard], in_blocks[state.shard]}
    ]


def early_shards(states: Sequence[ShardState], plan: DedupPlan) -> set[str]:
    """Return the first shards by number, whose vectors are compared exactly.

    Shards are added until together they have `plan.exact_up_to` vectors.
    """
    early, count = set[str](), 0
    for state in states:
        if state.candidate_count and count < plan.exact_up_to:
            early.add(state.shard)
            count += state.candidate_count if state.vectors_at else 0
    return early


def sets_version(state: ShardState) -> str:
    """Return the version of a shard's cached word sets, which no threshold changes."""
    return stable_id(state.candidates_at, TOKENIZER_VERSION)


def shards_without_vectors(store: Store, plan: DedupPlan) -> list[str]:
    """List the shards that have no vectors although the plan compares by meaning."""
    with store.connect(read_only=True) as connection:
        return _without_vectors(read_states(connection, plan), plan)


def outdated_shards(connection: duckdb.DuckDBPyConnection, plan: DedupPlan) -> list[str]:
    """List the shards that the next run decides again, by shard number.

    These are the first shard that was not compared or decided as it is now, and all after it.
    """
    states = read_states(connection, plan)
    stale = {state.shard for state in stale_states(states, plan)}
    stale.update(undecided_shards(connection, plan))
    places = [place for place, state in enumerate(states) if state.shard in stale]
    return [state.shard for state in states[min(places, default=len(states)) :]]


def undecided_shards(connection: duckdb.DuckDBPyConnection, plan: DedupPlan) -> list[str]:
    """List the shards whose duplicates were decided with other pairs or thresholds than now."""
    decisions = read_decisions(connection)
    bases = decision_bases(decisions, plan)
    return [each.shard for each in decisions if each.basis != bases.get(each.shard)]


DECIDED_SHARDS_SQL: Final = """
-- One row per shard that was compared or decided, with the versions of both, by shard number.
-- reads: runs.compared, runs.resolved, corpus.shards
select shard, coalesce(shards.shard_number, 0) as shard_number, compared.version, resolved.basis
from runs.compared
full join runs.resolved using (shard)
left join corpus.shards using (shard)
order by shard_number, shard
"""


def read_decisions(connection: duckdb.DuckDBPyConnection) -> list[Decision]:
    """Read every shard that was compared or decided, by shard number."""
    rows = fetch(connection, DECIDED_SHARDS_SQL)
    return [Decision(**row) for row in rows.iter_rows(named=True)]


def decision_bases(decisions: Sequence[Decision], plan: DedupPlan) -> dict[str, str]:
    """Return the hash of what each compared shard's duplicates should be decided from.

    It covers the thresholds and the comparisons of all shards up to this one, by shard number.
    """
    bases, basis = dict[str, str](), stable_id(plan.thresholds.version_text())
    for decision in decisions:
        if decision.version is not None:
            basis = stable_id(basis, decision.version)
            bases[decision.shard] = basis
    return bases


def _without_vectors(states: Sequence[ShardState], plan: DedupPlan) -> list[str]:
    if plan.comparison.min_cosine is None:
        return []
    return [state.shard for state in states if state.candidate_count and not state.vectors_at]
