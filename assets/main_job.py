"""The main job as the command line runs it: the same assets as in the UI, on the same instance."""

import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
from dagster._core.errors import DagsterExecutionInterruptedError

from assets.definitions import build_definitions
from assets.instance import open_instance
from assets.jobs import MAIN_JOB, PERSONAS_JOB, REGISTER_JOB, SELECTIONS_JOB
from assets.run_launcher import COMMAND_TAG
from persona_pipeline.errors import PipelineError, plain_interrupts
from persona_pipeline.locks import liveness_lock
from persona_pipeline.project import open_store, unmade_selections
from persona_pipeline.settings import Settings

QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


@dataclass(frozen=True, slots=True)
class _Jobs:
    """The jobs of the code location, run in this process."""

    definitions: dg.Definitions
    instance: dg.DagsterInstance
    tags: Mapping[str, str]

    def run(
        self,
        job: str,
        shard: str | None = None,
        *,
        ops: Mapping[str, object] | None = None,
        assets: Sequence[dg.AssetKey] | None = None,
    ) -> dg.ExecuteInProcessResult:
        """Run a job, or those `assets` of it, with the configuration `ops`."""
        return self.definitions.resolve_job_def(job).execute_in_process(
            instance=self.instance,
            run_config={**QUIET, "ops": ops or {}},
            partition_key=shard,
            tags=self.tags,
            asset_selection=assets,
        )

    def assets_of(self, job: str) -> set[dg.AssetKey]:
        """What a job makes."""
        return set(self.definitions.resolve_job_def(job).asset_layer.executable_asset_keys)


def run_main_job(
    settings: Settings, root: Path, *, before_buying: Callable[[list[str]], None]
) -> list[str]:
    """Register the source, then run every shard in order; returns the shards' names.

    `root`: the folder of workspace.yaml and dagster.yaml. `before_buying`: called with the shards.
    What a stage raises is raised here. Selections that a domain is to draw from, and that were
    never made, are made as soon as the hub has all shards.
    """
    definitions = build_definitions(settings)
    with open_instance(settings, root) as instance, _signed(settings) as tags, _plain_errors():
        jobs = _Jobs(definitions, instance, tags)
        shards = _registered(settings, jobs.run(REGISTER_JOB).run_id)
        before_buying(shards)
        rest, store = None, open_store(settings)
        if unmade_selections(store, settings):
            for shard in shards:
                jobs.run(PERSONAS_JOB, shard)
            if names := unmade_selections(store, settings):  # still: that took its time
                jobs.run(SELECTIONS_JOB, ops={"personas__selections": {"config": {"names": names}}})
            rest = sorted(jobs.assets_of(MAIN_JOB) - jobs.assets_of(PERSONAS_JOB))
        for shard in shards:
            jobs.run(MAIN_JOB, shard, assets=rest)
    return shards


@contextmanager
def _signed(settings: Settings) -> Iterator[dict[str, str]]:
    """Tags by which run monitoring knows whether this process still lives."""
    sign = settings.locks_dir.absolute() / f"command-{uuid.uuid4()}"  # pids are of a container
    with liveness_lock(sign):
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


def _registered(settings: Settings, run_id: str) -> list[str]:
    store = open_store(settings)
    rows = store.query(
        "select shard from corpus.shards where run_id = $run_id order by shard_number",
        {"run_id": run_id},
    )
    return rows["shard"].to_list()
