"""Test sensor, schedule and conditions by real ticks on an ephemeral instance."""

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.partitions.context import partition_loading_context

from assets.jobs import MAIN_JOB, SCAN_JOB
from assets.shard_assets import PARTITION, RANGE_END, RANGE_START
from persona_pipeline.llm.errors import ModelError
from persona_pipeline.llm.gateway.attempts import ModelDown
from persona_pipeline.pending_shards import stop_of
from tests.support.platform import QUIET, KeptProject, Platform, open_local_instance

NIGHT = datetime(2026, 11, 23, 2, tzinfo=UTC)
TEXT = "Inbox page {} tells how a ferry of {} decks crosses the river in winter."


class Watched(Platform):
    """A platform whose pages are watched, instead of registered by hand."""

    def __init__(self, folder: Path, instance: dg.DagsterInstance, **arguments: object) -> None:
        chosen = {"watch": str(folder / "pages"), "domains": ["math"], **arguments}
        super().__init__(folder, instance, **chosen)
        self.keys = set[str]()

    def drop(self, number: int, text: str = "") -> Path:
        """Write a page that was last modified some time ago."""
        self.write_page(f"inbox{number}", text or TEXT.format(number, number))
        path = self.pages / f"inbox{number}.txt"
        os.utime(path, (1_700_000_000 + number, 1_700_000_000 + number))
        return path

    def tick(self) -> list[dg.RunRequest] | str:
        """Return the new requests of the sensor, or why it requests nothing."""
        sensor = self.definitions.resolve_sensor_def("inbox")
        with (
            partition_loading_context(dynamic_partitions_store=self.instance),
            dg.build_sensor_context(
                self.instance, repository_def=self.definitions.get_repository_def()
            ) as context,
        ):
            data = sensor.evaluate_tick(context)
        requests = [item for item in data.run_requests or [] if item.run_key not in self.keys]
        self.keys |= {str(item.run_key) for item in requests}
        return requests or str(data.skip_message)

    def serve(self) -> list[str]:
        """Run what the sensor requests until it requests nothing; return what was run."""
        done = list[str]()
        while not isinstance(requests := self.tick(), str):
            for request in requests:
                job = self.definitions.resolve_job_def(str(request.job_name))
                job.execute_in_process(
                    instance=self.instance,
                    run_config=QUIET,
                    partition_key=request.partition_key,
                    raise_on_error=False,
                )
                done.append(request.partition_key or str(request.job_name))
        return done

    def night(self) -> dict[str, str] | str:
        """Return the shards that the schedule requests and why, or why it requests none."""
        schedule = self.definitions.resolve_schedule_def("nightly")
        with (
            partition_loading_context(dynamic_partitions_store=self.instance),
            dg.build_schedule_context(
                self.instance,
                scheduled_execution_time=NIGHT,
                repository_def=self.definitions.get_repository_def(),
            ) as context,
        ):
            data = schedule.evaluate_tick(context)
        reasons = {
            str(item.partition_key): item.tags["persona_pipeline/why"]
            for item in data.run_requests or []
        }
        return reasons or str(data.skip_message)

    def bought(self) -> int:
        [(count,)] = self.store.query("select count(*) from llm.calls").rows()
        return int(count)


@pytest.fixture
def watched(tmp_path: Path, instance: dg.DagsterInstance) -> Watched:
    return Watched(tmp_path, instance)


@pytest.fixture(scope="module")
def served_files(tmp_path_factory: pytest.TempPathFactory) -> KeptProject:
    """Make the files of `served` once."""
    project = KeptProject(tmp_path_factory.mktemp("served"))
    with project.instance() as instance:
        watched = Watched(project.folder, instance)
        watched.drop(1)
        watched.serve()
    project.keep()
    return project


@pytest.fixture
def served(served_files: KeptProject) -> Iterator[Watched]:
    """Restore a platform after its first file. A test may change it."""
    served_files.put_back()
    with served_files.instance() as instance:
        yield Watched(served_files.folder, instance)


