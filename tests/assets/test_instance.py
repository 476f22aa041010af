"""Test what the files of the Dagster instance say, and that Dagster does it."""

import json
import logging
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.events import DagsterEvent, DagsterEventType
from dagster._core.instance.config import dagster_instance_config
from dagster._core.instance.ref import InstanceRef
from dagster._core.storage.tags import (
    GRPC_INFO_TAG,
    MAX_RETRIES_TAG,
    RUN_FAILURE_REASON_TAG,
    WILL_RETRY_TAG,
)
from dagster._core.test_utils import create_run_for_test
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import EmptyWorkspaceTarget
from dagster._daemon.monitoring.concurrency import execute_concurrency_slots_iteration
from dagster._daemon.monitoring.run_monitoring import execute_run_monitoring_iteration

from assets.instance import open_instance
from assets.run_launcher import COMMAND_TAG
from persona_pipeline.errors import PipelineError
from persona_pipeline.locks import liveness_lock
from persona_pipeline.settings import load_settings

ROOT = Path(__file__).parent.parent.parent
PLACES = {"storage", "compute_logs", "local_artifact_storage"}
LOG = logging.getLogger("tests.instance")


def read(path: str) -> dict[str, Any]:
    return dict(yaml.safe_load((ROOT / path).read_text(encoding="utf-8")))


@contextmanager
def instance_of_the_file(tmp_path: Path, **changed: object) -> Iterator[dg.DagsterInstance]:
    """Open the checkout's dagster.yaml with its storage in a test's folder."""
    storage = {"sqlite": {"base_dir": str(tmp_path)}}
    overrides: dict[str, Any] = {"storage": storage, **changed}
    ref = InstanceRef.from_dir(str(tmp_path), config_dir=str(ROOT), overrides=overrides)
    with dg.DagsterInstance.from_ref(ref) as instance:
        yield instance


def test_both_instance_files_hold_only_what_dagster_knows(tmp_path: Path) -> None:
    for path in ("dagster.yaml", "deploy/dagster.postgres.yaml"):
        file = ROOT / path
        config, _ = dagster_instance_config(str(file.parent), config_filename=file.name)
        assert config["telemetry"] == {"enabled": False}
    (tmp_path / "dagster.yaml").write_text("run_monitoring: {enable: true}")
    with pytest.raises(dg.DagsterInvalidConfigError):
        dagster_instance_config(str(tmp_path))


def test_the_file_for_postgresql_differs_in_where_things_are_kept_only() -> None:
    here, there = read("dagster.yaml"), read("deploy/dagster.postgres.yaml")
    assert {key for key in here if here[key] != there.get(key)} == PLACES
    assert here.keys() == there.keys()


def test_no_secret_is_written_into_an_instance_file() -> None:
    place = read("deploy/dagster.postgres.yaml")["storage"]["postgres"]["postgres_db"]
    assert all(set(value) == {"env"} for key, value in place.items() if key != "scheme")


def test_ticks_are_not_kept_for_ever(tmp_path: Path) -> None:
    with instance_of_the_file(tmp_path) as instance:
        for kind in InstigatorType:
            assert all(days > 0 for days in instance.get_tick_retention_settings(kind).values())


def start_run(
    instance: dg.DagsterInstance, tags: dict[str, str] | None = None, *, seconds_ago: float = 0
) -> str:
    """Make a run that has begun and then reported nothing, as after a kill."""
    starting = dg.DagsterRunStatus.STARTING
    run = create_run_for_test(instance, job_name="main", status=starting, tags=tags)
    event = DagsterEvent(DagsterEventType.RUN_START.value, job_name="main")
    instance.report_dagster_event(event, run.run_id, timestamp=time.time() - seconds_ago)
    assert status_of(instance, run.run_id) is dg.DagsterRunStatus.STARTED
    return str(run.run_id)


def status_of(instance: dg.DagsterInstance, run_id: str) -> dg.DagsterRunStatus:
    run = instance.get_run_by_id(run_id)
    assert run is not None
    return run.status


