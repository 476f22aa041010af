"""Find the shards that have work left, for which sensors and schedules request runs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import polars as pl

from persona_pipeline.corpus.addresses import redact
from persona_pipeline.errors import PipelineError
from persona_pipeline.llm.gateway.attempts import ModelDown
from persona_pipeline.llm.gateway.budget import BudgetExceeded
from persona_pipeline.sql import fetch, read_sql
from persona_pipeline.store.stage_rows import StageRows
from persona_pipeline.store.store import Store

STOPS = {"stage": pl.String, "reason": pl.String, "detail": pl.String}
"""Columns of `runs.stops`."""


@dataclass(frozen=True, slots=True)
class PendingShard:
    """A shard that has work left."""

    shard: str
    why: str
    """Why the shard is not done, in words."""
    stopped_stage: str | None
    """The stage that stopped at a budget or a wrong key; None: no stage stopped."""
    stopped_reason: str | None
    """`budget` or `model`; None: no stage stopped."""


def stop_of(shard: str, stage: str, error: PipelineError | None = None) -> StageRows:
    """Build the row of `runs.stops` for a stage that `error` ended; no row without an error.

    An outage of the model leaves no row either, since it passes by itself.
    """
    rows = list[dict[str, str]]()
    if error is not None and not isinstance(error, ModelDown):
        reason = "budget" if isinstance(error, BudgetExceeded) else "model"
        rows.append({"stage": stage, "reason": reason, "detail": str(error)})
    stops = pl.DataFrame(rows, schema=STOPS)
    return StageRows(shard, stage, {"runs.stops": stops}, scope={"runs.stops": ("stage", stage)})


NEW_SHARDS_SQL: Final = """
-- One row per shard of a watched place that no run has begun with.
-- reads: corpus.shards, runs.stages   params: $places
select shards.shard, shards.content_hash || ' ' || shards.run_id as registration
from corpus.shards
where
    shards.source_spec in (select unnest($places))
    and shards.shard not in (select stages.shard from runs.stages)
order by shards.shard_number
"""


def new_shards(store: Store, places: Sequence[str]) -> list[tuple[str, str]]:
    """List the shards of these watched places that no run has begun, each with a key.

    The key changes when the shard is registered again.
    """
    parameters = {"places": [redact(place) for place in places]}
    with store.connect(read_only=True) as connection:
        rows = fetch(connection, NEW_SHARDS_SQL, parameters)
    return [(shard, registration) for shard, registration in rows.iter_rows()]


def find_pending(store: Store, stages: Sequence[str]) -> list[PendingShard]:
    """List the shards that lack one of these stages, or whose input has changed since it ran."""
    with store.connect(read_only=True) as connection:
        rows = fetch(connection, read_sql("runs/shards_to_run"), {"stages": list(stages)})
    return [PendingShard(**row) for row in rows.iter_rows(named=True)]
