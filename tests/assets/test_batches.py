"""Test that the sensor fetches batches that no run waits for, and runs their shards."""

import threading
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.sensor_definition import SensorExecutionData

from assets.definitions import build_definitions
from assets.jobs import MAIN_JOB, REGISTER_JOB
from assets.sensors import BATCH_SENSOR
from persona_pipeline.project import Project
from persona_pipeline.settings import Settings, load_settings
from tests.support.batch_server import BatchServer, serve_batches
from tests.support.platform import QUIET


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    """Open an instance on disk, since each tick reads the partitions from it again."""
    with dg.instance_for_test() as kept:
        yield kept


def settings_for(server: BatchServer, folder: Path, **arguments: object) -> Settings:
    pages = folder / "pages"
    pages.mkdir(exist_ok=True)
    (pages / "mill.txt").write_text("How a four-arm windmill is built, and who works in it.")
    return load_settings(
        **{
            "data_dir": folder / "data",
            "source": str(pages),
            "domains": ["math"],
            "min_chars": 10,
            "model": "openai/served",
            "api_base": server.url,
            "embedding_model": "fake/embedder",
            "batch": True,
            "batch_poll_seconds": 0.05,
            **arguments,
        }
    )


def register(settings: Settings, instance: dg.DagsterInstance) -> str:
    """Register the source; return the name of its only shard."""
    job = build_definitions(Project(settings)).resolve_job_def(REGISTER_JOB)
    assert job.execute_in_process(instance=instance, run_config=QUIET).success
    [shard] = instance.get_dynamic_partitions("shards")
    return shard


def run(settings: Settings, instance: dg.DagsterInstance, shard: str) -> bool:
    job = build_definitions(Project(settings)).resolve_job_def(MAIN_JOB)
    return job.execute_in_process(
        instance=instance, run_config=QUIET, partition_key=shard, raise_on_error=False
    ).success


def tick(settings: Settings, instance: dg.DagsterInstance) -> SensorExecutionData:
    definitions = build_definitions(Project(settings))
    with dg.build_sensor_context(
        instance, instance_ref=instance.get_ref(), definitions=definitions
    ) as context:
        return definitions.resolve_sensor_def(BATCH_SENSOR).evaluate_tick(context)


def test_a_finished_batch_is_fetched_and_its_shard_is_run_without_paying(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    with serve_batches(BatchServer(delay=600)) as server:
        settings = settings_for(server, tmp_path)
        shard = register(settings, instance)

        def lock_out() -> None:  # so that the run ends and its batch goes on
            server.is_asked.wait(600)
            server.key = "sk-another"

        locker = threading.Thread(target=lock_out)
        locker.start()
        assert not run(settings, instance, shard)
        locker.join()
        server.key = None
        assert not tick(settings, instance).run_requests

        server.finish()
        [request] = tick(settings, instance).run_requests or []
        assert (str(request.run_key).split()[0], request.partition_key) == ("batch_0", shard)
        assert run(settings, instance, shard)
        assert server.billed_twice == 0
        assert not tick(settings, instance).run_requests


def test_the_sensor_is_on_only_where_runs_buy_in_batches(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    with serve_batches(BatchServer()) as server:
        on = settings_for(server, tmp_path)
        off = settings_for(server, tmp_path, batch=False)
    statuses = [
        build_definitions(Project(settings)).resolve_sensor_def(BATCH_SENSOR).default_status
        for settings in (on, off)
    ]
    assert statuses == [dg.DefaultSensorStatus.RUNNING, dg.DefaultSensorStatus.STOPPED]
    assert "again" in str(tick(off, instance).skip_message)
