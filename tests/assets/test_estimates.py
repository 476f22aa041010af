"""Test that a run buys what was estimated by a rehearsal of the same stages."""

import pytest
from rich.console import Console

from persona_pipeline.cli.estimate import print_estimate
from persona_pipeline.corpus.registration import register_source
from persona_pipeline.errors import PipelineError, SourceError
from persona_pipeline.estimate import Estimate, estimate_run
from persona_pipeline.hub.selection_rules import Selection
from persona_pipeline.llm.prices import PriceSetting
from persona_pipeline.project import Project
from persona_pipeline.store.store import Store
from tests.support.platform import Platform


def estimate(platform: Platform, shards: list[str], **changed: object) -> Estimate:
    settings = platform.settings.model_copy(update=changed)
    return estimate_run(Project(settings), shards)


def by_stage(estimated: Estimate) -> dict[str, tuple[int, int]]:
    return {stage.stage: (stage.reused, stage.calls) for stage in estimated.stages}


def test_before_a_run_every_stage_is_to_be_bought(platform: Platform) -> None:
    shards = platform.register()
    estimated = estimate(platform, shards)
    stages = by_stage(estimated)
    assert stages["text_to_persona"] == (0, 8)
    assert stages["persona_to_persona"] == (0, 8)
    assert stages["synthetic.math"] == (0, 6)
    assert estimated.calls == sum(calls for _, calls in stages.values())
    assert (estimated.usd, estimated.share) == (0.0, 1.0)


def test_a_source_without_a_document_is_not_estimated(platform: Platform) -> None:
    for page in platform.pages.iterdir():
        page.write_text("short")
    with pytest.raises(SourceError, match=r"^all 4 rows of .*: too_short 4 .*min_chars is 10\)$"):
        estimate(platform, platform.register())


def test_what_is_estimated_is_what_a_run_buys(
    platform: Platform, finished_platform: Platform
) -> None:
    expected = estimate(platform, platform.register()).calls
    bought = finished_platform.store.query("select count(*) from llm.calls").item()
    assert bought == pytest.approx(expected, abs=2)  # made-up personas are rejected like others


def test_after_a_run_nothing_is_left_to_buy_and_a_changed_setting_buys_its_own(
    finished_platform: Platform,
) -> None:
    platform, shards = finished_platform, finished_platform.shards()
    again = estimate(platform, shards)
    assert (again.calls, again.tokens, again.usd, again.seconds) == (0, 0, 0.0, 0.0)
    assert sum(stage.reused for stage in again.stages) > 0

    more = by_stage(estimate(platform, shards, records_per_shard=4))
    assert {stage for stage, (_, calls) in more.items() if calls} == {
        stage for stage in more if stage.startswith("synthetic.")
    }


def test_prices_and_unknown_prices_are_estimated_by_stage(platform: Platform) -> None:
    shards = platform.register()
    prices = {"openai/small": PriceSetting(input=1.0, output=2.0)}
    estimated = estimate(platform, shards, model="openai/small", prices=prices)
    expected = sum(stage.tokens_in + 2 * stage.tokens_out for stage in estimated.stages) / 1_000_000
    assert estimated.usd == pytest.approx(expected)
    assert estimated.seconds is None
    mixed = {"synthetic.math": ["openai/nobody-knows"]}
    unknown = estimate(platform, shards, model="openai/small", prices=prices, stage_models=mixed)
    assert unknown.usd is None
    assert {stage.model for stage in unknown.stages} == {"openai/small", "openai/nobody-knows"}


def test_served_embeddings_are_estimated_too(platform: Platform) -> None:
    shards = platform.register()
    stages = by_stage(estimate(platform, shards, embedding_model="openai/text-embedding-3-small"))
    assert stages["embeddings"][1] > 0


def test_of_many_documents_every_other_shard_is_rehearsed_and_stands_for_the_rest(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards = platform.register()
    platform.run(shards[0])
    monkeypatch.setattr("persona_pipeline.estimate.REHEARSED", 2)
    estimated = estimate(platform, [shards[1], shards[0]])
    assert estimated.share == 0.5
    assert by_stage(estimated)["text_to_persona"] == (0, 8)
    assert by_stage(estimated)["synthetic.math"] == (0, 6)


def test_of_a_new_shard_a_few_documents_stand_for_the_rest_and_of_a_begun_one_none(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards = platform.register()
    whole = by_stage(estimate(platform, shards))
    monkeypatch.setattr("persona_pipeline.estimate.SAMPLED", 1)
    sampled = estimate(platform, shards)
    assert sampled.share == 0.5
    assert by_stage(sampled) == whole
    one_each = by_stage(estimate(platform, shards, records_per_shard=1))
    assert one_each["synthetic.math"] == (0, 2), "not one for each sampled document"
    platform.run(shards[0])
    assert estimate(platform, shards).share == 0.75
    selection = {"selections": {"few": Selection(count=2)}, "persona_sources": {"math": "few"}}
    assert estimate(platform, shards[1:], **selection).share == 1.0


def test_asking_for_the_price_of_more_registers_and_stages_nothing(
    platform: Platform, capsys: pytest.CaptureFixture[str]
) -> None:
    limited = platform.settings.model_copy(update={"documents": 1})
    register_source(Project(limited).source_plan, limited, migrated(platform), run_id="r")
    staged = {path: path.read_bytes() for path in platform.settings.staging_dir.iterdir()}
    shards = platform.store.query("select shard, row_count from corpus.shards").rows()
    assert [rows for _, rows in shards] == [1]

    print_estimate(Console(width=120), platform.project)

    assert "about 28 calls" in capsys.readouterr().out  # of all four documents
    assert {p: p.read_bytes() for p in platform.settings.staging_dir.iterdir()} == staged
    assert platform.store.query("select shard, row_count from corpus.shards").rows() == shards
    assert not list(platform.settings.data_dir.glob(".aside-*"))


def migrated(platform: Platform) -> Store:
    platform.store.migrate()
    return platform.store


def test_an_estimate_of_a_shard_that_is_not_registered_says_how_to_register_it(
    platform: Platform,
) -> None:
    with pytest.raises(PipelineError, match=r"shard 'nowhere-00001' is not in .*corpus/shards"):
        estimate_run(platform.project, ["nowhere-00001"])
