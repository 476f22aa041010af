"""Which shards have work left: what sensors and schedules request runs for."""

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from persona_pipeline.corpus.addresses import redact
from persona_pipeline.errors import PipelineError
from persona_pipeline.llm.gateway.attempts import ModelDown
from persona_pipeline.llm.gateway.budget import BudgetExceeded
from persona_pipeline.sql import fetch, read_sql
from persona_pipeline.store.stage_rows import StageRows
from persona_pipeline.store.store import Store

STOPS = {"stage": pl.String, "reason": pl.String, "detail": pl.String}


@dataclass(frozen=True, slots=True)
class PendingShard:
    """A shard, why it is not done, and the stage that stopped at a budget or a bad key, or none."""

    shard: str
    why: str
    stopped_stage: str | None
    stopped_reason: str | None


def stop_of(shard: str, stage: str, error: PipelineError | None = None) -> StageRows:
    """The row of `runs.stops` of a stage that ended by `error`; none of one that went on."""
    rows = list[dict[str, str]]()
    if error is not None and not isinstance(error, ModelDown):  # an outage passes
        reason = "budget" if isinstance(error, BudgetExceeded) else "model"
        rows.append({"stage": stage, "reason": reason, "detail": str(error)})
    stops = pl.DataFrame(rows, schema=STOPS)
    return StageRows(shard, stage, {"runs.stops": stops}, scope={"runs.stops": ("stage", stage)})


def new_shards(store: Store, places: Sequence[str]) -> list[tuple[str, str]]:
    """Shards of these watched places that no run has begun with, and a key of its registration."""
    parameters = {"places": [redact(place) for place in places]}
    with store.connect(read_only=True) as connection:
        rows = fetch(connection, read_sql("corpus/new_shards"), parameters)
    return [(shard, registration) for shard, registration in rows.iter_rows()]


def find_pending(store: Store, stages: Sequence[str]) -> list[PendingShard]:
    """The shards that have not been through all these stages, or not with what there is now."""
    with store.connect(read_only=True) as connection:
        rows = fetch(connection, read_sql("runs/shards_to_run"), {"stages": list(stages)})
    return [PendingShard(**row) for row in rows.iter_rows(named=True)]
