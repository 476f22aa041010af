"""Extend Dagster's run launcher, so that run monitoring learns when a run's process is gone."""

from pathlib import Path

import dagster as dg
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._core.launcher.base import CheckRunHealthResult, WorkerStatus
from dagster._grpc.types import GetCurrentRunsResult
from dagster._serdes import deserialize_value
from grpc import RpcError, StatusCode

from persona_pipeline.locks import is_held

COMMAND_TAG = "persona_pipeline/command"
"""Tag of a run of the command line: the file that the run's process keeps locked."""
AT_WORK = CheckRunHealthResult(WorkerStatus.RUNNING)
GONE = CheckRunHealthResult(WorkerStatus.NOT_FOUND, "its code server is gone")


class WatchingRunLauncher(dg.DefaultRunLauncher):
    """Start runs as child processes of the code server, and ask the server whether they live.

    The default launcher does not check a run's health. A run that was killed together with its
    code server would count as running until its time is up.
    """

    @property
    def supports_check_run_worker_health(self) -> bool:
        """Whether the launcher can check a run: always."""
        return True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """Tell whether a process still works on a run. In doubt, the answer is yes."""
        if sign := run.tags.get(COMMAND_TAG):
            return self._of_command(Path(sign))
        server = self._get_grpc_client_for_termination(run.run_id)  # type: ignore[no-untyped-call] # not annotated
        if server is None:  # started elsewhere, or ended meanwhile
            return AT_WORK
        try:
            answer = deserialize_value(server.get_current_runs(), GetCurrentRunsResult)
        except DagsterUserCodeUnreachableError as error:
            return GONE if _is_gone(error) else AT_WORK
        if answer.serializable_error_info or run.run_id in answer.current_runs:
            return AT_WORK
        return CheckRunHealthResult(WorkerStatus.NOT_FOUND, "its code server was started anew")

    def _of_command(self, sign: Path) -> CheckRunHealthResult:
        """Check a run of the command line. A missing file may be on another machine."""
        if is_held(sign) or not sign.exists():
            return AT_WORK
        return CheckRunHealthResult(WorkerStatus.NOT_FOUND, "its command was killed")


def _is_gone(error: DagsterUserCodeUnreachableError) -> bool:
    """Tell whether no server listens. A busy server times out instead."""
    cause = error.__cause__
    return isinstance(cause, RpcError) and cause.code() == StatusCode.UNAVAILABLE
