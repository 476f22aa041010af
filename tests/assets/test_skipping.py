"""Test which steps a run leaves out: all that nothing has changed for, and no other."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.errors import DagsterAssetCheckFailedError
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from persona_pipeline import steps
from persona_pipeline.project import Project
from persona_pipeline.settings import Settings, load_settings
from persona_pipeline.stage_names import (
    COMPARISON,
    CORPUS,
    DEDUPLICATION,
    EMBEDDINGS,
    HUB,
    PERSONA_TO_PERSONA,
    QUALITY_RULES,
    RECORD_DEDUPLICATION,
    TEXT_TO_PERSONA,
)
from persona_pipeline.store.done_steps import DoneStep, mark_done, read_inputs
from tests.support.platform import (
    TABLES,
    KeptProject,
    Platform,
    execute,
    open_local_instance,
    open_platform,
    run_all,
    runs_of_shards,
    to_do,
)

MATH, TOOL = "synthetic.math", "synthetic.tool"
ASKING = {TEXT_TO_PERSONA, PERSONA_TO_PERSONA, MATH, TOOL}
EVERYTHING = {
    *(CORPUS, TEXT_TO_PERSONA, PERSONA_TO_PERSONA, QUALITY_RULES, EMBEDDINGS, COMPARISON),
    *(DEDUPLICATION, HUB, MATH, TOOL, RECORD_DEDUPLICATION),
}
BUILTIN = Path(steps.__file__).parent / "synthesis" / "domains"


def write_domain(folder: Path, old: str, new: str) -> Path:
    """Copy the domain math to a folder, with a text of its prompt replaced."""
    shutil.copytree(BUILTIN / "math", folder / "math")
    prompt = folder / "math" / "prompt.j2"
    text = prompt.read_text()
    assert old in text
    prompt.write_text(text.replace(old, new))
    return folder


def test_a_run_over_finished_shards_starts_no_job_and_says_so_in_dagster(
    finished_platform: Platform,
) -> None:
    before = runs_of_shards(finished_platform)
    run_all(finished_platform)
    assert runs_of_shards(finished_platform) == before
    [record] = finished_platform.instance.fetch_observations(
        dg.AssetKey(["corpus", "shards"]), limit=1
    ).records
    observation = record.asset_observation
    assert observation is not None
    assert observation.metadata["skipped_count"].value == 2
    assert "nothing was done" in str(observation.description)


def test_a_finished_shard_that_is_materialized_is_reported_and_not_written(
    finished_platform: Platform,
) -> None:
    [shard, _] = finished_platform.shards()
    tables = ["corpus.documents", "personas.hub", "synthetic.math", "runs.stages", "runs.steps"]
    written = [finished_platform.store.query(f"from {name} order by all") for name in tables]
    assert finished_platform.run(shard).success
    for name, rows in zip(tables, written, strict=True):
        assert finished_platform.store.query(f"from {name} order by all").equals(rows)
    for key in ("corpus/documents", "personas/pairs", "synthetic/math", "synthetic/duplicates"):
        metadata = finished_platform.materialization(key, shard).metadata
        assert str(metadata["skipped"].value).startswith("nothing was done")


SETTINGS: list[tuple[dict[str, object], set[str]]] = [
    ({}, set()),
    ({"max_concurrency": 3, "api_base": "http://localhost:1", "lock_timeout": 9}, set()),
    ({"verbs": "like"}, {TEXT_TO_PERSONA}),
    ({"granularity": "coarse"}, {TEXT_TO_PERSONA}),
    ({"document_chars": 100}, {TEXT_TO_PERSONA}),
    ({"hops": 2}, {PERSONA_TO_PERSONA}),
    ({"fan_out": 2}, {PERSONA_TO_PERSONA}),
    ({"language": "de"}, {PERSONA_TO_PERSONA, QUALITY_RULES}),
    ({"embedding_model": "fake/other"}, {EMBEDDINGS, COMPARISON}),
    ({"jaccard_threshold": 0.8}, {DEDUPLICATION}),
    ({"cosine_threshold": "none"}, {EMBEDDINGS, COMPARISON, DEDUPLICATION}),
    ({"store_pairs_from": 0.6}, {COMPARISON}),
    ({"records_per_shard": 1}, {MATH, TOOL}),
    ({"prompting": "zero_shot"}, {MATH, TOOL}),
    ({"sampling": {MATH: {"temperature": 0.1}}}, {MATH}),
    ({"request_parameters": {TOOL: {"seed": 1}}}, {TOOL}),
    ({"stage_models": {TEXT_TO_PERSONA: ["fake/other"]}}, {TEXT_TO_PERSONA}),
    ({"record_thresholds": {"math": 0.5}}, {RECORD_DEDUPLICATION}),
    ({"domains": "math"}, {RECORD_DEDUPLICATION}),
    ({"model": "fake/other"}, ASKING),
    ({"fallback_models": "fake/other"}, ASKING),
    ({"reasoning_tokens": 99}, ASKING),
    ({"reasoning_effort": "low"}, set()),  # no model that runs here has it
    ({"dedup_method": "minhash128"}, {COMPARISON}),
    ({"fuzzy_threshold": 95}, {COMPARISON, DEDUPLICATION}),
    ({"domain_options": {"math": {"difficulty": ["hard"]}}}, {MATH}),
    ({"selections": {"few": {"count": 1}}}, set()),
    ({"selections": {"few": {"count": 1}}, "persona_sources": {"math": "few"}}, {MATH}),
    ({"force": True}, EVERYTHING),
]


def test_a_setting_is_a_reason_for_the_steps_that_depend_on_it(
    finished_platform: Platform,
) -> None:
    shards = finished_platform.shards()
    for changed, expected in SETTINGS:
        chosen = load_settings(**{**finished_platform.arguments, **changed})
        undone = Project(chosen).undone_steps(shards)
        assert [set(undone[shard]) for shard in shards] == [expected] * 2, changed


def test_every_setting_of_what_is_asked_and_kept_is_a_reason_for_a_step() -> None:
    """A new setting is either in a step's version, or in this list of what changes no row."""
    named = {name for changed, _ in SETTINGS for name in changed}
    assert set(Settings.model_fields) - named == OF_NO_STEP


