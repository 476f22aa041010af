"""The Dagster code location: every table is an asset. All that imports dagster is here."""
