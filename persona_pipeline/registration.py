"""Registering a source: its shards are staged, numbered, and entered in `corpus.shards`."""

import itertools

import polars as pl

from persona_pipeline.corpus.shards import StagedShard, stage_shards
from persona_pipeline.corpus.sources import CorpusOptions, read_source, source_name
from persona_pipeline.errors import SourceError
from persona_pipeline.settings import Settings
from persona_pipeline.store import Store


def register_source(settings: Settings, store: Store, *, run_id: str) -> list[str]:
    """Stage the chosen source's documents; the names of their shards, in order.

    A shard keeps the number it got first: it is its rank in deduplication, where the earlier wins.

    Raises:
        SourceError: the source cannot be opened or holds no rows at all.
    """
    options = CorpusOptions(
        text_field=settings.text_field,
        url_field=settings.url_field,
        min_chars=settings.min_chars,
        max_chars=settings.max_chars,
    )
    staged = stage_shards(
        read_source(settings.source, options),
        source_name(settings.source),
        settings.staging_dir,
        shard_size=settings.shard_size,
        limit=settings.documents,
    )
    if not staged:
        msg = f"source {settings.source!r} holds no documents"
        raise SourceError(msg)
    _enter(staged, settings.source, store, run_id)
    return [shard.shard for shard in staged]


def _enter(staged: list[StagedShard], spec: str, store: Store, run_id: str) -> None:
    known = dict(store.query("select shard, shard_number from corpus.shards").iter_rows())
    new_numbers = itertools.count(max(known.values(), default=-1) + 1)
    rows = [
        {
            "shard": shard.shard,
            "shard_number": known.get(shard.shard) if shard.shard in known else next(new_numbers),
            "source": source_name(spec),
            "source_spec": spec,
            "staged_file": shard.path.name,
            "row_count": shard.row_count,
            "content_hash": shard.content_hash,
            "run_id": run_id,
        }
        for shard in staged
    ]
    with store.transaction() as connection:
        connection.register("staged", pl.DataFrame(rows, infer_schema_length=None))
        connection.execute("delete from corpus.shards where shard in (select shard from staged)")
        connection.execute(
            "insert into corpus.shards by name "
            "select *, now() at time zone 'UTC' as created_at from staged"
        )
        connection.unregister("staged")
