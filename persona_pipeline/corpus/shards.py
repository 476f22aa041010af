"""Cut a source into shards of documents, and stage each shard as one Parquet file.

A source is read once, here. All later steps use the staged rows, so a source that changes or
vanishes later does not change a shard.
"""

import os
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from persona_pipeline.corpus.document import Document, RejectedDocument
from persona_pipeline.corpus.injection import is_injection_suspected
from persona_pipeline.errors import SourceError
from persona_pipeline.hashing import stable_id
from persona_pipeline.reasons import DocumentReason
from persona_pipeline.stage_names import CORPUS
from persona_pipeline.store.stage_rows import FunnelCounts, StageRows

STAGE = CORPUS

DOCUMENTS = {
    "document_id": pl.String,
    "source": pl.String,
    "url": pl.String,
    "title": pl.String,
    "language": pl.String,
    "topic": pl.String,
    "license": pl.String,
    "file": pl.String,
    "line": pl.Int64,
    "text": pl.String,
    "char_count": pl.Int64,
    "injection_suspected": pl.Boolean,
}
REJECTED = {
    "document_id": pl.String,
    "source": pl.String,
    "file": pl.String,
    "line": pl.Int64,
    "reason": pl.String,
    "detail": pl.String,
}
STAGED = DOCUMENTS | REJECTED

Row = Document | RejectedDocument


@dataclass(frozen=True, slots=True)
class StagedShard:
    """Describe one shard on disk: its rows (documents and rejected), and a hash over them."""

    shard: str
    path: Path
    row_count: int
    document_count: int
    content_hash: str


@dataclass(slots=True)
class _Batch:
    """Build one shard from the rows on disk and those to add."""

    shard: str
    path: Path
    documents: int = 0
    new: list[dict[str, Any]] = field(default_factory=list)
    is_wanted: bool = False


def stage_shards(
    rows: Iterable[Row], name: str, folder: Path, *, shard_size: int, limit: int | None
) -> list[StagedShard]:
    """Cut `rows` into shards `<name>-00000`, ... of `shard_size` documents, at most `limit` in all.

    A row stays in the shard that it was first staged in. Only new rows are added: to the last shard
    while it has room, then to new shards. So a smaller limit, another shard size or a changed
    source removes nothing. Returns the shards that hold the first `limit` documents of `rows`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    staging = _Staging(name, folder, shard_size)
    for row in _limited(_without_repeats(rows), limit):
        staging.add(row)
    return [_write(batch) for batch in staging.batches if batch.is_wanted]


def stage_arrivals(
    rows: Iterable[Row], name: str, folder: Path, *, shard_size: int, registered: Collection[str]
) -> list[StagedShard]:
    """Stage the `rows` that are in no shard yet, in new shards. Older shards stay as they are.

    Returns the shards of this name that are not `registered`: the new ones, and those that a killed
    process left.
    """
    folder.mkdir(parents=True, exist_ok=True)
    staging = _Arrivals(name, folder, shard_size)
    for row in _without_repeats(rows):
        staging.add(row)
    return [_write(batch) for batch in staging.batches if batch.shard not in registered]


def reject_copies(rows: Iterable[Row], files: Mapping[str, str]) -> Iterator[Row]:
    """Reject a text that another file has brought before, as its duplicate.

    `files` is by document_id.
    """
    for row in rows:
        file = files.get(row.document_id, row.file)
        yield _duplicate(row, file or "") if isinstance(row, Document) and file != row.file else row


def staged_documents(name: str, folder: Path) -> pl.DataFrame:
    """Return document_id and file of every accepted document in the shards of this name."""
    paths = _shard_files(name, folder)
    frames = [
        pl.read_parquet(path, columns=["document_id", "file", "reason"], hive_partitioning=False)
        for path in paths
    ]
    schema = dict.fromkeys(("document_id", "file", "reason"), pl.String)
    documents = pl.concat([pl.DataFrame(schema=schema), *frames])
    return documents.filter(pl.col("reason").is_null()).drop("reason")


def load_shard(shard: str, path: Path) -> StageRows:
    """Return the staged rows as the tables `corpus.documents` and `corpus.rejected`."""
    staged = _read_staged(path)
    return StageRows(
        shard=shard,
        stage=STAGE,
        tables={
            "corpus.documents": staged.filter(pl.col("reason").is_null()).select(*DOCUMENTS),
            "corpus.rejected": staged.filter(pl.col("reason").is_not_null()).select(*REJECTED),
        },
        funnel=FunnelCounts(len(staged), len(staged)),
    )


def check_documents(paths: Sequence[Path]) -> None:
    """Check that the staged shards hold a document: with rejected rows alone, a run has no work.

    Raises:
        SourceError: every row was turned away. The message counts them by reason, each with one
            row's place and what to do about it.
    """
    columns = ["reason", "detail", "file", "line"]
    scans = [pl.scan_parquet(path, hive_partitioning=False).select(columns) for path in paths]
    if not scans or any(_holds_document(scan) for scan in scans):
        return
    reasons = (
        pl.concat(scans)
        .group_by("reason", maintain_order=True)
        .agg(pl.len().alias("count"), pl.col("detail", "file", "line").first())
        .sort("count", descending=True, maintain_order=True)
        .collect()
    )
    listed = "; ".join(
        f"{row['reason']} {row['count']:,} ({_place(row)}: {row['detail']})"
        for row in reasons.iter_rows(named=True)
    )
    message = f"all {reasons['count'].sum():,} rows of the source were turned away: {listed}"
    raise SourceError(message)


def _holds_document(scan: pl.LazyFrame) -> bool:
    return not scan.filter(pl.col("reason").is_null()).head(1).collect().is_empty()


def _place(row: Mapping[str, Any]) -> str:
    return row["file"] if row["line"] is None else f"{row['file']} line {row['line']}"


class _Staging:
    """Find each row's shard: the one that holds it, or the last one with room."""

    def __init__(self, name: str, folder: Path, shard_size: int) -> None:
        self._name, self._folder, self._size = name, folder, shard_size
        self._home: dict[tuple[str, int], _Batch] = {}
        self._on_disk: Counter[str] = Counter()
        self._read: Counter[str] = Counter()
        self.batches = [self._opened(path) for path in _shard_files(name, folder)]

    def add(self, row: Row) -> None:
        key = _nth(row.document_id, self._read)
        home = self._home.get(key)
        if home is None:
            home = self._home[key] = self._with_room(row)
            home.new.append(_as_staged(row))
            home.documents += isinstance(row, Document)
        home.is_wanted = True

    def _opened(self, path: Path) -> _Batch:
        staged = pl.read_parquet(path, columns=["document_id", "reason"], hive_partitioning=False)
        batch = _Batch(path.stem, path, documents=int(staged["reason"].is_null().sum()))
        keys = [_nth(document_id, self._on_disk) for document_id in staged["document_id"]]
        self._home |= dict.fromkeys(keys, batch)
        return batch

    def _with_room(self, row: Row) -> _Batch:
        is_full = self.batches and self.batches[-1].documents >= self._size
        if not self.batches or (is_full and isinstance(row, Document)):
            return self._appended()
        return self.batches[-1]

    def _appended(self) -> _Batch:
        shard = f"{self._name}-{len(self.batches):05d}"
        self.batches.append(_Batch(shard, self._folder / f"{shard}.parquet"))
        return self.batches[-1]


