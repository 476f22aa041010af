"""Build the sensors for watched places, finished batches and automation conditions."""

import time
from collections.abc import Iterator, Sequence
from functools import partial

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from assets.shard_assets import SHARDS
from persona_pipeline.corpus.addresses import redact
from persona_pipeline.corpus.watching import ScanResult, scan
from persona_pipeline.errors import SourceError
from persona_pipeline.llm.batches.collection import collect_finished
from persona_pipeline.models import open_batch_api
from persona_pipeline.pending_shards import new_shards
from persona_pipeline.project import Project
from persona_pipeline.store.store import Store

JobDefinition = UnresolvedAssetJobDefinition
INBOX_SENSOR = "inbox"
TRY_AGAIN_AFTER = 3600
"""Seconds after which a scan or run that failed is requested again, though nothing has changed."""


def build_inbox_sensor(
    project: Project, scanning: JobDefinition, running: JobDefinition
) -> dg.SensorDefinition:
    """Build the sensor `inbox`.

    It requests a scan when a watched place has changed, and then a run of each new shard. It
    requests each of them once.

    Args:
        project: the data and the settings.
        scanning: the job that ingests changes.
        running: the job that runs a shard.
    """
    settings = project.settings

    @dg.sensor(
        name=INBOX_SENSOR,
        jobs=[scanning, running],
        minimum_interval_seconds=settings.watch_seconds,
        default_status=(
            dg.DefaultSensorStatus.RUNNING if settings.watch else dg.DefaultSensorStatus.STOPPED
        ),
        description="Ingests what is new in the watched places, and runs the new shards.",
    )
    def inbox(
        context: dg.SensorEvaluationContext,
    ) -> Iterator[dg.RunRequest | dg.SkipReason]:
        if not settings.watch:
            yield dg.SkipReason("no place is watched: set watch")
            return
        store = project.published
        if not store.is_current():
            yield dg.RunRequest(run_key=f"first {_hour()}", job_name=scanning.name)
            return
        requests, messages = _scan_places(store, settings.watch, scanning)
        for shard, registration in new_shards(store, settings.watch):
            if context.instance.has_dynamic_partition(str(SHARDS.name), shard):
                key = f"{shard} {registration}"
                requests.append(
                    dg.RunRequest(run_key=key, job_name=running.name, partition_key=shard)
                )
        yield from requests
        if not requests:
            yield dg.SkipReason("; ".join(messages))

    return inbox


def _scan_places(
    store: Store, places: Sequence[str], scanning: JobDefinition
) -> tuple[list[dg.RunRequest], list[str]]:
    """Return a request for each place that has changed, and a message about every place."""
    requests, messages = list[dg.RunRequest](), list[str]()
    for place in places:
        try:
            seen = scan(store, place)
        except SourceError as error:
            messages.append(str(error))
            continue
        messages.append(_describe(seen))
        if not seen.is_idle:
            key = f"{redact(place)} {seen.version} {_hour()}"
            requests.append(dg.RunRequest(run_key=key, job_name=scanning.name))
    return requests, messages


def _hour() -> int:
    """Return the hour, as part of a key: what failed is requested again in another hour."""
    return int(time.time() // TRY_AGAIN_AFTER)


def _describe(seen: ScanResult) -> str:
    waiting = f", {len(seen.waiting)} being written" if seen.waiting else ""
    counts = f"{len(seen.to_read)} files to read, {len(seen.gone)} gone"
    return f"{redact(seen.place)}: {counts}{waiting}"


def build_automation_sensor() -> dg.AutomationConditionSensorDefinition:
    """Build the sensor that evaluates the automation conditions. It is off until switched on."""
    return dg.AutomationConditionSensorDefinition(
        "refresh",
        target=dg.AssetSelection.all(),
        default_status=dg.DefaultSensorStatus.STOPPED,
        description="Runs assets that buy nothing after the rows they are made from have changed.",
    )


BATCH_SENSOR = "finished_batches"
INTERVAL = 60
"""Seconds between two polls of the providers."""


def build_batch_sensor(project: Project, job: str) -> dg.SensorDefinition:
    """Build the sensor that runs the job for a shard when a batch of its requests is finished.

    It is on with the setting `batch` only.
    """
    settings = project.settings

    @dg.sensor(
        name=BATCH_SENSOR,
        job_name=job,
        minimum_interval_seconds=INTERVAL,
        default_status=(
            dg.DefaultSensorStatus.RUNNING if settings.batch else dg.DefaultSensorStatus.STOPPED
        ),
        description="Fetches finished batches; a run of their shard then uses the answers.",
    )
    def finished_batches(
        context: dg.SensorEvaluationContext,
    ) -> Iterator[dg.RunRequest | dg.SkipReason]:
        if not settings.batch:
            yield dg.SkipReason("runs here would buy the answers again: set batch")
            return
        hour = _hour()
        open_api = partial(open_batch_api, settings)
        for batch in collect_finished(settings.batches_dir, open_api):
            if context.instance.has_dynamic_partition(str(SHARDS.name), batch.shard):
                key = f"{batch.batch_id} {hour}"
                yield dg.RunRequest(run_key=key, partition_key=batch.shard)

    return finished_batches
