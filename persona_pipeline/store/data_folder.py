"""The data directory: everything that a run writes is below it, each in one place."""

from pathlib import Path

from pydantic import BaseModel, Field


class DataFolder(BaseModel):
    """Where everything is kept."""

    data_dir: Path = Field(Path("data"), description="Folder that holds everything a run writes.")

    @property
    def database(self) -> Path:
        """The one DuckDB file that runs write (its name may not be that of a schema)."""
        return self.data_dir / "pipeline.duckdb"

    @property
    def snapshot(self) -> Path:
        """The read-only copy for people: open this one."""
        return self.data_dir / "published.duckdb"

    @property
    def journal_dir(self) -> Path:
        """Answers that were bought and are not in the database yet."""
        return self.data_dir / "journal"

    @property
    def batches_dir(self) -> Path:
        """What was submitted to a provider's batch API and is not in the database yet."""
        return self.data_dir / "batches"

    @property
    def staging_dir(self) -> Path:
        """The registered shards, as read from their source."""
        return self.data_dir / "shards"

    @property
    def locks_dir(self) -> Path:
        """Files that processes lock to take turns at a shard."""
        return self.data_dir / "locks"

    @property
    def dedup_dir(self) -> Path:
        """Word sets of the shards: a cache."""
        return self.data_dir / "dedup"

    @property
    def dagster_dir(self) -> Path:
        """The Dagster instance: runs, events, partitions."""
        return self.data_dir / "dagster"
