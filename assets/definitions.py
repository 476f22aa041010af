"""The composition root: settings to assets, checks, jobs and resources."""

from collections.abc import Mapping

import dagster as dg

from assets.automation import build_automation_sensor, build_schedule
from assets.batches import build_batch_sensor
from assets.checks import build_checks
from assets.corpus import build_corpus_assets
from assets.inbox import FILES, Job, build_inbox_sensor
from assets.ledgers import build_ledger_assets
from assets.marts import build_mart_assets
from assets.personas import build_persona_assets
from assets.resources import Models, StoreResource
from assets.selections import SELECTIONS, build_selections_asset
from assets.sweep import SWEEP, build_sweep_asset
from assets.synthetic import build_synthetic_assets
from persona_pipeline.settings import Settings, load_settings
from persona_pipeline.stage_names import funnel_stages

REGISTER_JOB = "register_source"
LOOK_JOB = "look_at_files"
MAIN_JOB = "main"
PERSONAS_JOB = "personas"
SELECTIONS_JOB = "make_selections"


def build_definitions(settings: Settings, models: Models | None = None) -> dg.Definitions:
    """The whole code location; `models` replaces the models that the settings name."""
    domains = list(settings.load_domains().values())
    stages = funnel_stages(domain.name for domain in domains)
    jobs = _build_jobs()
    return dg.Definitions(
        assets=[
            *build_corpus_assets(settings),
            *build_persona_assets(settings),
            build_selections_asset(settings),
            build_sweep_asset(settings),
            *build_synthetic_assets(settings, domains),
            build_ledger_assets(domains),
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


def _build_jobs() -> Mapping[str, Job]:
    """By name, what can be started as a whole."""
    shards_only = dg.AssetSelection.assets(["corpus", "shards"])
    files_only = dg.AssetSelection.assets(FILES)
    up_to_hub = dg.AssetSelection.assets(["personas", "hub"]).upstream()
    on_demand = dg.AssetSelection.assets(SELECTIONS, SWEEP)
    jobs = [
        dg.define_asset_job(
            REGISTER_JOB,
            selection=shards_only,
            description="Read the configured source and register its shards as partitions.",
        ),
        dg.define_asset_job(
            LOOK_JOB,
            selection=files_only,
            description="Take in what is new in the watched places, as new shards.",
        ),
        dg.define_asset_job(
            MAIN_JOB,
            selection=dg.AssetSelection.all() - shards_only - files_only - on_demand,
            description="Everything for one shard, from its documents to records and marts.",
        ),
        dg.define_asset_job(
            PERSONAS_JOB,
            selection=up_to_hub.required_multi_asset_neighbors() - shards_only - files_only,
            description="One shard, from its documents to the hub: what a selection is made of.",
        ),
        dg.define_asset_job(
            SELECTIONS_JOB,
            selection=dg.AssetSelection.assets(SELECTIONS),
            description="Make the configured selections from the hub as it is, again or at first.",
        ),
    ]
    return {job.name: job for job in jobs}


def _store(settings: Settings) -> StoreResource:
    return StoreResource(
        database=str(settings.database),
        snapshot=str(settings.snapshot),
        lock_timeout=settings.lock_timeout,
    )


defs = build_definitions(load_settings())
