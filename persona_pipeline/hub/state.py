"""Read what the stored personas were compared and decided with, whatever the settings say now."""

from collections.abc import Sequence
from dataclasses import dataclass

import duckdb

from persona_pipeline.dedup.rules import Thresholds
from persona_pipeline.dedup.vectors.search import IVF_VERSION
from persona_pipeline.dedup.words.word_sets import (
    TOKENIZER_VERSION,
)
from persona_pipeline.hashing import stable_id
from persona_pipeline.hub.plan import DedupPlan
from persona_pipeline.sql import fetch, read_sql
from persona_pipeline.store.store import Store


@dataclass(frozen=True, slots=True)
class DedupState:
    """Settings that the data rests on, and the shards that do not rest on those of now.

    `min_jaccard`, `min_cosine`: from where on pairs are stored; None: not known, or none are.
    `thresholds`: of all shards that were decided; none: not known, several: a run was cut off.
    """

    min_jaccard: float | None
    min_cosine: float | None
    thresholds: list[Thresholds]
    uncompared: list[str]
    undecided: list[str]
    without_vectors: list[str]
    """Shards that cannot be compared by meaning, although `plan` asks for it."""


def read_dedup_state(store: Store, plan: DedupPlan) -> DedupState:
    """What the shards rest on, and which of them do not rest on `plan`."""
    with store.connect(read_only=True) as connection:
        compared = fetch(connection, read_sql("personas/compared_from")).row(0, named=True)
        decided = fetch(connection, read_sql("personas/decided_at"))
        states = read_states(connection, plan)
        undecided = undecided_shards(connection, plan)
    versions = current_versions(states, plan)
    return DedupState(
        **compared,
        thresholds=[Thresholds(**row) for row in decided.iter_rows(named=True)],
        uncompared=[state.shard for state in states if state.version != versions[state.shard]],
        undecided=undecided,
        without_vectors=without_vectors(states, plan),
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
    """Every shard that has or had candidates, in rank order."""
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
        cells = stable_id(IVF_VERSION, *learned_from)
    versions = dict[str, str | None]()
    for state in states:
        vectors = f"{plan.embedding_model} {state.vectors_at}" if is_semantic else None
        comparison = plan.comparison.version_text()
        parts = [state.candidates_at, vectors, comparison, TOKENIZER_VERSION, cells]
        versions[state.shard] = stable_id(*parts) if state.candidate_count else None
    return versions


def early_shards(states: Sequence[ShardState], plan: DedupPlan) -> set[str]:
    """The first shards in rank order, until they have as many vectors as are compared exactly."""
    early, count = set[str](), 0
    for state in states:
        if state.candidate_count and count < plan.exact_up_to:
            early.add(state.shard)
            count += state.candidate_count if state.vectors_at else 0
    return early


def sets_version(state: ShardState) -> str:
    """Of the word sets of a shard, which no threshold changes."""
    return stable_id(state.candidates_at, TOKENIZER_VERSION)


def shards_without_vectors(store: Store, plan: DedupPlan) -> list[str]:
    """Shards that cannot be compared by meaning, although the plan asks for it."""
    with store.connect(read_only=True) as connection:
        return without_vectors(read_states(connection, plan), plan)


def without_vectors(states: Sequence[ShardState], plan: DedupPlan) -> list[str]:
    """Those of the shards that cannot be compared by meaning, although the plan asks for it."""
    if plan.comparison.min_cosine is None:
        return []
    return [state.shard for state in states if state.candidate_count and not state.vectors_at]


@dataclass(frozen=True, slots=True)
class Decision:
    """What a shard's comparison and its duplicates rest on: versions, None where there are none."""

    shard: str
    shard_number: int
    version: str | None
    basis: str | None


def undecided_shards(connection: duckdb.DuckDBPyConnection, plan: DedupPlan) -> list[str]:
    """Shards whose duplicates rest on other comparisons or thresholds than those of now."""
    decisions = read_decisions(connection)
    bases = decision_bases(decisions, plan)
    return [each.shard for each in decisions if each.basis != bases.get(each.shard)]


def read_decisions(connection: duckdb.DuckDBPyConnection) -> list[Decision]:
    """Every shard that was compared or decided, in rank order."""
    rows = fetch(connection, read_sql("personas/decided_shards"))
    return [Decision(**row) for row in rows.iter_rows(named=True)]


def decision_bases(decisions: Sequence[Decision], plan: DedupPlan) -> dict[str, str]:
    """What each shard's decisions rest on: the thresholds, and all comparisons up to it."""
    bases, basis = dict[str, str](), stable_id(plan.thresholds.version_text())
    for decision in decisions:
        if decision.version is not None:
            basis = stable_id(basis, decision.version)
            bases[decision.shard] = basis
    return bases
