"""Test that a selection is made on demand, and that a domain draws from it."""

from pathlib import Path

import dagster as dg
import pytest

from assets.jobs import MAIN_JOB, PERSONAS_JOB, SELECTIONS_JOB
from persona_pipeline.estimate import estimate_run
from persona_pipeline.hub.selection import Changes, changes_since
from persona_pipeline.hub.selection_rules import Selection
from tests.assets.test_assets import edges
from tests.support.platform import Platform

CHOSEN = "select persona_id from personas.selections where name = 'diverse' order by all"


@pytest.fixture
def diverse(tmp_path: Path, instance: dg.DagsterInstance) -> Platform:
    """Write four pages in two shards; math draws from a selection of three personas."""
    result = Platform(
        tmp_path,
        instance,
        shard_size=2,
        records_per_shard=None,
        domains=["math", "tool"],
        selections={"diverse": {"count": 3, "thresholds": [0.7]}, "many": {"count": 100}},
        persona_sources={"math": "diverse"},
    )
    for number in range(4):
        result.write_page(f"page{number}", f"Page {number} tells how a {number}-arm mill is built.")
    return result


def metadata(result: dg.ExecuteInProcessResult) -> dict[str, object]:
    [event] = result.get_asset_materialization_events()
    return {name: value.value for name, value in event.materialization.metadata.items()}


def failures(result: dg.ExecuteInProcessResult) -> str:
    return str([event.event_specific_data for event in result.all_events if event.is_step_failure])


def test_a_domain_depends_on_its_selection_which_is_no_part_of_the_main_job(
    diverse: Platform,
) -> None:
    upstream = edges(diverse.definitions)
    assert upstream["personas/selections"] == {"personas/hub", "personas/embeddings"}
    assert upstream["synthetic/math"] == {"personas/hub", "personas/selections"}
    assert upstream["synthetic/tool"] == {"personas/hub"}
    job = diverse.definitions.resolve_job_def(MAIN_JOB)
    assert dg.AssetKey(["personas", "selections"]) not in job.asset_layer.executable_asset_keys


def test_a_shard_goes_to_the_hub_by_assets_of_the_main_job_only(diverse: Platform) -> None:
    jobs = [diverse.definitions.resolve_job_def(name) for name in (PERSONAS_JOB, MAIN_JOB)]
    to_hub, main = (job.asset_layer.executable_asset_keys for job in jobs)
    assert dg.AssetKey(["personas", "hub"]) in to_hub
    assert set(to_hub) < set(main)


def test_a_selection_that_is_yet_to_be_made_is_estimated_by_its_count(diverse: Platform) -> None:
    estimate = estimate_run(diverse.project, diverse.register())
    calls = {stage.stage: stage.calls for stage in estimate.stages}
    assert calls["synthetic.math"] == 3
    assert calls["synthetic.tool"] > 3


def test_named_selections_are_made_alone(diverse: Platform) -> None:
    [first, _] = diverse.register()
    diverse.run(first)  # to the hub: math has nobody yet
    job = diverse.definitions.resolve_job_def(SELECTIONS_JOB)

    def make(name: str) -> dg.ExecuteInProcessResult:
        config = {"ops": {"personas__selections": {"config": {"names": [name]}}}}
        return job.execute_in_process(
            instance=diverse.instance, run_config=config, raise_on_error=False
        )

    assert make("many").success
    names = "select distinct name from personas.selections"
    assert diverse.store.query(names)["name"].to_list() == ["many"]
    assert "unknown selection 'most'" in failures(make("most"))


def test_a_selection_is_made_then_a_domain_from_it(diverse: Platform) -> None:
    first, second = diverse.register()
    for shard in (first, second):
        result = diverse.run(shard)
        assert not result.success
        assert "'persona-pipeline select diverse' makes it" in failures(result)
    hub = set(diverse.store.query("select persona_id from personas.hub")["persona_id"])

    outcome = diverse.materialize("personas/selections")

    assert outcome.success
    numbers = metadata(outcome)
    assert str(numbers["diverse: removed as too similar"]).endswith(" at 0.7")
    assert "many: removed as too similar" not in numbers
    assert numbers["diverse: personas"] == 3
    assert numbers["many: personas"] == len(hub)
    assert numbers["many: personas missing"] == 100 - len(hub)
    assert "diverse: personas missing" not in numbers
    assert 0 < float(str(numbers["diverse: smallest distance"])) <= 2
    assert float(str(numbers["diverse: median distance"])) <= 2
    assert "| place | persona |" in str(numbers["diverse: sample"])
    chosen = diverse.store.query(CHOSEN)["persona_id"].to_list()
    assert set(chosen) < hub

    for shard in (first, second):
        assert diverse.run(shard).success

    ended = "select persona_id from synthetic.{0} union all select persona_id from "
    ended += "synthetic.rejected where domain = '{0}' order by all"
    assert diverse.store.query(ended.format("math"))["persona_id"].to_list() == chosen
    assert set(diverse.store.query(ended.format("tool"))["persona_id"]) == hub
    funnel = diverse.store.query("select * from marts.funnel")
    assert funnel["is_balanced"].all()
    assert funnel["is_current"].all()
    assert estimate_run(diverse.project, [first, second]).calls == 0


def test_a_new_shard_buys_nothing_in_a_domain_until_the_selection_is_made_again(
    diverse: Platform,
) -> None:
    first, second = diverse.register()
    diverse.run(first)
    diverse.materialize("personas/selections")
    before = diverse.store.query(CHOSEN)

    rules = diverse.settings.selections["diverse"]
    assert changes_since(diverse.store, "diverse", rules) == Changes([], has_other_rules=False)

    assert diverse.run(second).success

    assert changes_since(diverse.store, "diverse", rules).shards == [second]
    assert changes_since(diverse.store, "diverse", Selection(count=9)).has_other_rules
    assert diverse.store.query(CHOSEN).equals(before)
    records = "select count(*) from llm.calls where stage = 'synthetic.math' and shard = $shard"
    assert diverse.store.query(records, {"shard": second}).item() == 0
    funnel = diverse.store.query("from marts.funnel where not (is_balanced and is_current)")
    assert funnel.is_empty()


def test_without_a_configured_selection_the_asset_says_how_and_writes_nothing(
    platform: Platform,
) -> None:
    platform.register()
    result = platform.materialize("personas/selections")
    assert result.success
    assert "[selections.diverse] with count = 100" in str(metadata(result)["no selection"])
    assert platform.rows("personas.selections") == []
