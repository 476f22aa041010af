"""The main job as the command line runs it: the same assets as in the UI, on the same instance."""

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
from dagster._core.errors import DagsterExecutionInterruptedError

from assets.definitions import MAIN_JOB, REGISTER_JOB, build_definitions
from assets.instances import open_instance
from assets.run_launcher import COMMAND_TAG
from persona_pipeline.errors import PipelineError
from persona_pipeline.locks import sign_of_life
from persona_pipeline.settings import Settings
from persona_pipeline.store import open_store, plain_interrupts

QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


def run_main_job(
    settings: Settings, root: Path, *, before_buying: Callable[[list[str]], None]
) -> list[str]:
    """Register the source, then run every shard in order; returns the shards' names.

    `root`: the folder of workspace.yaml and dagster.yaml. `before_buying`: called with the shards.
    What a stage raises is raised here.
    """
    definitions = build_definitions(settings)
    main = definitions.resolve_job_def(MAIN_JOB)
    with open_instance(settings, root) as instance, _signed(settings) as tags, _plain_errors():
        shards = _register(definitions, settings, instance, tags)
        before_buying(shards)
        for shard in shards:
            main.execute_in_process(
                instance=instance, run_config=QUIET, partition_key=shard, tags=tags
            )
    return shards


@contextmanager
def _signed(settings: Settings) -> Iterator[dict[str, str]]:
    """Tags by which run monitoring knows whether this process still lives."""
    sign = settings.locks_dir.absolute() / f"command-{uuid.uuid4()}"  # pids are of a container
    with sign_of_life(sign):
        yield {COMMAND_TAG: str(sign)}


@contextmanager
def _plain_errors() -> Iterator[None]:
    """An interrupt and the library's own errors, without what Dagster wraps around them."""
    try:
        with plain_interrupts():
            yield
    except DagsterExecutionInterruptedError as interrupt:
        raise KeyboardInterrupt from interrupt
    except dg.Failure as failure:
        if isinstance(failure.__cause__, PipelineError):
            raise failure.__cause__ from None
        raise


def _register(
    definitions: dg.Definitions,
    settings: Settings,
    instance: dg.DagsterInstance,
    tags: dict[str, str],
) -> list[str]:
    register = definitions.resolve_job_def(REGISTER_JOB)
    outcome = register.execute_in_process(instance=instance, run_config=QUIET, tags=tags)
    return _registered(settings, outcome.run_id)


def _registered(settings: Settings, run_id: str) -> list[str]:
    store = open_store(settings)
    rows = store.query(
        "select shard from corpus.shards where run_id = $run_id order by shard_number",
        {"run_id": run_id},
    )
    return rows["shard"].to_list()
