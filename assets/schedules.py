"""Build the schedule that runs shards with work left."""

from collections.abc import Iterator, Sequence

import dagster as dg

from assets.shard_assets import SHARDS, add_shards, shards_of_run
from persona_pipeline.pending_shards import PendingShard, find_pending
from persona_pipeline.project import Project

USUAL_TIME = "0 2 * * *"
ACTIVE = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


def build_schedule(project: Project, main_job: str, stages: Sequence[str]) -> dg.ScheduleDefinition:
    """Build the schedule `nightly`, which runs every shard that has work left.

    Shards that stopped at a budget or a wrong key are left alone.

    Args:
        project: the data and the settings.
        main_job: the name of the job to run.
        stages: the names of the stages that every shard should have.
    """
    settings = project.settings

    @dg.schedule(
        name="nightly",
        job_name=main_job,
        cron_schedule=settings.schedule or USUAL_TIME,
        default_status=(
            dg.DefaultScheduleStatus.RUNNING
            if settings.schedule
            else dg.DefaultScheduleStatus.STOPPED
        ),
        description="Runs shards that never ran, whose input has changed, or whose calls failed.",
    )
    def nightly(
        context: dg.ScheduleEvaluationContext,
    ) -> Iterator[dg.RunRequest | dg.SkipReason]:
        store = project.published
        if not store.is_current():
            yield dg.SkipReason(f"there is no {settings.snapshot} of this version yet")
            return
        pending = find_pending(store, stages)
        _warn_of_stopped(context, pending)
        wanted = [row for row in pending if not row.stopped_stage]
        if not wanted:
            yield dg.SkipReason(f"nothing to run; {len(pending)} stopped shards left alone")
            return
        add_shards(context.instance, store)  # a new instance has no partitions
        day = context.scheduled_execution_time.isoformat()
        at_work = _shards_at_work(context.instance)
        for row in wanted:
            if row.shard in at_work:
                context.log.info("shard %s has a run that has not ended", row.shard)
            else:
                key, tags = f"{row.shard} {day}", {"persona_pipeline/why": row.why}
                yield dg.RunRequest(run_key=key, partition_key=row.shard, tags=tags)

    return nightly


def _warn_of_stopped(
    context: dg.ScheduleEvaluationContext, pending: Sequence[PendingShard]
) -> None:
    """Log each shard that stopped at a budget or a wrong key: no automation runs it."""
    for row in pending:
        if row.stopped_stage:
            context.log.warning(
                "shard %s is left alone: its stage %s stopped (%s); run it by hand",
                row.shard,
                row.stopped_stage,
                row.stopped_reason,
            )


def _shards_at_work(instance: dg.DagsterInstance) -> set[str]:
    """Return the shards that have a run that is queued or going on. A batch takes up to a day."""
    partitions = instance.get_dynamic_partitions(str(SHARDS.name))
    active = instance.get_runs(dg.RunsFilter(statuses=ACTIVE))
    return {shard for run in active for shard in shards_of_run(run, partitions)}
