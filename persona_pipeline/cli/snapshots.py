"""The published snapshot, for the commands that read."""

import logging
from pathlib import Path

from persona_pipeline.errors import PipelineError, StoreError
from persona_pipeline.settings import Settings
from persona_pipeline.store import Store

LOG = logging.getLogger(__name__)


def newest_snapshot(settings: Settings) -> Path:
    """Where it is; what a killed run left unpublished is published first.

    Raises:
        PipelineError: nothing has been run yet.
    """
    if settings.database.is_file():
        try:
            Store(settings.database, settings.snapshot, lock_timeout=0).publish()
        except StoreError as error:  # a run is writing, and publishes itself
            LOG.info("%s", error)
    if not settings.snapshot.is_file():
        msg = f"there is no {settings.snapshot} yet: run 'persona-pipeline run' first"
        raise PipelineError(msg)
    return settings.snapshot