OF_NO_STEP = {
    *("data_dir", "source", "documents", "shard_size", "min_chars", "max_chars", "sample_by"),
    *("text_field", "url_field", "title_field", "language_field", "license_field"),
    *("watch", "watch_seconds", "schedule", "shards_per_run", "fresh_within_hours"),
    *("api_key", "requests_per_minute", "tokens_per_minute", "request_timeout", "schema_mode"),
    *("batch", "batch_size", "batch_poll_seconds", "max_usd", "max_tokens", "stage_max_usd"),
    *("stage_max_tokens", "prices", "allow_unknown_price", "dedup_memory", "dedup_threads"),
    *("domain_dirs", "warn_rejected_share", "warn_cost_growth"),
}
"""What is read, and what it costs, is in the shards and the calls; files of domains are hashed."""


DAMAGE = [
    ("delete from llm.calls where stage = 'synthetic.math'", MATH),
    ("delete from runs.stages where stage = 'deduplication'", DEDUPLICATION),
    ("delete from synthetic.tool", TOOL),
    ("delete from personas.hub", HUB),
    ("delete from personas.fingerprints", COMPARISON),
    ("delete from personas.embeddings", EMBEDDINGS),
    ("delete from personas.candidates", QUALITY_RULES),
    ("delete from personas.related", PERSONA_TO_PERSONA),
    ("delete from personas.extracted", TEXT_TO_PERSONA),
    ("delete from corpus.documents", CORPUS),
]
"""A statement, and the step whose rows it removes: what is made last comes first."""