def monitor(instance: dg.DagsterInstance) -> None:
    """Monitor the runs, as the daemon does every thirty seconds."""
    with WorkspaceProcessContext(instance, EmptyWorkspaceTarget()) as workspace:
        assert not any(execute_run_monitoring_iteration(workspace, LOG))
        list(execute_concurrency_slots_iteration(workspace, LOG))


def test_a_run_that_hangs_is_ended_after_two_days_and_its_slot_is_freed(
    tmp_path: Path,
) -> None:
    two_days = read("dagster.yaml")["run_monitoring"]["max_runtime_seconds"]
    faster = read("dagster.yaml")["run_monitoring"] | {"free_slots_after_run_end_seconds": 1}
    with instance_of_the_file(tmp_path, run_monitoring=faster) as instance:
        events = instance.event_log_storage
        events.set_concurrency_slots("model", 1)
        hangs = start_run(instance, seconds_ago=two_days + 60)
        at_work = start_run(instance, seconds_ago=two_days - 60)
        assert events.claim_concurrency_slot("model", hangs, "step").is_claimed
        assert not events.claim_concurrency_slot("model", at_work, "step").is_claimed

        monitor(instance)
        assert status_of(instance, hangs) is dg.DagsterRunStatus.FAILURE
        assert status_of(instance, at_work) is dg.DagsterRunStatus.STARTED
        time.sleep(2.1)
        monitor(instance)
        assert events.claim_concurrency_slot("model", at_work, "step").is_claimed


def test_a_run_that_was_killed_with_its_code_server_is_ended_at_once(tmp_path: Path) -> None:
    gone = json.dumps({"host": "localhost", "socket": str(tmp_path / "gone")})
    with instance_of_the_file(tmp_path) as instance:
        run = start_run(instance, {GRPC_INFO_TAG: gone})
        monitor(instance)
        assert status_of(instance, run) is dg.DagsterRunStatus.FAILURE


def test_a_run_of_a_code_server_that_was_started_anew_is_ended_and_others_are_not(
    tmp_path: Path,
) -> None:
    with instance_of_the_file(tmp_path) as instance, code_server(tmp_path) as address:
        run = start_run(instance, {GRPC_INFO_TAG: address})
        unknown = start_run(instance)
        monitor(instance)
        assert status_of(instance, run) is dg.DagsterRunStatus.FAILURE
        assert status_of(instance, unknown) is dg.DagsterRunStatus.STARTED


def test_a_run_of_a_server_that_knows_no_runs_is_not_taken_for_dead(tmp_path: Path) -> None:
    proxy = ("code-server", "start")  # what 'dagster dev' puts before the code server
    with instance_of_the_file(tmp_path) as instance, code_server(tmp_path, *proxy) as address:
        run = start_run(instance, {GRPC_INFO_TAG: address})
        monitor(instance)
        assert status_of(instance, run) is dg.DagsterRunStatus.STARTED


