"""Open the store and the journal for one shard, commit its rows, and report what was bought."""

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import dagster as dg
import duckdb
import polars as pl

from assets.metadata.tables import Metadata
from assets.resources import Models
from persona_pipeline.errors import PipelineError
from persona_pipeline.llm.batches.records import forget_bought
from persona_pipeline.llm.errors import ModelError
from persona_pipeline.llm.gateway.budget import BudgetExceeded
from persona_pipeline.llm.gateway.context import StageUsage
from persona_pipeline.llm.gateway.gateway import Gateway
from persona_pipeline.llm.gateway.journal import Journal
from persona_pipeline.llm.prices import known_sum
from persona_pipeline.locks import exclusive_lock
from persona_pipeline.models import check_prices
from persona_pipeline.pending_shards import stop_of
from persona_pipeline.store.done_steps import DoneStep, Step, Undone, mark_done
from persona_pipeline.store.stage_rows import StageRows
from persona_pipeline.store.store import Store

Resources = tuple[Store, Models]
"""The store and the models that Dagster gives an asset."""


@dataclass(frozen=True, slots=True)
class Task:
    """What is done for a shard, and why.

    Attributes:
        step: the step.
        why: why it is done.
        inputs: what it reads of each shard, as `Store.inputs_of` spelled it before it began.
        due: the shards of the Dagster run for which it is to be done.
    """

    step: Step
    why: Undone
    inputs: Mapping[str, str]
    due: Sequence[str]


@dataclass(frozen=True)
class StageRun:
    """One asset's work on one shard."""

    store: Store
    journal: Journal
    shard: str
    run_id: str
    batches_dir: Path
    models: Models
    task: Task
    totals: dict[str, StageUsage] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    """Stages that have begun to buy."""
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC).replace(tzinfo=None))
    touched: set[str] = field(default_factory=set)
    """Shards whose rows were replaced. Deduplication may replace rows of other shards, too."""

    def read(self, sql: str, **parameters: object) -> pl.DataFrame:
        """Return the rows of a SELECT. The parameter `$shard` is set if the statement names it."""
        if re.search(r"\$shard\b", sql):
            parameters["shard"] = self.shard
        return self.store.query(sql, parameters)

    def gateway(self, stage: str) -> Gateway:
        """Return a gateway that answers the stage's requests from the store or from a model."""
        models = self.models
        self.asked.append(stage)
        check_prices(models.settings)
        models.endpoints.shard = self.shard
        return Gateway(
            endpoints=models.endpoints,
            journal=self.journal,
            store=self.store,
            budget=models.budget,
            fallbacks=tuple(models.settings.models_for(stage)[1:]),
            options=models.settings.request_options,
            usage=self.totals,
        )

    def commit(self, rows: Sequence[StageRows], *, is_last: bool = True) -> Metadata:
        """Write the rows and the calls bought for them; return what was bought.

        The last commit marks the step as done, for this shard and those that the rows are of.
        """
        shards = frozenset(row.shard for row in rows)
        self.touched.update(shards)
        not_stopped = [stop_of(self.shard, stage) for stage in self.asked]
        then = partial(self._finish, shards | {self.shard}) if is_last else None
        self._replace([*rows, *not_stopped], then)
        return _spending(self.totals.values())

    def stop(self, error: PipelineError) -> Metadata:
        """Write the calls, and why the stage stopped before its end; return what was bought."""
        self._replace([stop_of(self.shard, stage, error) for stage in self.asked])
        return _spending(self.totals.values())

    def _replace(
        self,
        rows: Sequence[StageRows],
        then: Callable[[duckdb.DuckDBPyConnection], None] | None = None,
    ) -> None:
        journals, now = self.journal.to_commit(), self.started_at
        self.store.replace(rows, journals, run_id=self.run_id, read_at=now, then=then)
        self.journal.committed()
        forget_bought(self.batches_dir, self.store)

    def _finish(self, shards: frozenset[str], connection: duckdb.DuckDBPyConnection) -> None:
        """Mark the step as done for these shards."""
        mark_done(connection, DoneStep(self.task.step, self.task.inputs, shards), self.run_id)


@contextmanager
def stage_run(task: Task, shard: str, run_id: str, resources: Resources) -> Iterator[StageRun]:
    """Lock the shard for this process, and open its journal.

    A stage that stops writes its calls to the database. It allows no retry by Dagster, since a
    retry would meet the same cap or the same key.

    Raises:
        Failure: the stage stopped at a budget, or no model can be used.
    """
    store, models = resources
    folder = models.settings
    with exclusive_lock(folder.locks_dir / shard), Journal(folder.journal_dir) as journal:
        run = StageRun(store, journal, shard, run_id, folder.batches_dir, models, task)
        try:
            yield run
        except (BudgetExceeded, ModelError) as error:
            usage = run.stop(error)
            raise dg.Failure(str(error), metadata=usage, allow_retries=False) from error


def _spending(stages: Collection[StageUsage]) -> Metadata:
    """Return what was bought, for the asset's page. There is no cost if a price is unknown."""
    cost = known_sum(totals.cost_usd for totals in stages)
    seconds = sum(totals.seconds for totals in stages)
    asked = sum(totals.bought + totals.failed + totals.refused for totals in stages)
    refused = sum(totals.refused for totals in stages)
    return {
        "calls_reused": sum(totals.reused for totals in stages),
        "calls_bought": sum(totals.bought for totals in stages),
        "calls_invalid": sum(totals.invalid for totals in stages),
        "calls_failed": sum(totals.failed for totals in stages),
        "calls_per_second": round(asked / seconds, 1) if seconds else 0.0,
        "refused_for_pace_share": round(refused / asked, 4) if asked else 0.0,
        "tokens_in": sum(totals.tokens_in for totals in stages),
        "tokens_cached": sum(totals.tokens_cached for totals in stages),
        "tokens_out": sum(totals.tokens_out for totals in stages),
        **({} if cost is None else {"cost_usd": cost}),
    }
