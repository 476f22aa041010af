"""What assets are given: the database, and the models."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import duckdb
from dagster_duckdb import DuckDBResource

from persona_pipeline.llm.client import ChatClient
from persona_pipeline.llm.embeddings import Embedder
from persona_pipeline.llm.models import open_chat_client, open_embedder
from persona_pipeline.settings import Settings
from persona_pipeline.store import Store


class StoreResource(DuckDBResource):
    """dagster-duckdb's resource with our way to connect: it waits for the lock, and lets it go."""

    snapshot: str
    lock_timeout: float = 120.0

    @property
    def store(self) -> Store:
        """The library's store on the same files."""
        return Store(Path(self.database), Path(self.snapshot), lock_timeout=self.lock_timeout)

    @contextmanager
    def get_connection(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A read-write connection, closed whatever happens."""
        with self.store.connect() as connection:
            yield connection


@dataclass
class Models:
    """The chat model and the embedder of the settings, opened when first used, once a process."""

    settings: Settings = field(repr=False)

    @cached_property
    def chat(self) -> ChatClient:
        """The client of the chat model."""
        return open_chat_client(self.settings)

    @cached_property
    def embedder(self) -> Embedder:
        """What turns personas into vectors."""
        return open_embedder(self.settings)
