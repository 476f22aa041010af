"""Explain why a persona was kept or removed, from what deduplication has stored."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from persona_pipeline.errors import PipelineError
from persona_pipeline.sql import read_sql
from persona_pipeline.store.store import Store

NAMED = 5
"""Ids that a message names at most when several share a prefix."""


@dataclass(frozen=True, slots=True)
class Origin:
    """A persona, and the document that its chain begins with."""

    persona_id: str
    persona: str
    shard: str
    origin: str
    title: str | None
    url: str | None


@dataclass(frozen=True, slots=True)
class PersonaRemoval:
    """The keeper of a removed persona, and the similarity that removed it."""

    keeper: Origin | None
    """None: the keeper is no candidate any more, and the shard was not decided again."""
    kept_id: str
    layer: str
    similarity: float
    threshold: float
    fuzzy_score: float | None


@dataclass(frozen=True, slots=True)
class Neighbour:
    """Another persona that has a stored pair with the explained one."""

    persona_id: str
    persona: str
    is_exact: bool
    jaccard: float | None
    fuzzy_score: float | None
    cosine: float | None
    kept_id: str | None
    """Its keeper; None: it is kept."""


@dataclass(frozen=True, slots=True)
class PersonaExplanation:
    """What became of a persona, and the personas that are similar to it."""

    persona: Origin
    is_decided: bool
    """Whether its shard's duplicates are decided."""
    removal: PersonaRemoval | None
    removed: list[Neighbour]
    """Personas that were removed because of it, the least similar first."""
    neighbours: list[Neighbour]
    """All other similar personas, the most similar first."""


def explain(store: Store, prefix: str) -> PersonaExplanation:
    """Explain what became of the candidate whose id is, or begins with, `prefix`.

    Raises:
        PipelineError: no id, or more than one, begins with `prefix`.
    """
    row = _one_candidate(store, prefix)
    persona = _origin(row)
    query = read_sql("cli/dedup_neighbours")
    rows = store.query(query, {"persona_id": persona.persona_id}).to_dicts()
    similar = [Neighbour(**neighbour) for neighbour in rows]
    removed = [other for other in reversed(similar) if other.kept_id == persona.persona_id]
    shown = {other.persona_id for other in removed} | {row["kept_id"]}
    return PersonaExplanation(
        persona=persona,
        is_decided=row["is_decided"],
        removal=_removal(store, row),
        removed=removed,
        neighbours=[other for other in similar if other.persona_id not in shown],
    )


def _one_candidate(store: Store, prefix: str) -> dict[str, Any]:
    rows = _candidates(store, prefix, NAMED + 1)
    if not rows:
        msg = (
            f"no persona's id begins with {prefix!r}: the ids are in personas.candidates; see "
            "personas.rejected for those that the quality rules turned away"
        )
        raise PipelineError(msg)
    whole = [row for row in rows if row["persona_id"] == prefix]
    if len(rows) > 1 and not whole:
        named = ", ".join(row["persona_id"] for row in rows[:NAMED])
        more = " and more" if len(rows) > NAMED else ""
        msg = f"several personas' ids begin with {prefix!r}: {named}{more}; give more of the id"
        raise PipelineError(msg)
    return (whole or rows)[0]


def _candidates(store: Store, prefix: str, count: int) -> list[dict[str, Any]]:
    parameters = {"prefix": prefix, "count": count}
    return store.query(read_sql("cli/dedup_personas"), parameters).to_dicts()


def _origin(row: Mapping[str, Any]) -> Origin:
    return Origin(**{name: row[name] for name in Origin.__slots__})


def _removal(store: Store, row: Mapping[str, Any]) -> PersonaRemoval | None:
    if row["kept_id"] is None:
        return None
    keepers = _candidates(store, row["kept_id"], 1)
    return PersonaRemoval(
        keeper=_origin(keepers[0]) if keepers else None,
        **{name: row[name] for name in PersonaRemoval.__slots__ if name != "keeper"},
    )
