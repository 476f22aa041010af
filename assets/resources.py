"""Define the resources of assets: the database and the models."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
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
    """dagster-duckdb's resource, whose connections wait for the file's lock and release it.

    A run has one, which keeps the file open between two uses unless another process wants it. When
    the run ends, whether it failed or not, its commits are published.
    """

    snapshot: str
    lock_timeout: float = 120.0
    _store: Store | None = PrivateAttr(default=None)
    _kept: ExitStack = PrivateAttr(default_factory=ExitStack)

    @property
    def store(self) -> Store:
        """The library's store of the same files."""
        if self._store is None:
            paths = Path(self.database), Path(self.snapshot)
            self._store = Store(*paths, lock_timeout=self.lock_timeout)
        return self._store

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:
        """Begin to keep the file open."""
        del context
        self._kept.enter_context(self.store.kept_open())

    def teardown_after_execution(self, context: dg.InitResourceContext) -> None:
        """Release the file, and publish the run's last commits."""
        del context
        self._kept.close()
        if self._store is not None and self._store.path.is_file():
            self._store.publish()

    @contextmanager
    def get_connection(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Yield a connection that can write. It is closed at the end, also after an error."""
        with self.store.connect() as connection:
            yield connection


@dataclass
class Models:
    """The models of the settings, each opened when first used, and the budget for them.

    A process has one. So rate limiters keep what they learned, and a budget spans a run's stages.
    """

    settings: Settings = field(repr=False)

    @cached_property
    def endpoints(self) -> Endpoints:
        """The endpoints of the chat models."""
        return Endpoints(self.settings)

    @cached_property
    def budget(self) -> Budget:
        """The budget of this run."""
        return Budget(*self.settings.caps())
