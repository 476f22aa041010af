"""Dagster's own run launcher, which also tells run monitoring when a run's process is gone."""

from pathlib import Path

import dagster as dg
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._core.launcher.base import CheckRunHealthResult, WorkerStatus
from dagster._grpc.types import GetCurrentRunsResult
from dagster._serdes import deserialize_value
from grpc import RpcError, StatusCode

from persona_pipeline.locks import is_held

COMMAND_TAG = "persona_pipeline/command"
"""On a run of the command line: the file that its process keeps locked."""
AT_WORK = CheckRunHealthResult(WorkerStatus.RUNNING)
GONE = CheckRunHealthResult(WorkerStatus.NOT_FOUND, "its code server is gone")


class WatchingRunLauncher(dg.DefaultRunLauncher):
    """Starts runs as child processes of the code server, and asks it for them.

    The default launcher cannot say how a run is, so one that was killed together with its code
    server would count as running until its time is up.
    """

    @property
    def supports_check_run_worker_health(self) -> bool:
        """It does."""
        return True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """Whether somebody still works on a run; in doubt, yes."""
        if sign := run.tags.get(COMMAND_TAG):
            return self._of_command(Path(sign))
        server = self._get_grpc_client_for_termination(run.run_id)  # type: ignore[no-untyped-call] # not annotated
        if server is None:  # started by neither, or ended meanwhile
            return AT_WORK
        try:
            answer = deserialize_value(server.get_current_runs(), GetCurrentRunsResult)
        except DagsterUserCodeUnreachableError as error:
            return GONE if _is_gone(error) else AT_WORK
        if answer.serializable_error_info or run.run_id in answer.current_runs:
            return AT_WORK
        return CheckRunHealthResult(WorkerStatus.NOT_FOUND, "its code server was started anew")

    def _of_command(self, sign: Path) -> CheckRunHealthResult:
        """A file that is not there may be on another machine."""
        if is_held(sign) or not sign.exists():
            return AT_WORK
        return CheckRunHealthResult(WorkerStatus.NOT_FOUND, "its command was killed")


def _is_gone(error: DagsterUserCodeUnreachableError) -> bool:
    """Nobody listens; a busy server times out, and the proxy of 'dagster dev' knows no runs."""
    cause = error.__cause__
    return isinstance(cause, RpcError) and cause.code() == StatusCode.UNAVAILABLE
