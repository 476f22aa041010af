"""Run the main job for the command line, with the assets and the instance of the UI."""

import io
import sys
import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TextIO, cast

import dagster as dg
from dagster._core.errors import DagsterExecutionInterruptedError

from assets.code_location import build_definitions
from assets.instance import open_instance
from assets.jobs import MAIN_JOB, PERSONAS_JOB, REGISTER_JOB, SELECTIONS_JOB
from assets.run_launcher import COMMAND_TAG
from assets.shard_assets import RANGE_END, RANGE_START, SHARDS
from assets.shard_runs import NOTHING_CHANGED
from persona_pipeline.errors import PipelineError, plain_interrupts
from persona_pipeline.locks import liveness_lock
from persona_pipeline.project import Project
from persona_pipeline.store.data_folder import DataFolder

LAST_ASSET = dg.AssetKey(["synthetic", "duplicates"])
"""The asset of the last step of a shard."""
MOST_NAMED = 100
"""Skipped shards that are named in one event."""
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


@dataclass(frozen=True, slots=True)
class MainJob:
    """The main job of a project. It runs in this process, and a stage's error is raised here."""

    project: Project
    definitions: dg.Definitions
    instance: dg.DagsterInstance
    tags: Mapping[str, str]

    def register(self) -> list[str]:
        """Register the source; return the names of its shards, in order.

        The run itself says which. `corpus.shards` has the run that registered a shard last, which
        may be another process's by now.
        """
        result = self._run(REGISTER_JOB)
        [shards] = result.asset_materializations_for_node("corpus__shards")
        return [*cast("Sequence[str]", shards.metadata["registered"].value)]

    def run(self, shards: Sequence[str]) -> None:
        """Run every shard that has a step to do, in order; the instance shows the others as such.

        Selections that a domain draws from and that were never made are made when the hub has all
        shards.
        """
        rest = None
        if self.project.unmade_selections():
            self._run_undone(PERSONAS_JOB, shards)
            if names := self.project.unmade_selections():  # another process may have made them
                config = {"personas__selections": {"config": {"names": names}}}
                self._run(SELECTIONS_JOB, ops=config)
            rest = sorted(self._assets_of(MAIN_JOB) - self._assets_of(PERSONAS_JOB))
        done = self._run_undone(MAIN_JOB, shards, assets=rest)
        if done == [*shards] and self._owes_reports():
            self._run(MAIN_JOB, shards[-1:])  # its steps are left out; tables and checks are not
        if done:
            self.instance.report_runless_asset_event(_skipped(done))

    def _owes_reports(self) -> bool:
        """Tell whether marts and checks must run although no step has to.

        The last run may have failed at a check, or been killed before it. And a freshness policy
        wants a report now and then.
        """
        if self.project.settings.fresh_within_hours is not None:
            return True
        last = self.instance.get_runs(dg.RunsFilter(job_name=MAIN_JOB), limit=1)
        return not last or last[0].status != dg.DagsterRunStatus.SUCCESS

    def _run_undone(
        self, job: str, shards: Sequence[str], *, assets: Sequence[dg.AssetKey] | None = None
    ) -> list[str]:
        """Run the shards that have a step to do, or that Dagster does not know; return the others.

        A run of a shard may change the input of later ones, so these are looked at once more.
        """
        known = self.instance.get_materialized_partitions(LAST_ASSET)  # a new instance has none
        rest, done = [*shards], list[str]()
        while rest:
            undone = self.project.undone_steps(rest)
            due = {shard for shard in rest if undone[shard] or shard not in known}
            start = next((place for place, shard in enumerate(rest) if shard in due), len(rest))
            done += rest[:start]
            together = self._first_together(rest[start:], due)
            if together:
                self._run(job, together, assets=assets)
            rest = rest[start + len(together) :]
        return done

    def _first_together(self, shards: Sequence[str], due: Collection[str]) -> list[str]:
        """Return the first of these shards that one run does: neighbours that are due.

        A run costs 2 CPU-seconds and more for itself. If there is a cap, each shard has its own: so
        the money buys records of some shards, and not personas of all.
        """
        settings, together = self.project.settings, list[str]()
        most = 1 if settings.has_caps else settings.shards_per_run
        partitions = self.instance.get_dynamic_partitions(str(SHARDS.name))
        following = dict(pairwise(partitions))
        for shard in shards[:most]:
            if shard not in due or (together and following.get(together[-1]) != shard):
                break
            together.append(shard)
        return together

    def _run(
        self,
        job: str,
        shards: Sequence[str] = (),
        *,
        ops: Mapping[str, object] | None = None,
        assets: Sequence[dg.AssetKey] | None = None,
    ) -> dg.ExecuteInProcessResult:
        """Run a job for neighbouring shards, or only its `assets`, with the configuration `ops`."""
        tags = dict(self.tags)
        if len(shards) > 1:
            tags |= {RANGE_START: shards[0], RANGE_END: shards[-1]}
        with _plain_errors():
            return self.definitions.resolve_job_def(job).execute_in_process(
                instance=self.instance,
                run_config={**QUIET, "ops": ops or {}},
                partition_key=shards[0] if len(shards) == 1 else None,
                tags=tags,
                asset_selection=assets,
            )

    def _assets_of(self, job: str) -> set[dg.AssetKey]:
        return set(self.definitions.resolve_job_def(job).asset_layer.executable_asset_keys)


def _skipped(shards: Sequence[str]) -> dg.AssetObservation:
    """Build the event that says which shards had nothing to do."""
    return dg.AssetObservation(
        asset_key=["corpus", "shards"],
        description=f"{len(shards):,} shards skipped: {NOTHING_CHANGED}",
        metadata={"skipped": list(shards[:MOST_NAMED]), "skipped_count": len(shards)},
    )


@contextmanager
def open_main_job(project: Project, root: Path) -> Iterator[MainJob]:
    """Open the instance and build the main job; `root` holds workspace.yaml and dagster.yaml."""
    definitions, settings = build_definitions(project), project.settings
    with open_instance(settings, root) as instance, _signed(settings) as tags:
        yield MainJob(project, definitions, instance, tags)


@contextmanager
def _signed(folder: DataFolder) -> Iterator[dict[str, str]]:
    """Yield the tags by which run monitoring knows whether this process still lives."""
    sign = folder.locks_dir.absolute() / f"command-{uuid.uuid4()}"  # pids repeat in containers
    with liveness_lock(sign):
        yield {COMMAND_TAG: str(sign)}


class ShortLogFailures(io.TextIOBase):
    """A stream that cuts what Dagster says of an event that it could not store.

    Its first line names the cause. The SQL with all its values comes after.
    """

    def __init__(self, target: TextIO) -> None:
        """Write to `target`."""
        self._target = target

    def write(self, text: str) -> int:
        """Write the text, or the first line of a failure; return the text's length."""
        first, end, _ = text.partition("\n")
        is_failure = first.startswith("Exception while writing logger call to event log")
        self._target.write(first + end if is_failure else text)
        return len(text)

    def flush(self) -> None:
        """Flush the target."""
        self._target.flush()


@contextmanager
def _plain_errors() -> Iterator[None]:
    """Raise interrupts and the library's errors without what Dagster wraps around them."""
    try:
        with plain_interrupts(), redirect_stderr(ShortLogFailures(sys.stderr)):
            yield
    except DagsterExecutionInterruptedError as interrupt:
        raise KeyboardInterrupt from interrupt
    except dg.Failure as failure:
        if isinstance(failure.__cause__, PipelineError):
            raise failure.__cause__ from None
        raise