class _Arrivals(_Staging):
    """Stage rows in new shards only."""

    def __init__(self, name: str, folder: Path, shard_size: int) -> None:
        super().__init__(name, folder, shard_size)
        self._old_count = len(self.batches)

    def _with_room(self, row: Row) -> _Batch:
        if len(self.batches) > self._old_count:
            return super()._with_room(row)
        return self._appended()


def _shard_files(name: str, folder: Path) -> list[Path]:
    return sorted(folder.glob(f"{name}-{'[0-9]' * 5}.parquet"))


def _nth(document_id: str, seen: Counter[str]) -> tuple[str, int]:
    """Number rows with the same id (two rejected rows without a line)."""
    seen[document_id] += 1
    return document_id, seen[document_id]


def _without_repeats(rows: Iterable[Row]) -> Iterator[Row]:
    first_seen: dict[str, str] = {}
    for row in rows:
        if not isinstance(row, Document):
            yield row
        elif row.document_id in first_seen:
            yield _duplicate(row, first_seen[row.document_id])
        else:
            first_seen[row.document_id] = row.url
            yield row


def _duplicate(row: Document, first: str) -> RejectedDocument:
    return RejectedDocument(
        reason=DocumentReason.DUPLICATE,
        detail=f"same text as {first}",
        source=row.source,
        file=row.file or row.url,
        line=row.line,
    )


def _limited(rows: Iterable[Row], limit: int | None) -> Iterator[Row]:
    taken = 0
    for row in rows:
        if isinstance(row, Document):
            if taken == limit:
                return
            taken += 1
        yield row


def _as_staged(row: Row) -> dict[str, Any]:
    common = {name: getattr(row, name, None) for name in STAGED}
    if isinstance(row, RejectedDocument):
        return {**common, "reason": str(row.reason)}
    return {
        **common,
        "char_count": len(row.text),
        "injection_suspected": is_injection_suspected(row.text),
    }


def _write(batch: _Batch) -> StagedShard:
    frame = pl.DataFrame(batch.new, schema=STAGED, orient="row")
    if batch.path.is_file():
        frame = pl.concat([_read_staged(batch.path), frame])
    if batch.new:
        part = batch.path.with_suffix(f".{os.getpid()}.tmp")
        frame.write_parquet(part)
        part.replace(batch.path)
    return StagedShard(batch.shard, batch.path, len(frame), batch.documents, _content_hash(frame))


def _read_staged(path: Path) -> pl.DataFrame:
    """Return all columns. Those that an older file lacks (topic) are null."""
    staged = pl.read_parquet(path, hive_partitioning=False)
    lacking = [pl.lit(None, STAGED[name]).alias(name) for name in STAGED.keys() - staged.columns]
    return staged.with_columns(lacking).select(*STAGED)


def _content_hash(frame: pl.DataFrame) -> str:
    keys: list[Any] = frame.select("document_id", "reason").rows()
    return stable_id([list(key) for key in keys])
