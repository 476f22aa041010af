"""Looking after batches that nobody waits for: their answers are fetched, and a run takes them."""

import asyncio
import logging
from dataclasses import dataclass

from persona_pipeline.llm.batches.api import BatchApi, NeverSubmitted, advance
from persona_pipeline.llm.batches.records import BatchRecord, find_records
from persona_pipeline.llm.errors import CallError
from persona_pipeline.models import endpoint_of
from persona_pipeline.settings import Settings

LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CollectedBatch:
    """A batch whose answers are on disk, for a run over its shard to take."""

    batch_id: str
    shard: str
    requests: int


def collect_finished(settings: Settings) -> list[CollectedBatch]:
    """Look at every batch that no living process waits for, and fetch what is finished.

    A batch stays in the list until a run has taken its answers into the database. Trouble with one
    is logged, and does not keep the others.
    """
    records = [*find_records(settings.batches_dir)]
    return asyncio.run(_collect(settings, records)) if records else []


async def _collect(settings: Settings, records: list[BatchRecord]) -> list[CollectedBatch]:
    matches = []
    for record in records:
        try:
            if record.hold() and await _fetch(settings, record):
                submission = record.submission
                count = len(submission.requests)
                matches.append(CollectedBatch(str(record.batch_id), submission.shard, count))
        except FileNotFoundError:
            continue
        except NeverSubmitted:
            LOG.warning("the provider has no batch of %s: it will be asked again", record.path)
        except CallError as error:
            LOG.warning("batch %s of %s: %s", record.batch_id, record.submission.model, error)
        finally:
            record.release()
    return matches


async def _fetch(settings: Settings, record: BatchRecord) -> bool:
    """Whether its answers are here now; those of another server's batch never are."""
    if not record.is_finished:
        model = record.submission.model
        api_base, api_key = endpoint_of(settings, model)
        api = BatchApi(model, api_base=api_base, api_key=api_key)
        if api.address == record.submission.address:
            await advance(record, api)
    return record.is_finished
