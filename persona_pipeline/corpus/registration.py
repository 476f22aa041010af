"""Register a source: stage its shards, number them, and enter them in `corpus.shards`."""

import itertools
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb
import polars as pl

from persona_pipeline.corpus.addresses import redact
from persona_pipeline.corpus.options import CorpusOptions, list_paths
from persona_pipeline.corpus.rows import Row, Skipped, list_fields
from persona_pipeline.corpus.shards import StagedShard, stage_shards
from persona_pipeline.corpus.sources import read_source, source_name
from persona_pipeline.errors import SettingsError, SourceError
from persona_pipeline.locks import exclusive_lock
from persona_pipeline.store.data_folder import DataFolder
from persona_pipeline.store.stage_rows import insert_rows
from persona_pipeline.store.store import Store

FIRST_ROWS = 1000
"""Rows that are read before any is staged, in search of the fields that a user has named."""


@dataclass(frozen=True, slots=True)
class SourcePlan:
    """How much of a source is read, and how it becomes shards."""

    source: str
    """File, folder, URL, or the name of a packaged source."""
    options: CorpusOptions
    shard_size: int
    """Documents in a shard."""
    limit: int | None
    """Documents to take; None: all."""
    may_exceed_limit: bool = True
    """Whether shards may hold more documents than the limit, since their answers cost nothing."""


def register_source(
    plan: SourcePlan, folder: DataFolder, store: Store, *, run_id: str
) -> list[str]:
    """Stage the source's documents and enter their shards.

    A shard keeps the number that it got first. The number is its rank in deduplication, where the
    earlier shard wins.

    Args:
        plan: the source and the size of its shards.
        folder: where shards are staged.
        store: the database that the shards are entered in.
        run_id: the run that registers them.

    Returns:
        The names of the shards, in the order of the source.

    Raises:
        SourceError: the source cannot be opened or holds no rows at all.
        SettingsError: the shards hold more documents than were asked for.
    """
    with exclusive_lock(folder.locks_dir / "registration"):
        skipped: Skipped = Counter()
        staged = stage_source(plan, folder.staging_dir, skipped)
        _refuse_surprise(plan, staged)
        with store.transaction() as connection:
            enter_shards(connection, staged, plan.source, run_id)
            enter_skipped(connection, skipped, plan.source, run_id)
    return [shard.shard for shard in staged]


@contextmanager
def staged_aside(plan: SourcePlan, folder: DataFolder) -> Iterator[list[StagedShard]]:
    """Yield the shards that a registration would make, in a temporary folder.

    Raises:
        SourceError: the source cannot be opened or holds no rows at all.
    """
    folder.data_dir.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".aside-", dir=folder.data_dir) as aside:
        for path in folder.staging_dir.glob("*.parquet"):
            (Path(aside) / path.name).hardlink_to(path)  # safe: a shard that grows gets a new file
        yield stage_source(plan, Path(aside), Counter())


def stage_source(plan: SourcePlan, folder: Path, skipped: Skipped) -> list[StagedShard]:
    """Stage the source's documents in the folder, as one Parquet file per shard.

    Args:
        plan: the source and the size of its shards.
        folder: where the files are written.
        skipped: counts the records that hold no page, as far as the source is read.

    Raises:
        SourceError: the source cannot be opened or holds no rows at all, or a field that the plan
            names is in none of its first rows.
    """
    name = source_name(plan.source)
    rows = _checked_fields(read_source(plan.source, plan.options, skipped), plan)
    staged = stage_shards(
        (replace(row, source=name) for row in rows),
        name,
        folder,
        shard_size=plan.shard_size,
        limit=plan.limit,
    )
    if not staged:
        msg = f"source {redact(plan.source)!r} holds no documents{_describe_skipped(skipped)}"
        raise SourceError(msg)
    return staged


def _checked_fields(rows: Iterator[Row], plan: SourcePlan) -> Iterator[Row]:
    """Return the rows; check the first of them for the fields that the plan names, if it names any.

    It is checked before anything is staged, since a staged document keeps the URL that it got.

    Raises:
        SourceError: a field that a user has named is in none of them.
    """
    options = plan.options
    if not options.unmet():  # none is named
        return rows
    first = list(itertools.islice(rows, FIRST_ROWS))
    if first and options.fields_met.last and (unmet := options.unmet()):
        msg = (
            f"no field {unmet[0]!r} in the first {len(first):,} rows of {redact(plan.source)!r}; "
            f"the last of them has: {list_fields(list_paths(options.fields_met.last))}"
        )
        raise SourceError(msg)
    return itertools.chain(first, rows)


def _refuse_surprise(plan: SourcePlan, staged: Sequence[StagedShard]) -> None:
    """Refuse shards beyond the limit: a run covers whole shards and would buy more than asked."""
    documents = sum(shard.document_count for shard in staged)
    if plan.limit is not None and documents > plan.limit and not plan.may_exceed_limit:
        msg = (
            f"{plan.limit} documents were asked for, but their shards hold {documents}, "
            f"and a run covers whole shards: use --documents {documents}, or another --data-dir"
        )
        raise SettingsError(msg)


def enter_shards(
    connection: duckdb.DuckDBPyConnection, staged: Sequence[StagedShard], spec: str, run_id: str
) -> None:
    """Enter the shards in `corpus.shards`. New shards get the next numbers."""
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


def enter_skipped(
    connection: duckdb.DuckDBPyConnection,
    skipped: Skipped,
    spec: str,
    run_id: str,
    files: Collection[str] | None = None,
) -> None:
    """Enter what a reading skipped in `corpus.skipped`, in place of what the last one skipped.

    Args:
        connection: in a transaction.
        skipped: the counts of the reading.
        spec: the source.
        run_id: the run that read it.
        files: the files that were read; None: the source was read from its start.
    """
    where = (
        "source = $source" if files is None else "source = $source and list_contains($files, file)"
    )
    source = {"source": source_name(spec)}
    parameters = source if files is None else source | {"files": [*files]}
    connection.execute(f"delete from corpus.skipped where {where}", parameters)
    rows = [
        {"file": file, "reason": str(reason), "record_count": count}
        for (file, reason), count in sorted(skipped.items())
    ]
    if rows:
        insert_rows(connection, "corpus.skipped", pl.DataFrame(rows), source, run_id)


def _describe_skipped(skipped: Skipped) -> str:
    """Say which records were met, if a source has nothing else."""
    counts = Counter[str]()
    for (_, reason), count in skipped.items():
        counts[reason] += count
    if not counts:
        return ""
    listed = ", ".join(f"{reason} {count:,}" for reason, count in counts.most_common())
    return f", only records without a page: {listed}"