def test_a_file_in_the_inbox_becomes_a_shard_and_is_run_once(watched: Watched) -> None:
    watched.drop(1)
    done = watched.serve()
    [shard] = watched.store.query("select shard from corpus.shards")["shard"]
    assert done == [SCAN_JOB, shard]
    hub = watched.store.query("select distinct shard from personas.hub")["shard"].to_list()
    assert hub == [shard]
    assert watched.tick() == f"{watched.pages}: 0 files to read, 0 gone"


def test_a_new_file_buys_its_own_shard_and_leaves_the_older_one(served: Watched) -> None:
    watched, [first] = served, served.shards()
    before = {key: watched.version(key, first) for key in ("corpus/documents", "personas/hub")}
    rows = watched.rows("personas.hub")
    bought = watched.bought()

    watched.drop(2)
    [_, second] = watched.serve()

    assert second != first
    own = watched.store.query("select count(*) from llm.calls where shard = $s", {"s": second})
    assert watched.bought() - bought == own.item()
    assert {key: watched.version(key, first) for key in before} == before
    assert [row for row in watched.rows("personas.hub") if row[0] == first] == rows


@pytest.fixture
def kept_instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    """Open an instance on disk: schedules accept no other."""
    (tmp_path / "home").mkdir()
    with open_local_instance(tmp_path / "home") as result:
        yield result


def test_a_run_that_fails_is_not_requested_again_by_the_sensor(
    tmp_path: Path, kept_instance: dg.DagsterInstance
) -> None:
    watched = Watched(tmp_path, kept_instance)
    watched.drop(1)
    assert len(watched.tick()) == 1
    watched.definitions.resolve_job_def(SCAN_JOB).execute_in_process(
        instance=watched.instance, run_config=QUIET
    )
    for staged in watched.settings.staging_dir.iterdir():
        staged.unlink()
    [shard] = watched.serve()
    assert watched.store.query("from corpus.documents").is_empty()
    for _ in range(3):
        assert isinstance(watched.tick(), str)
    assert watched.night() == {shard: "never run"}


def test_nothing_is_watched_unless_places_are_named(platform: Platform) -> None:
    sensor = platform.definitions.resolve_sensor_def("inbox")
    assert sensor.default_status == dg.DefaultSensorStatus.STOPPED
    with dg.build_sensor_context(platform.instance) as context:
        assert sensor.evaluate_tick(context).skip_message == "no place is watched: set watch"