def test_rows_that_are_gone_are_made_again(finished_platform: Platform) -> None:
    before = {name: finished_platform.rows(name) for name in TABLES}
    keys = "select call_key, response from llm.calls order by all"
    calls = finished_platform.store.query(keys)
    first, second = finished_platform.shards()
    for statement, step in DAMAGE:
        where = "and" if " where " in statement else "where"
        execute(finished_platform, f"{statement} {where} shard = '{first}'")
        undone = finished_platform.project.undone_steps([first, second])
        assert undone[second] == {}, statement
        assert undone[first][step].is_damaged, statement
    run_all(finished_platform)
    assert {name: finished_platform.rows(name) for name in TABLES} == before
    assert finished_platform.store.query(keys).equals(calls)
    assert to_do(finished_platform) == {first: {}, second: {}}


def test_a_step_that_stopped_is_to_do_although_it_was_done_before(
    finished_platform: Platform,
) -> None:
    [shard, _] = finished_platform.shards()
    execute(
        finished_platform, f"insert into runs.stops (shard, stage) values ('{shard}', '{MATH}')"
    )
    assert to_do(finished_platform)[shard] == {
        MATH: "what it left has changed: runs.stops (synthetic.math)"
    }


def test_another_program_is_a_reason_for_every_step(
    finished_platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    [shard, _] = finished_platform.shards()
    monkeypatch.setattr(steps, "code_version", lambda: "new")
    project = Project(finished_platform.settings)
    assert set(project.undone_steps([shard])[shard]) == EVERYTHING


def test_a_failed_check_is_evaluated_again_by_the_next_run_although_no_step_is_to_do(
    finished_platform: Platform,
) -> None:
    execute(finished_platform, "update runs.stages set rows_in = 99 where stage = 'quality_rules'")
    [first, _] = finished_platform.shards()
    with finished_platform.store.transaction() as connection:  # as if it had been so at the end
        for step in finished_platform.project.steps.values():
            inputs = read_inputs(connection, step, [first])
            mark_done(connection, DoneStep(step, inputs, frozenset(inputs)), "run")
    assert not finished_platform.run(first).success
    for _ in range(2):
        with pytest.raises(DagsterAssetCheckFailedError, match="no_row_is_lost"):
            run_all(finished_platform)


def test_a_new_instance_is_told_of_finished_shards(
    finished_platform: Platform, tmp_path: Path
) -> None:
    (tmp_path / "new").mkdir()
    with open_local_instance(tmp_path / "new") as instance:
        moved = open_platform(finished_platform.pages.parent, instance)
        for _ in range(2):
            run_all(moved)
            assert runs_of_shards(moved) == [moved.shards()]
        assert "skipped" in moved.materialization("personas/hub", moved.shards()[0]).metadata


def test_pairs_of_a_later_shard_are_made_again_before_a_threshold_decides_by_them(
    finished_platform: Platform,
) -> None:
    folder, instance = finished_platform.pages.parent, finished_platform.instance
    close = {"jaccard_threshold": 0.3, "store_pairs_from": 0.3}
    run_all(open_platform(folder, instance, **close))
    wanted = finished_platform.rows("personas.duplicates")
    assert wanted
    run_all(open_platform(folder, instance, **{**close, "jaccard_threshold": 0.9}))
    execute(
        finished_platform,
        f"delete from personas.pairs where shard = '{finished_platform.shards()[1]}'",
    )
    run_all(open_platform(folder, instance, **close))
    run_all(open_platform(folder, instance, **close))
    assert finished_platform.rows("personas.duplicates") == wanted


def test_force_makes_all_rows_again(finished_platform: Platform) -> None:
    before = {name: finished_platform.rows(name) for name in TABLES}
    execute(finished_platform, "update personas.embeddings set embedding = [1.0]")
    execute(finished_platform, "update personas.pairs set similarity = 0.1")
    run_all(finished_platform)
    assert finished_platform.rows("personas.embeddings") != before["personas.embeddings"]
    folder = finished_platform.pages.parent
    run_all(open_platform(folder, finished_platform.instance, force=True))
    assert {name: finished_platform.rows(name) for name in TABLES} == before


def change_page(platform: Platform) -> dict[str, object]:
    platform.write_page("page1", "Page 1 now tells how a bridge of wood is mended in the winter.")
    return {}


def add_page(platform: Platform) -> dict[str, object]:
    platform.write_page("page9", "Page 9 tells how a bell of bronze is cast in a pit of clay.")
    return {}


def change_prompt(platform: Platform) -> dict[str, object]:
    folder = platform.pages.parent / "domains"
    if not folder.exists():
        write_domain(folder, "{{ persona }}", "{{ persona }} and nobody else")
    return {"domain_dirs": str(folder)}


def delete(statement: str) -> Callable[[Platform], dict[str, object]]:
    """Delete rows of the first shard: a run of it would stop at rows that a later one lacks."""

    def change(platform: Platform) -> dict[str, object]:
        shard = platform.shards()[0]
        execute(platform, f"{statement} where shard = '{shard}' and hash(rowid) % 3 = 0")
        return {}

    return change


CHANGES: dict[str, Callable[[Platform], dict[str, object]]] = {
    "a changed page": change_page,
    "a new page": add_page,
    "a prompt": change_prompt,
    "a threshold": lambda _: {"jaccard_threshold": 0.5},
    "a number of hops": lambda _: {"hops": 0},
    "a number of records": lambda _: {"records_per_shard": 1},
    "a sampling": lambda _: {"sampling": {TEXT_TO_PERSONA: {"temperature": 0.2}}},
    "deleted documents": delete("delete from corpus.documents"),
    "deleted candidates": delete("delete from personas.candidates"),
    "deleted pairs": delete("delete from personas.pairs"),
    "deleted duplicates": delete("delete from personas.duplicates"),
    "deleted records": delete("delete from synthetic.math"),
}


def run_and_compare(finished: KeptProject, rounds: Sequence[Sequence[str]]) -> None:
    """Make the changes of each round and run; compare the tables with those from scratch."""
    finished.put_back()
    changed: dict[str, object] = {}
    with finished.instance() as instance:
        platform = open_platform(finished.folder, instance)
        for names in rounds:
            for name in names:
                changed |= CHANGES[name](platform)
            incremental = Platform(finished.folder, instance, shard_size=2, **changed)
            run_all(incremental)
            assert set(map(str, to_do(incremental).values())) == {"{}"}, names
    with dg.DagsterInstance.ephemeral() as instance:
        changed["data_dir"] = finished.folder / "scratch"
        scratch = Platform(finished.folder, instance, shard_size=2, **changed)
        # What was registered stays registered: a text that is gone from the source is in a shard.
        shutil.copytree(incremental.settings.staging_dir, scratch.settings.staging_dir)
        run_all(scratch)
    for table in TABLES:
        assert incremental.rows(table) == scratch.rows(table), table


@pytest.mark.parametrize("at_once", [4, pytest.param(1, marks=pytest.mark.chaos)])
def test_after_all_changes_so_many_at_once_the_tables_are_those_of_a_run_from_scratch(
    finished: KeptProject, at_once: int
) -> None:
    names = list(CHANGES)
    starts = range(0, len(names), at_once)
    run_and_compare(finished, [names[start : start + at_once] for start in starts])


@pytest.mark.chaos
@settings(
    max_examples=max(8, settings().max_examples // 12),  # one takes 10 s
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    phases=[Phase.generate],
)
@given(names=st.lists(st.sampled_from(sorted(CHANGES)), min_size=1, max_size=4, unique=True))
def test_after_any_changes_at_once_the_tables_are_those_of_a_run_from_scratch(
    finished: KeptProject, names: list[str]
) -> None:
    run_and_compare(finished, [names])
