"""Scan watched places for changes, and make shards of new texts.

A file is read again when its size or time differs from the last scan. Texts that no shard has yet
become documents of new shards. Existing shards stay as they are. So a new file adds all its texts,
a grown file its added texts, and a changed file its changed texts. The documents of a deleted file,
and the former texts of a changed one, stay. `corpus.files` holds the state of each file.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final

import polars as pl

from persona_pipeline.corpus.addresses import redact
from persona_pipeline.corpus.document import Document
from persona_pipeline.corpus.options import CorpusOptions
from persona_pipeline.corpus.registration import enter_shards, enter_skipped
from persona_pipeline.corpus.rows import Skipped
from persona_pipeline.corpus.shards import (
    Row,
    StagedShard,
    reject_copies,
    stage_arrivals,
    staged_documents,
)
from persona_pipeline.corpus.source_files import SourceFile
from persona_pipeline.corpus.sources import list_source, read_files, source_name
from persona_pipeline.hashing import stable_id
from persona_pipeline.locks import exclusive_lock
from persona_pipeline.sql import fetch
from persona_pipeline.store.data_folder import DataFolder
from persona_pipeline.store.stage_rows import insert_rows
from persona_pipeline.store.store import Store

QUIET = timedelta(seconds=10)
"""Age from which on a file is read. A younger one is left for the next scan: it may grow."""


class FileState(StrEnum):
    """State of a file at the last scan: the column `state` of `corpus.files`."""

    NEW = "new"
    GROWN = "grown"
    CHANGED = "changed"
    SAME = "same"
    REJECTED = "rejected"
    GONE = "gone"


FILES = {
    "file": pl.String(),
    "state": pl.String(),
    "byte_count": pl.Int64(),
    "modified_at": pl.Datetime("us"),
    "document_count": pl.Int64(),
    "new_count": pl.Int64(),
    "rejected_count": pl.Int64(),
    "first_seen_at": pl.Datetime("us"),
}


@dataclass(frozen=True, slots=True)
class ScanResult:
    """What has changed in one place: the files to read, and the files that are gone."""

    place: str
    to_read: Sequence[SourceFile]
    gone: Sequence[str]
    waiting: Sequence[str]
    """Files that are still being written."""
    scanned_at: datetime

    @property
    def version(self) -> str:
        """Hash of the changes. It stays the same until something else changes."""
        files = [f"{file.file} {file.byte_count} {file.modified_at}" for file in self.to_read]
        return stable_id([*files], [*self.gone])

    @property
    def is_idle(self) -> bool:
        """Whether nothing has changed."""
        return not self.to_read and not self.gone


@dataclass(slots=True)
class _Scanned:
    """The rows of one file: the ids of its documents, and the number of rejected rows."""

    documents: set[str]
    rejected_count: int = 0


def scan(store: Store, place: str, *, now: datetime | None = None) -> ScanResult:
    """Compare the files of a place with those of the last scan. No file is read.

    Args:
        store: the database with `corpus.files`.
        place: a folder, file or URL pattern.
        now: time of the scan in UTC, without a zone; default: the clock.

    Raises:
        SourceError: the place is not there, or cannot be listed.
    """
    known = _known_files(store, place)
    now = now or datetime.now(UTC).replace(tzinfo=None)
    listed = list_source(place)
    changed = [file for file in listed if _is_changed(file, known.get(file.file))]
    there = {file.file for file in listed}
    return ScanResult(
        place=place,
        to_read=[file for file in changed if abs(now - file.modified_at) >= QUIET],
        gone=[name for name, row in known.items() if name not in there and not _is_gone(row)],
        waiting=[file.file for file in changed if abs(now - file.modified_at) < QUIET],
        scanned_at=now,
    )


def ingest(  # noqa: PLR0913 - three of them by name
    store: Store,
    seen: ScanResult,
    folder: DataFolder,
    *,
    options: CorpusOptions,
    shard_size: int,
    run_id: str,
) -> list[str]:
    """Read the changed files, and stage and register their new texts.

    Args:
        store: the database that the shards are entered in.
        seen: the scan that found the changes.
        folder: where shards are staged.
        options: the fields and limits that texts are read with.
        shard_size: documents in a shard.
        run_id: the run that ingests them.

    Returns:
        The names of the new shards, in order.

    Raises:
        SourceError: a file cannot be read.
    """
    name = source_name(seen.place)
    sizes: dict[str, _Scanned] = {}
    skipped: Skipped = Counter()
    with exclusive_lock(folder.locks_dir / "registration"):
        seen = _still_to_do(store, seen)
        before = staged_documents(name, folder.staging_dir)
        wanted = {file.file for file in seen.to_read}
        rows = read_files(seen.place, wanted, options, skipped) if wanted else iter(())
        counted = _counted((replace(row, source=name) for row in rows), sizes)
        staged = stage_arrivals(
            reject_copies(counted, dict(before.iter_rows())),
            name,
            folder.staging_dir,
            shard_size=shard_size,
            registered=set(store.query("select shard from corpus.shards")["shard"]),
        )
        files = _describe(seen, sizes, before, _known_files(store, seen.place))
        return _enter(store, staged, files, skipped, seen.place, run_id)


def _still_to_do(store: Store, seen: ScanResult) -> ScanResult:
    """Scan again, and leave out the changes that another process has ingested meanwhile."""
    again = scan(store, seen.place, now=seen.scanned_at)
    names = {file.file for file in seen.to_read}
    return replace(
        again,
        to_read=[file for file in again.to_read if file.file in names],
        gone=[name for name in again.gone if name in seen.gone],
    )


def _enter(  # noqa: PLR0913, PLR0917 - all that a scan leaves
    store: Store,
    new: Sequence[StagedShard],
    files: pl.DataFrame,
    skipped: Skipped,
    place: str,
    run_id: str,
) -> list[str]:
    """Enter the shards and the states of the files, and return the names of the shards."""
    with store.transaction() as connection:
        enter_shards(connection, new, place, run_id)
        read = files.filter(pl.col("state") != FileState.GONE)["file"].to_list()
        enter_skipped(connection, skipped, place, run_id, read)
        connection.execute(
            "delete from corpus.files where place = $place and file in (select unnest($files))",
            {"place": redact(place), "files": files["file"].to_list()},
        )
        insert_rows(connection, "corpus.files", files, {"place": redact(place)}, run_id)
    return [shard.shard for shard in new]


def _counted(rows: Iterable[Row], sizes: dict[str, _Scanned]) -> Iterator[Row]:
    for row in rows:
        seen = sizes.setdefault(row.file or "", _Scanned(set()))
        if isinstance(row, Document):
            seen.documents.add(row.document_id)
        else:
            seen.rejected_count += 1
        yield row


def _describe(
    seen: ScanResult,
    sizes: Mapping[str, _Scanned],
    before: pl.DataFrame,
    known: Mapping[str, Mapping[str, object]],
) -> pl.DataFrame:
    """Return the rows of `corpus.files` for the files that were read or are gone."""
    had: dict[str, set[str]] = {}
    for document_id, file in before.iter_rows():
        had.setdefault(file, set()).add(document_id)
    now = datetime.now(UTC).replace(tzinfo=None)
    before_this = set[str]().union(*had.values())
    everywhere = set(before_this)
    rows = list[dict[str, object]]()
    for file in seen.to_read:
        scanned, last = sizes.get(file.file, _Scanned(set())), known.get(file.file)
        new, kept = scanned.documents - everywhere, scanned.documents & before_this
        everywhere |= new
        rows.append(
            {
                "file": file.file,
                "state": _state(scanned, len(new), len(kept), last),
                "byte_count": file.byte_count,
                "modified_at": file.modified_at,
                "document_count": len(scanned.documents),
                "new_count": len(new),
                "rejected_count": scanned.rejected_count,
                "first_seen_at": known.get(file.file, {}).get("first_seen_at", now),
            }
        )
    rows += [{**known[name], "state": FileState.GONE, "new_count": 0} for name in seen.gone]
    return pl.DataFrame(rows, schema=FILES, orient="row")


def _state(
    scanned: _Scanned, new_count: int, kept_count: int, last: Mapping[str, object] | None
) -> FileState:
    """Return the state of a file.

    Args:
        scanned: the rows of the file.
        new_count: number of its documents that no shard had.
        kept_count: number of its documents that a shard had before.
        last: the row of the last scan; None: the file is new.
    """
    if not scanned.documents and scanned.rejected_count:
        return FileState.REJECTED
    if last is None:
        return FileState.NEW
    if kept_count < int(str(last["document_count"])):
        return FileState.CHANGED
    return FileState.GROWN if new_count else FileState.SAME


FILES_SQL: Final = """
-- One row per file that was ever seen in a watched place.
-- reads: corpus.files   params: $place
select
    file, state, byte_count, modified_at, document_count, new_count, rejected_count, first_seen_at
from corpus.files
where place = $place
order by file
"""


def _known_files(store: Store, place: str) -> dict[str, dict[str, object]]:
    with store.connect(read_only=True) as connection:
        rows = fetch(connection, FILES_SQL, {"place": redact(place)})
    return {row["file"]: row for row in rows.iter_rows(named=True)}


def _is_changed(file: SourceFile, known: Mapping[str, object] | None) -> bool:
    if known is None or _is_gone(known):
        return True
    return (file.byte_count, file.modified_at) != (known["byte_count"], known["modified_at"])


def _is_gone(known: Mapping[str, object]) -> bool:
    return known["state"] == FileState.GONE
