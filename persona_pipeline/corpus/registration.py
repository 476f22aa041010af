"""Registering a source: its shards are staged, numbered, and entered in `corpus.shards`."""

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb
import polars as pl

from persona_pipeline.corpus.addresses import redact
from persona_pipeline.corpus.shards import StagedShard, stage_shards
from persona_pipeline.corpus.sources import read_source, source_name
from persona_pipeline.errors import SettingsError, SourceError
from persona_pipeline.llm.requests import runs_here
from persona_pipeline.locks import exclusive_lock
from persona_pipeline.project import corpus_options
from persona_pipeline.settings import Settings
from persona_pipeline.store.stage_rows import insert_rows
from persona_pipeline.store.store import Store


def register_source(settings: Settings, store: Store, *, run_id: str) -> list[str]:
    """Stage the chosen source's documents; the names of their shards, in order.

    A shard keeps the number it got first: it is its rank in deduplication, where the earlier wins.

    Raises:
        SourceError: the source cannot be opened or holds no rows at all.
    """
    with exclusive_lock(settings.locks_dir / "registration"):
        staged = stage_source(settings, settings.staging_dir)
        _refuse_surprise(staged, settings)
        with store.transaction() as connection:
            enter_shards(connection, staged, settings.source, run_id)
    return [shard.shard for shard in staged]


@contextmanager
def staged_aside(settings: Settings) -> Iterator[list[StagedShard]]:
    """The shards that a registration would make, in a folder that goes away: nothing is changed.

    Raises:
        SourceError: the source cannot be opened or holds no rows at all.
    """
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".aside-", dir=settings.data_dir) as folder:
        for path in settings.staging_dir.glob("*.parquet"):
            (Path(folder) / path.name).hardlink_to(path)  # a shard that grows is written anew
        yield stage_source(settings, Path(folder))


def stage_source(settings: Settings, folder: Path) -> list[StagedShard]:
    """Stage the chosen source's documents in the folder."""
    name = source_name(settings.source)
    rows = read_source(settings.source, corpus_options(settings))
    staged = stage_shards(
        (replace(row, source=name) for row in rows),
        name,
        folder,
        shard_size=settings.shard_size,
        limit=settings.documents,
    )
    if not staged:
        msg = f"source {redact(settings.source)!r} holds no documents"
        raise SourceError(msg)
    return staged


def _refuse_surprise(staged: list[StagedShard], settings: Settings) -> None:
    """A run covers whole shards: with a model that costs money, say so before it does."""
    documents = sum(shard.document_count for shard in staged)
    is_free = runs_here(settings.model)
    if settings.documents is not None and documents > settings.documents and not is_free:
        msg = (
            f"{settings.documents} documents were asked for, but their shards hold {documents}, "
            f"and a run covers whole shards: use --documents {documents}, or another --data-dir"
        )
        raise SettingsError(msg)


def enter_shards(
    connection: duckdb.DuckDBPyConnection, staged: Sequence[StagedShard], spec: str, run_id: str
) -> None:
    """Put the shards into `corpus.shards`, new ones with the next numbers."""
    known = dict(connection.sql("select shard, shard_number from corpus.shards").fetchall())
    new_numbers = itertools.count(max(known.values(), default=-1) + 1)
    rows = [
        {
            "shard": shard.shard,
            "shard_number": known.get(shard.shard) if shard.shard in known else next(new_numbers),
            "source": source_name(spec),
            "source_spec": redact(spec),
            "staged_file": shard.path.name,
            "row_count": shard.row_count,
            "content_hash": shard.content_hash,
        }
        for shard in staged
    ]
    if not rows:
        return
    connection.execute(
        "delete from corpus.shards where shard in (select unnest($shards))",
        {"shards": [shard.shard for shard in staged]},
    )
    insert_rows(
        connection, "corpus.shards", pl.DataFrame(rows, infer_schema_length=None), {}, run_id
    )
