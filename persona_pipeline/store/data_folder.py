"""Name every place in the data directory: a run writes nowhere else."""

from pathlib import Path

from pydantic import BaseModel, Field


class DataFolder(BaseModel):
    """The data directory and the paths below it."""

    data_dir: Path = Field(Path("data"), description="Folder that holds everything a run writes.")

    @property
    def database(self) -> Path:
        """Path of the DuckDB file that runs write.

        Its name must not be that of a schema, or DuckDB takes the schema for a database.
        """
        return self.data_dir / "pipeline.duckdb"

    @property
    def snapshot(self) -> Path:
        """Path of the read-only copy that people open."""
        return self.data_dir / "published.duckdb"

    @property
    def journal_dir(self) -> Path:
        """Folder of answers that were bought and are not in the database yet."""
        return self.data_dir / "journal"

    @property
    def batches_dir(self) -> Path:
        """Folder of batches that a provider's batch API has and the database has not."""
        return self.data_dir / "batches"

    @property
    def staging_dir(self) -> Path:
        """Folder of registered shards, as read from their source."""
        return self.data_dir / "shards"

    @property
    def locks_dir(self) -> Path:
        """Folder of files that processes lock to take turns at a shard."""
        return self.data_dir / "locks"

    @property
    def dedup_dir(self) -> Path:
        """Folder of the shards' word sets, a cache."""
        return self.data_dir / "dedup"

    @property
    def dagster_dir(self) -> Path:
        """Folder of the Dagster instance: runs, events, partitions."""
        return self.data_dir / "dagster"
