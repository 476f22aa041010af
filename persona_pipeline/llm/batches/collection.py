"""Collect batches that no run waits for, so that the next run takes their answers."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from persona_pipeline.llm.batches.api import BatchApi, NeverSubmitted, advance
from persona_pipeline.llm.batches.records import BatchRecord, find_records
from persona_pipeline.llm.errors import CallError

LOG = logging.getLogger(__name__)

OpenApi = Callable[[str], BatchApi]
"""Opens the batch API of a model, by its LiteLLM name. May raise a CallError."""


@dataclass(frozen=True, slots=True)
class CollectedBatch:
    """Name a batch whose answers are on disk, ready for a run over its shard."""

    batch_id: str
    shard: str
    requests: int


def collect_finished(folder: Path, open_api: OpenApi) -> list[CollectedBatch]:
    """Check every batch in `folder` that no living process waits for, and fetch the finished ones.

    A batch is returned until a run has moved its answers into the database. Trouble with one batch
    is logged, and does not hold up the others.
    """
    records = [*find_records(folder)]
    return asyncio.run(_collect(records, open_api)) if records else []


async def _collect(records: list[BatchRecord], open_api: OpenApi) -> list[CollectedBatch]:
    collected = []
    for record in records:
        try:
            if record.hold() and await _fetch(record, open_api):
                submission = record.submission
                count = len(submission.requests)
                collected.append(CollectedBatch(str(record.batch_id), submission.shard, count))
        except FileNotFoundError:
            continue
        except NeverSubmitted:
            LOG.warning(
                "the provider has no batch of %s: the next run submits it again", record.path
            )
        except CallError as error:
            LOG.warning("batch %s of %s: %s", record.batch_id, record.submission.model, error)
        finally:
            record.release()
    return collected


async def _fetch(record: BatchRecord, open_api: OpenApi) -> bool:
    """Return whether the answers are on disk now. Those of another server's batch never are."""
    if not record.is_finished:
        api = open_api(record.submission.model)
        if api.address == record.submission.address:
            await advance(record, api)
    return record.is_finished
