"""Collecting a provider's batches when nobody waits for them."""

import time
from collections.abc import Iterator

import dagster as dg

from assets.stage_runs import SHARDS
from persona_pipeline.llm.batches.collecting import collect_finished
from persona_pipeline.settings import Settings

SENSOR = "finished_batches"
AGAIN_AFTER = 3600
"""Seconds after which a run is requested again whose answers nobody took: it failed."""
INTERVAL = 60
"""Seconds between two looks at the providers."""


def build_batch_sensor(settings: Settings, job: str) -> dg.SensorDefinition:
    """Runs the job for a shard when a batch of its requests is finished; on with `batch` only."""

    @dg.sensor(
        name=SENSOR,
        job_name=job,
        minimum_interval_seconds=INTERVAL,
        default_status=(
            dg.DefaultSensorStatus.RUNNING if settings.batch else dg.DefaultSensorStatus.STOPPED
        ),
        description="Fetches finished batches; a run of their shard then takes the answers.",
    )
    def finished_batches(
        context: dg.SensorEvaluationContext,
    ) -> Iterator[dg.RunRequest | dg.SkipReason]:
        if not settings.batch:
            yield dg.SkipReason("runs here would buy the answers again: set batch")
            return
        hour = int(time.time() // AGAIN_AFTER)
        for batch in collect_finished(settings):
            if context.instance.has_dynamic_partition(str(SHARDS.name), batch.shard):
                key = f"{batch.batch_id} {hour}"
                yield dg.RunRequest(run_key=key, partition_key=batch.shard)

    return finished_batches
