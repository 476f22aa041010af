"""What the stored personas were compared and decided with, whatever the settings say by now."""

from dataclasses import dataclass

from persona_pipeline.dedup.rules import Thresholds
from persona_pipeline.personas.comparison import (
    DedupPlan,
    current_versions,
    read_states,
    without_vectors,
)
from persona_pipeline.personas.deduplication import undecided_shards
from persona_pipeline.sql_files import fetch, read_sql
from persona_pipeline.store import Store


@dataclass(frozen=True, slots=True)
class Applied:
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


def read_applied(store: Store, plan: DedupPlan) -> Applied:
    """What the shards rest on, and which of them do not rest on `plan`."""
    with store.connect(read_only=True) as connection:
        compared = fetch(connection, read_sql("personas/compared_from")).row(0, named=True)
        decided = fetch(connection, read_sql("personas/decided_at"))
        states = read_states(connection, plan)
        undecided = undecided_shards(connection, plan)
    versions = current_versions(states, plan)
    return Applied(
        **compared,
        thresholds=[Thresholds(**row) for row in decided.iter_rows(named=True)],
        uncompared=[state.shard for state in states if state.version != versions[state.shard]],
        undecided=undecided,
        without_vectors=without_vectors(states, plan),
    )
