"""The Dagster code location: every table is an asset. Only this package imports dagster."""

import warnings

from persona_pipeline.process import collect_less_often

collect_less_often()

import dagster as dg  # noqa: E402 - its import makes many objects, and few of them are garbage

# Backfill and freshness policies are beta. Dagster's version is pinned, so they do not change here.
warnings.filterwarnings("ignore", category=dg.BetaWarning)


# These jobs have assets that buy and assets that do not: the smaller number of shards a run holds.
warnings.filterwarnings("ignore", message="Asset job (main|personas) materializes assets with")
