"""The composition root: settings to assets, checks, jobs and resources."""

import dagster as dg

from assets.checks import build_checks
from assets.corpus import build_corpus_assets
from assets.hub import build_selections_asset, build_sweep_asset
from assets.jobs import LOOK_JOB, MAIN_JOB, build_jobs
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
from persona_pipeline.settings import Settings, load_settings
from persona_pipeline.stage_names import funnel_stages


def build_definitions(settings: Settings, models: Models | None = None) -> dg.Definitions:
    """The whole code location; `models` replaces the models that the settings name."""
    domains = list(settings.load_domains().values())
    stages = funnel_stages(domain.name for domain in domains)
    jobs = build_jobs()
    return dg.Definitions(
        assets=[
            *build_corpus_assets(settings),
            *build_persona_assets(settings),
            build_selections_asset(settings),
            build_sweep_asset(settings),
            *build_synthetic_assets(settings, domains),
            build_shared_table_assets(domains),
            *build_mart_assets(settings),
        ],
        asset_checks=build_checks(settings),
        jobs=list(jobs.values()),
        sensors=[
            build_batch_sensor(settings, MAIN_JOB),
            build_inbox_sensor(settings, jobs[LOOK_JOB], jobs[MAIN_JOB]),
            build_automation_sensor(),
        ],
        schedules=[build_schedule(settings, MAIN_JOB, stages)],
        resources={"duckdb": _store(settings), "models": models or Models(settings)},
        # One process per run: the default, a process per step, costs 13.5 CPU-seconds instead of 3
        # and would load the embedded model again for every step. Calls run side by side anyway.
        executor=dg.in_process_executor,
    )


def _store(settings: Settings) -> StoreResource:
    return StoreResource(
        database=str(settings.database),
        snapshot=str(settings.snapshot),
        lock_timeout=settings.lock_timeout,
    )


defs = build_definitions(load_settings())
