"""Shards: a source cut into batches of documents, each staged as one Parquet file.

Reading happens once, here; everything after it works on the staged rows, so a source that changes
or goes away later does not change what a shard holds.
"""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import polars as pl

from persona_pipeline.corpus.document import Document, RejectedDocument
from persona_pipeline.corpus.injection import is_injection_suspected
from persona_pipeline.hashing import stable_id
from persona_pipeline.reasons import DocumentReason
from persona_pipeline.stages import FunnelCounts, StageRows

STAGE = "corpus"

DOCUMENTS = {
    "document_id": pl.String,
    "source": pl.String,
    "url": pl.String,
    "title": pl.String,
    "language": pl.String,
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
    """One batch on disk: how many rows (documents and rejected), and a hash over them."""

    shard: str
    path: Path
    row_count: int
    document_count: int
    content_hash: str


@dataclass(slots=True)
class _Batch:
    rows: list[dict[str, Any]] = field(default_factory=list)
    documents: int = 0


def stage_shards(
    rows: Iterable[Row], name: str, folder: Path, *, shard_size: int, limit: int | None
) -> Iterator[StagedShard]:
    """Cut `rows` into shards `<name>-00000`, ... of `shard_size` documents, at most `limit` in all.

    A shard already staged that holds these rows and more is left as it is: asking for fewer
    documents than before takes nothing away. One that holds more than `shard_size` is cut anew.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for index, batch in enumerate(_cut(_without_repeats(rows), shard_size, limit)):
        yield _stage(batch, f"{name}-{index:05d}", folder, shard_size)


def load_shard(shard: str, path: Path) -> StageRows:
    """The staged rows as the tables `corpus.documents` and `corpus.rejected`."""
    staged = pl.read_parquet(path, hive_partitioning=False)
    return StageRows(
        shard=shard,
        stage=STAGE,
        tables={
            "corpus.documents": staged.filter(pl.col("reason").is_null()).select(*DOCUMENTS),
            "corpus.rejected": staged.filter(pl.col("reason").is_not_null()).select(*REJECTED),
        },
        funnel=FunnelCounts(len(staged), len(staged)),
    )


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


def _cut(rows: Iterable[Row], shard_size: int, limit: int | None) -> Iterator[_Batch]:
    batch, taken = _Batch(), 0
    for row in rows:
        if isinstance(row, Document):
            if taken == limit:
                break
            if batch.documents == shard_size:
                yield batch
                batch = _Batch()
            batch.documents += 1
            taken += 1
        batch.rows.append(_as_staged(row))
    if batch.rows:
        yield batch


def _as_staged(row: Row) -> dict[str, Any]:
    common = {name: getattr(row, name, None) for name in STAGED}
    if isinstance(row, RejectedDocument):
        return {**common, "reason": str(row.reason)}
    return {
        **common,
        "char_count": len(row.text),
        "injection_suspected": is_injection_suspected(row.text),
    }


def _stage(batch: _Batch, shard: str, folder: Path, shard_size: int) -> StagedShard:
    path = folder / f"{shard}.parquet"
    frame = pl.DataFrame(batch.rows, schema=STAGED, orient="row")
    staged = StagedShard(shard, path, len(frame), batch.documents, _content_hash(frame))
    if path.is_file():
        existing = pl.read_parquet(path, hive_partitioning=False)
        documents = int(existing["reason"].is_null().sum())
        if documents <= shard_size and existing.head(len(frame)).equals(frame):
            content = _content_hash(existing)
            return replace(
                staged, row_count=len(existing), document_count=documents, content_hash=content
            )
    part = path.with_suffix(f".{os.getpid()}.tmp")
    frame.write_parquet(part)
    part.replace(path)
    return staged


def _content_hash(frame: pl.DataFrame) -> str:
    keys: list[Any] = frame.select("document_id", "reason").rows()
    return stable_id([list(key) for key in keys])
