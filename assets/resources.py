"""What assets are given: the database, and the models."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import dagster as dg
import duckdb
from dagster_duckdb import DuckDBResource
from pydantic import PrivateAttr

from persona_pipeline.llm.gateway.budget import Budget
from persona_pipeline.models import Endpoints
from persona_pipeline.settings import Settings
from persona_pipeline.store.store import Store


class StoreResource(DuckDBResource):
    """dagster-duckdb's resource with our way to connect: it waits for the lock, and lets it go.

    One for a run; when the run ends, however it ends, what it committed is published.
    """

    snapshot: str
    lock_timeout: float = 120.0
    _store: Store | None = PrivateAttr(default=None)

    @property
    def store(self) -> Store:
        """The library's store on the same files."""
        if self._store is None:
            paths = Path(self.database), Path(self.snapshot)
            self._store = Store(*paths, lock_timeout=self.lock_timeout)
        return self._store

    def teardown_after_execution(self, context: dg.InitResourceContext) -> None:
        """Publish the run's last commits."""
        del context
        if self._store is not None and self._store.path.is_file():
            self._store.publish()

    @contextmanager
    def get_connection(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A read-write connection, closed whatever happens."""
        with self.store.connect() as connection:
            yield connection


@dataclass
class Models:
    """The models of the settings, each opened when first used, and what may be spent on them.

    One for a process: gates keep what they learned, and a run's budget spans its stages.
    """

    settings: Settings = field(repr=False)

    @cached_property
    def endpoints(self) -> Endpoints:
        """How each chat model is asked."""
        return Endpoints(self.settings)

    @cached_property
    def budget(self) -> Budget:
        """What this run may spend."""
        return Budget(*self.settings.caps())