def test_a_place_that_is_not_there_is_named_and_the_others_are_served(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    pages = tmp_path / "pages"
    watched = Watched(tmp_path, instance, watch=f"{tmp_path / 'none'},{pages}")
    watched.drop(1)
    assert len(watched.serve()) == 2
    assert "there is no file or folder" in str(watched.tick())


def test_at_night_runs_what_is_missing_outdated_or_failed_and_nothing_else(
    tmp_path: Path, kept_instance: dg.DagsterInstance
) -> None:
    watched = Watched(tmp_path, kept_instance, shard_size=1)
    for number in range(4):
        watched.drop(number)
    shards = watched.register()
    for shard in shards[:3]:
        watched.run(shard)
    with watched.store.transaction() as connection:
        connection.execute(
            "delete from runs.stages where stage = 'synthetic.math' and shard = ?", [shards[1]]
        )
        connection.execute(
            "update personas.rejected set reason = 'call_failed' where shard = ?", [shards[2]]
        )
        connection.execute(
            "update runs.stages set input_count = 7 where stage = 'synthetic.math' and shard = ?",
            [shards[2]],
        )
    watched.store.publish()
    assert watched.night() == {
        shards[1]: "a stage is missing",
        shards[2]: "an input has changed",
        shards[3]: "never run",
    }


def test_at_night_nothing_is_run_when_all_is_done(watched: Watched, served: Watched) -> None:
    assert "there is no" in str(watched.night())
    assert served.night() == "nothing to run; 0 stopped shards left alone"


def test_a_run_that_stopped_at_its_budget_is_not_retried_until_somebody_runs_it(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    watched = Watched(tmp_path, instance, max_tokens=3000)
    watched.drop(1)
    [_, shard] = watched.serve()
    [stop] = watched.store.query("select shard, stage, reason from runs.stops").rows()
    assert (stop[0], stop[2]) == (shard, "budget")
    assert isinstance(watched.tick(), str)
    assert watched.night() == "nothing to run; 1 stopped shards left alone"

    richer = Watched(tmp_path, instance, max_tokens=1_000_000)
    assert richer.run(shard).success
    assert richer.store.query("from runs.stops").is_empty()
    assert richer.night() == "nothing to run; 0 stopped shards left alone"


@pytest.mark.parametrize("tags", [[PARTITION], [RANGE_START, RANGE_END]], ids=["one", "range"])
def test_at_night_a_shard_with_a_run_that_has_not_ended_is_left_alone(
    tmp_path: Path, kept_instance: dg.DagsterInstance, tags: list[str]
) -> None:
    watched = Watched(tmp_path, kept_instance)
    watched.drop(1)
    [shard] = watched.register()
    watched.store.publish()
    assert watched.night() == {shard: "never run"}
    job = watched.definitions.resolve_job_def(MAIN_JOB)
    kept_instance.create_run_for_job(
        job, status=dg.DagsterRunStatus.STARTED, tags=dict.fromkeys(tags, shard)
    )
    assert isinstance(watched.night(), str)


def test_a_domain_that_is_switched_off_leaves_no_shard_unfinished(
    tmp_path: Path, kept_instance: dg.DagsterInstance
) -> None:
    watched = Watched(tmp_path, kept_instance, domains=["math", "tool"])
    watched.drop(1)
    [shard] = watched.register()
    watched.run(shard)
    with watched.store.transaction() as connection:
        connection.execute("update runs.stages set input_count = 7 where stage like '%.tool'")
    watched.store.publish()
    assert watched.night() == {shard: "an input has changed"}
    assert isinstance(Watched(tmp_path, kept_instance, domains=["math"]).night(), str)


def test_an_outage_is_no_reason_to_leave_a_shard_alone() -> None:
    for error, reasons in ((ModelDown("no answer"), []), (ModelError("no key"), ["model"])):
        stop = stop_of("s1", "text_to_persona", error)
        assert stop.tables["runs.stops"]["reason"].to_list() == reasons


class Conditions:
    """Ticks of the automation conditions."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._cursor: dg.AutomationConditionCursor | None = None

    def tick(self) -> set[tuple[str, str | None]]:
        """Return the assets and shards that are requested."""
        result = dg.evaluate_automation_conditions(
            self._platform.definitions, self._platform.instance, cursor=self._cursor
        )
        self._cursor = result.cursor
        return {
            (key.to_user_string(), part)
            for key in self._platform.definitions.resolve_asset_graph().get_all_asset_keys()
            for part in (result.get_requested_partitions(key) or [])
        }


def test_only_what_has_other_rows_is_followed_and_once(finished_platform: Platform) -> None:
    platform = finished_platform
    first, _ = platform.shards()
    conditions = Conditions(platform)
    conditions.tick()

    platform.materialize("personas/extracted", shard=first)  # the same rows
    assert conditions.tick() == set()

    with platform.store.transaction() as connection:
        connection.execute("delete from corpus.documents where shard = ? and line is null", [first])
    platform.materialize("personas/extracted", shard=first)  # other rows
    asked = conditions.tick()
    assert ("personas/candidates", first) in asked
    assert {shard for key, shard in asked if key.startswith("personas/")} == {first}
    buying = {"personas/extracted", "personas/related", "personas/embeddings"}
    assert not {key for key, _ in asked} & buying
    assert conditions.tick() == set()


def test_no_asset_that_buys_has_a_condition(platform: Platform) -> None:
    specs = {
        spec.key.to_user_string(): spec for spec in platform.definitions.resolve_all_asset_specs()
    }
    by_itself = {key for key, spec in specs.items() if spec.automation_condition}
    domains = {f"synthetic/{name}" for name in platform.settings.load_domains()}
    assert not by_itself & {*domains, "personas/extracted", "personas/related"}
    assert not by_itself & {"personas/embeddings", "corpus/files", "corpus/shards"}
    assert {"personas/candidates", "personas/hub", "marts/funnel", "llm/calls"} <= by_itself