@contextmanager
def code_server(folder: Path, *command: str) -> Iterator[str]:
    """Without any code, and with no runs."""
    (folder / "empty.py").write_text("import dagster as dg\n\ndefs = dg.Definitions()\n")
    socket = folder / "socket"
    kind = command or ("api", "grpc")
    program = [sys.executable, "-m", "dagster", *kind, "-s", str(socket), "-f", "empty.py"]
    server = subprocess.Popen(program, cwd=folder, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 300
        while not socket.exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        yield json.dumps({"host": "localhost", "socket": str(socket)})
    finally:
        server.terminate()
        server.wait(timeout=300)


def test_a_run_of_a_killed_command_is_ended_and_that_of_a_living_one_is_not(
    tmp_path: Path,
) -> None:
    signs = [tmp_path / name for name in ("killed", "alive", "of another machine")]
    signs[0].touch()
    with instance_of_the_file(tmp_path) as instance, liveness_lock(signs[1]):
        runs = [start_run(instance, {COMMAND_TAG: str(sign)}) for sign in signs]
        monitor(instance)
        ended, *others = [status_of(instance, run) for run in runs]
        assert ended is dg.DagsterRunStatus.FAILURE
        assert others == [dg.DagsterRunStatus.STARTED] * 2
    assert not signs[1].exists()


@dg.job(executor_def=dg.in_process_executor)
def job_that_reaches_its_budget() -> None:
    @dg.op
    def stage() -> None:
        msg = "the cap is reached"
        raise dg.Failure(msg, allow_retries=False)

    stage()


def will_retry(instance: dg.DagsterInstance, **tags: str) -> str | None:
    outcome = job_that_reaches_its_budget.execute_in_process(
        instance=instance, raise_on_error=False, tags=tags
    )
    run = instance.get_run_by_id(outcome.run_id)
    assert run is not None
    assert run.tags[RUN_FAILURE_REASON_TAG] == "STEP_FAILURE"
    return run.tags.get(WILL_RETRY_TAG)


def test_a_reached_budget_is_not_retried_by_another_run(tmp_path: Path) -> None:
    with instance_of_the_file(tmp_path / "as_it_is") as instance:
        assert will_retry(instance) is None
        assert will_retry(instance, **{MAX_RETRIES_TAG: "3"}) is None

    on = read("dagster.yaml")["run_retries"] | {"enabled": True}
    with instance_of_the_file(tmp_path / "on", run_retries=on) as instance:
        assert will_retry(instance) == "false"

    careless = {"enabled": True, "max_retries": 1}
    with instance_of_the_file(tmp_path / "careless", run_retries=careless) as instance:
        assert will_retry(instance) == "true"  # allow_retries=False is not asked
        assert will_retry(instance, **{MAX_RETRIES_TAG: "0"}) == "false"


def test_a_command_uses_the_instance_of_dagster_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = load_settings(data_dir=tmp_path / "data")
    with open_instance(settings, ROOT) as beside:
        assert beside.root_directory == str(settings.dagster_dir)
        beside.add_dynamic_partitions("shards", ["beside"])

    home = tmp_path / "home"
    home.mkdir()
    (home / "dagster.yaml").write_text(f"storage: {{sqlite: {{base_dir: {home / 'kept'}}}}}")
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    with open_instance(settings, ROOT) as chosen:
        assert not chosen.get_dynamic_partitions("shards")
        chosen.add_dynamic_partitions("shards", ["chosen"])
    with dg.DagsterInstance.get() as instance:  # what 'dagster dev' opens
        assert instance.get_dynamic_partitions("shards") == ["chosen"]
    assert (home / "kept").is_dir()


@pytest.mark.parametrize("name", ["which?", "my%20data"])
def test_a_data_directory_that_dagster_would_misread_is_refused_by_its_name(
    tmp_path: Path, name: str
) -> None:
    settings = load_settings(data_dir=tmp_path / name)
    with (
        pytest.raises(PipelineError, match=f"data_dir '.*{re.escape(name)}' has"),
        open_instance(settings, ROOT),
    ):
        pass


@pytest.mark.parametrize(
    ("home", "file", "message"),
    [
        ("relative", "", "must be the absolute path of a folder that is there"),
        ("{tmp_path}/nowhere", "", "must be the absolute path of a folder that is there"),
        ("{tmp_path}", "retention: {senzor: 3}", 'unexpected config entry "senzor"'),
        ("{tmp_path}", "storage: {sqlite: {base_dir: {env: NOT_SET}}}", '"NOT_SET" which is not'),
        ("{tmp_path}", "storage: {custom: {module: x_y, class: Z, config: {}}}", "module x_y"),
    ],
)
def test_an_instance_that_does_not_open_is_one_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: str, file: str, message: str
) -> None:
    (tmp_path / "dagster.yaml").write_text(file)
    monkeypatch.setenv("DAGSTER_HOME", home.format(tmp_path=tmp_path))
    settings = load_settings(data_dir=tmp_path / "data")
    with pytest.raises(PipelineError) as raised, open_instance(settings, ROOT):
        pass
    assert message in str(raised.value)
    assert "Stack Trace" not in str(raised.value)
