"""Build the jobs, which run a set of assets together."""

from collections.abc import Mapping

import dagster as dg

from assets.corpus import FILES
from assets.hub import SELECTIONS, SWEEP
from assets.sensors import (
    JobDefinition,
)

REGISTER_JOB = "register_source"
SCAN_JOB = "scan_files"
MAIN_JOB = "main"
PERSONAS_JOB = "personas"
SELECTIONS_JOB = "make_selections"


def build_jobs() -> Mapping[str, JobDefinition]:
    """Build the jobs, by name."""
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
            SCAN_JOB,
            selection=files_only,
            description="Ingest what is new in the watched places, as new shards.",
        ),
        dg.define_asset_job(
            MAIN_JOB,
            selection=dg.AssetSelection.all() - shards_only - files_only - on_demand,
            description="Run everything for one shard, from its documents to records and marts.",
        ),
        dg.define_asset_job(
            PERSONAS_JOB,
            selection=up_to_hub.required_multi_asset_neighbors() - shards_only - files_only,
            description="Run one shard from its documents to the hub, before a selection is made.",
        ),
        dg.define_asset_job(
            SELECTIONS_JOB,
            selection=dg.AssetSelection.assets(SELECTIONS),
            description="Make the configured selections, or make them again, from the present hub.",
        ),
    ]
    return {job.name: job for job in jobs}
