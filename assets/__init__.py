"""The Dagster code location: every table is an asset. All that imports dagster is here."""

import warnings

import dagster as dg

# Backfill and freshness policies: Dagster's version is pinned, so they stay what they are here.
warnings.filterwarnings("ignore", category=dg.BetaWarning)


# These jobs have assets of both kinds; the smaller number of shards in a run is what we want.
warnings.filterwarnings("ignore", message="Asset job (main|personas) materializes assets with")
