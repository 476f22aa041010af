"""Watched places: an asset that takes in what is new, and the sensor that sees it first."""

import time
from collections.abc import Iterator

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from assets.resources import StoreResource
from assets.stage_runs import OWNERS, REGISTERED, SHARDS, add_shards
from assets.tables import as_markdown, describe_table
from persona_pipeline.corpus.addresses import redact
from persona_pipeline.errors import SourceError
from persona_pipeline.settings import Settings
from persona_pipeline.store import open_published
from persona_pipeline.unfinished import new_shards
from persona_pipeline.watching import Look, look, take_in

Job = UnresolvedAssetJobDefinition
FILES = ["corpus", "files"]
SENSOR = "inbox"
TRY_AGAIN_AFTER = 3600
"""Seconds after which a look is requested again whose run failed, though nothing has changed."""


def build_files_asset(settings: Settings) -> dg.AssetsDefinition:
    """The asset that looks at the watched places."""

    @dg.asset(key=FILES, group_name="corpus", kinds={"python", "duckdb"}, owners=OWNERS)
    def files(
        context: dg.AssetExecutionContext, duckdb: StoreResource
    ) -> dg.MaterializeResult[None]:
        """One row is one file of a watched place: whether it is new, grown, changed or gone.

        Materialize it to take in what is new now; the sensor `inbox` does so by itself. New texts
        become shards of their own, and shards that are there stay as they are.
        """
        store = duckdb.store
        store.migrate()
        registered, problems = list[str](), list[str]()
        try:
            for place in settings.watch:
                try:
                    seen = look(store, place)
                    if not seen.is_idle:
                        registered += take_in(settings, store, seen, run_id=context.run.run_id)
                except SourceError as error:
                    problems.append(str(error))
        finally:
            add_shards(context.instance, store)
        if problems:
            raise dg.Failure("; ".join(problems), allow_retries=False)
        states = store.query("select state, count(*) as files from corpus.files group by state")
        return dg.MaterializeResult(
            data_version=REGISTERED,
            metadata={
                **describe_table(store, "corpus.files"),
                "states": as_markdown(states.sort("state")),
                "registered": registered,
            },
        )

    return files


def build_inbox_sensor(settings: Settings, looking: Job, running: Job) -> dg.SensorDefinition:
    """Requests a look when a watched place has changed, then a run of each new shard; each once."""

    @dg.sensor(
        name=SENSOR,
        jobs=[looking, running],
        minimum_interval_seconds=settings.watch_seconds,
        default_status=(
            dg.DefaultSensorStatus.RUNNING if settings.watch else dg.DefaultSensorStatus.STOPPED
        ),
        description="Takes in what is new in the watched places, and runs the new shards.",
    )
    def inbox(
        context: dg.SensorEvaluationContext,
    ) -> Iterator[dg.RunRequest | dg.SkipReason]:
        if not settings.watch:
            yield dg.SkipReason("no place is watched: set watch")
            return
        store = open_published(settings)
        if not store.is_current():
            yield dg.RunRequest(run_key=f"first {_hour()}", job_name=looking.name)
            return
        requests, told = list[dg.RunRequest](), list[str]()
        for place in settings.watch:
            try:
                seen = look(store, place)
            except SourceError as error:
                told.append(str(error))
                continue
            told.append(_describe(seen))
            if not seen.is_idle:
                key = f"{redact(place)} {seen.version} {_hour()}"
                requests.append(dg.RunRequest(run_key=key, job_name=looking.name))
        for shard, registration in new_shards(store, settings.watch):
            if context.instance.has_dynamic_partition(str(SHARDS.name), shard):
                key = f"{shard} {registration}"
                requests.append(
                    dg.RunRequest(run_key=key, job_name=running.name, partition_key=shard)
                )
        yield from requests
        if not requests:
            yield dg.SkipReason("; ".join(told))

    return inbox


def _hour() -> int:
    """Part of a key: what failed is requested again in another hour."""
    return int(time.time() // TRY_AGAIN_AFTER)


def _describe(seen: Look) -> str:
    waiting = f", {len(seen.waiting)} being written" if seen.waiting else ""
    counts = f"{len(seen.to_read)} files to read, {len(seen.gone)} gone"
    return f"{redact(seen.place)}: {counts}{waiting}"
