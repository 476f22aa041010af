"""Web text to personas, personas to synthetic training data; importable without Dagster."""
