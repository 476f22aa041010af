"""Build the code location from the settings: assets, checks, jobs and resources."""

import dagster as dg

from assets.checks import build_checks
from assets.corpus import build_corpus_assets
from assets.hub import build_hub_assets
from assets.jobs import MAIN_JOB, SCAN_JOB, build_jobs
from assets.marts import build_mart_assets
from assets.personas import build_persona_assets
from assets.resources import Models, StoreResource
from assets.schedules import build_schedule
from assets.sensors import (
    build_automation_sensor,
    build_batch_sensor,
    build_inbox_sensor,
)
from assets.shared_tables import build_shared_table_assets
from assets.synthetic import build_synthetic_assets
from persona_pipeline.project import Project
from persona_pipeline.settings import Settings
from persona_pipeline.stage_names import funnel_stages


def build_definitions(project: Project, models: Models | None = None) -> dg.Definitions:
    """Build the code location of a project; `models` replaces the models of the settings."""
    stages, jobs = funnel_stages(project.domains), build_jobs()
    return dg.Definitions(
        assets=[
            *build_corpus_assets(project),
            *build_persona_assets(project),
            *build_hub_assets(project),
            *build_synthetic_assets(project),
            build_shared_table_assets(project),
            *build_mart_assets(project),
        ],
        asset_checks=build_checks(project),
        jobs=list(jobs.values()),
        sensors=[
            build_batch_sensor(project, MAIN_JOB),
            build_inbox_sensor(project, jobs[SCAN_JOB], jobs[MAIN_JOB]),
            build_automation_sensor(),
        ],
        schedules=[build_schedule(project, MAIN_JOB, stages)],
        resources={
            "duckdb": _store(project.settings),
            "models": models or Models(project.settings),
        },
        # One process per run. The default, a process per step, costs 13.5 CPU-seconds instead of 3
        # and loads the embedded model again for every step. Calls run concurrently anyway.
        executor=dg.in_process_executor,
    )


def _store(settings: Settings) -> StoreResource:
    return StoreResource(
        database=str(settings.database),
        snapshot=str(settings.snapshot),
        lock_timeout=settings.lock_timeout,
    )
