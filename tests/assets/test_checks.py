"""Test the laws through Dagster, on a good database and on one that is broken on purpose."""

from datetime import timedelta
from pathlib import Path

import dagster as dg
import pytest

from assets.definitions import build_definitions
from persona_pipeline.project import Project
from persona_pipeline.settings import Settings
from tests.support.checked_project import (
    LATER,
    NAMES,
    CheckedProject,
    copy_project,
    copy_row,
    finish_project,
    kept_pair,
    results,
)
from tests.support.platform import Platform


@pytest.fixture(scope="module")
def finished_project(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[CheckedProject, dict[str, str]]:
    return finish_project(tmp_path_factory.mktemp("finished"))


@pytest.fixture
def project(
    finished_project: tuple[CheckedProject, dict[str, str]], tmp_path: Path
) -> CheckedProject:
    """Copy the finished project for one test."""
    return copy_project(finished_project[0], tmp_path)


@pytest.fixture
def math_only(tmp_path: Path, instance: dg.DagsterInstance) -> Platform:
    """Write two pages, which make two shards."""
    result = Platform(tmp_path, instance, shard_size=1, domains=["math"])
    for number in range(2):
        result.write_page(f"page{number}", f"Page {number} tells how a {number}-arm mill is built.")
    return result


def test_the_main_job_runs_all_checks_and_passes_them(
    finished_project: tuple[CheckedProject, dict[str, str]],
) -> None:
    project, outcomes = finished_project
    assert outcomes == dict.fromkeys(NAMES, "passed")
    for table in ("personas.duplicates", "synthetic.duplicates", "personas.related"):
        assert project.count(table) > 0, table


def test_every_check_passes_on_a_good_database(project: CheckedProject) -> None:
    checked = project.check_all(*NAMES)
    assert {name: each.outcome for name, each in checked.items()} == dict.fromkeys(NAMES, "passed")
    assert {each["violations"] for each in checked.values()} == {0}
    assert {name for name, each in checked.items() if each.evaluation.blocking} == {
        "no_row_is_lost",
        "no_kept_pair",
    }


FIRST_OF_HUB = "persona_id = (select min(persona_id) from personas.hub)"
TWICE_IN_THE_HUB = [
    copy_row(f"personas.{table}", FIRST_OF_HUB, persona_id="'copy'")
    for table in ("candidates", "fingerprints", "hub")
]
REMOVED_IN_THE_HUB = (
    "insert into personas.hub by name select shard, persona_id, created_at + interval 1 hour "
    "as created_at from personas.duplicates limit 2"
)
MATH_IN_TOOL = copy_row("synthetic.duplicates", "domain = 'math'", domain="'tool'")
BROKEN: list[tuple[str, list[str], int]] = [
    ("document_ids_are_unique", [copy_row("corpus.documents")], 1),
    ("document_ids_are_unique", [copy_row("corpus.documents", shard="'elsewhere'")], 1),
    ("personas_have_documents", ["delete from corpus.documents"], 24),
    ("personas_have_documents", [copy_row("personas.extracted", document_id="'nowhere'")], 1),
    ("personas_have_documents", [copy_row("personas.extracted", shard="'elsewhere'")], 1),
    ("related_personas_have_parents", [copy_row("personas.related", parent_id="'nobody'")], 1),
    ("related_personas_have_parents", [copy_row("personas.related", root_id="null")], 1),
    ("related_personas_have_parents", [copy_row("personas.related", shard="'elsewhere'")], 1),
    ("persona_ids_are_unique", [copy_row("personas.candidates")], 1),
    ("persona_ids_are_unique", [copy_row("personas.candidates", shard="'elsewhere'")], 1),
    ("candidates_are_personas", [copy_row("personas.candidates", persona_id="'nobody'")], 1),
    ("removed_personas_have_keepers", [copy_row("personas.duplicates", kept_id="'nobody'")], 1),
    ("removed_personas_have_keepers", [copy_row("personas.duplicates", kept_id="persona_id")], 1),
    ("hub_ids_are_unique", [copy_row("personas.hub")], 1),
    ("hub_is_made_of_candidates", [copy_row("personas.hub", persona_id="'nobody'")], 1),
    ("hub_is_made_of_candidates", [REMOVED_IN_THE_HUB], 2),
    ("no_kept_pair", TWICE_IN_THE_HUB, 1),
    ("no_kept_pair", [kept_pair(0.3)], 1),
    ("no_kept_pair", [kept_pair(0.3 - 5e-10)], 1),  # a float may fall short
    ("no_kept_pair", [kept_pair(0.3, score="10")], 1),
    ("no_kept_pair", [kept_pair(0.9, "semantic", "text_key")], 1),
    ("record_ids_are_unique", [copy_row("synthetic.math")], 1),
    ("records_have_personas", [copy_row("synthetic.math", persona_id="'nobody'")], 1),
    ("records_have_personas", [copy_row("synthetic.tool", shard="'elsewhere'")], 1),
    ("removed_records_have_keepers", [copy_row("synthetic.duplicates", kept_id="'nothing'")], 1),
    ("removed_records_have_keepers", [copy_row("synthetic.duplicates", kept_id="record_id")], 1),
    ("removed_records_have_keepers", [MATH_IN_TOOL], 1),
    ("call_keys_are_unique", [copy_row("llm.calls")], 1),
    ("rows_have_calls", [copy_row("personas.extracted", call_key="'never'")], 1),
    ("rows_have_calls", [copy_row("personas.related", call_key="null")], 1),
    ("rows_have_calls", [copy_row("synthetic.tool", call_key="'never'")], 1),
    ("rows_have_calls", ["update llm.calls set status = 'invalid' where stage like 'text_%'"], 24),
    ("no_row_is_lost", [f"delete from personas.candidates where {FIRST_OF_HUB}"], 1),
    ("no_row_is_lost", ["delete from personas.rejected", "delete from personas.extracted"], 2),
]


@pytest.mark.parametrize(("name", "statements", "count"), BROKEN)
def test_a_broken_law_is_an_error_with_its_number_of_rows(
    project: CheckedProject, name: str, statements: list[str], count: int
) -> None:
    project.change(*statements)

    checked = project.check(name)

    assert (checked.outcome, checked["violations"]) == ("ERROR", count)
    assert len(checked["first rows"].splitlines()) == 2 + min(count, 5)


def test_records_without_a_page_are_an_error(project: CheckedProject) -> None:
    project.change("update corpus.documents set url = null")
    checked = project.check("every_record_has_a_page")
    assert (checked.outcome, checked["violations"]) == ("ERROR", project.count("synthetic.records"))


@pytest.mark.parametrize(
    "pair",
    [
        kept_pair(0.3 - 1e-8),
        kept_pair(0.299, score="100"),  # spelling counts from 0.7 on
        kept_pair(0.9 - 1e-8, "semantic", "text_key"),
        kept_pair(0.95, "semantic", "set_key"),
    ],
)
def test_a_pair_below_the_thresholds_may_be_kept(project: CheckedProject, pair: str) -> None:
    project.change("delete from personas.pairs", pair)
    assert project.check("no_kept_pair").outcome == "passed"


def test_a_pair_that_only_its_spelling_makes_alike_is_not_kept(project: CheckedProject) -> None:
    project.change(kept_pair(0.7, score="90"))

    def count(fuzzy: float | None) -> int:
        checked = project.check("no_kept_pair", jaccard_threshold=0.8, fuzzy_threshold=fuzzy)
        return int(checked["violations"])

    assert (count(90.0), count(90.5), count(None)) == (1, 0, 0)


def written_since(stage: str) -> str:
    return f"update runs.stages set created_at = {LATER} where stage = '{stage}'"


BEHIND = [
    ("personas_have_documents", written_since("corpus"), "delete from corpus.documents"),
    (
        "related_personas_have_parents",
        written_since("text_to_persona"),
        "update personas.related set parent_id = 'nobody'",
    ),
    (
        "candidates_are_personas",
        written_since("persona_to_persona"),
        "delete from personas.related",
    ),
    (
        "removed_personas_have_keepers",
        f"update personas.candidates set created_at = {LATER}",  # so they are compared again
        copy_row("personas.duplicates", kept_id="'nobody'"),
    ),
    (
        "hub_is_made_of_candidates",
        written_since("deduplication"),
        copy_row("personas.hub", persona_id="'nobody'"),
    ),
    (
        "removed_records_have_keepers",
        written_since("synthetic.math"),
        copy_row("synthetic.duplicates", "domain = 'math'", kept_id="'nothing'"),
    ),
]


@pytest.mark.parametrize(("name", "since", "broken"), BEHIND)
def test_rows_that_only_have_to_be_made_again_are_a_warning(
    project: CheckedProject, name: str, since: str, broken: str
) -> None:
    project.change(broken, since)
    checked = project.check(name)
    assert checked.outcome == "WARN"
    assert checked["violations"] == checked["of them behind"] > 0


def test_one_row_that_is_not_behind_makes_an_error_of_the_warning(project: CheckedProject) -> None:
    later = f"{LATER} + interval 1 day"
    project.change(
        "delete from corpus.documents",
        written_since("corpus"),
        copy_row("personas.extracted", document_id="'nowhere'", created_at=later),
    )
    checked = project.check("personas_have_documents")
    assert (checked.outcome, checked["violations"], checked["of them behind"]) == ("ERROR", 25, 24)


@pytest.mark.parametrize(
    "since",
    [
        [f"update personas.hub set created_at = {LATER}"],
        ["delete from personas.hub", written_since("deduplication")],
    ],
)
def test_a_record_whose_persona_has_left_the_hub_since_is_a_warning(
    project: CheckedProject, since: list[str]
) -> None:
    someone = "(select min(persona_id) from synthetic.math)"
    project.change(f"delete from personas.hub where persona_id = {someone}")
    assert project.check("records_have_personas").outcome == "ERROR"
    project.change(*since)
    assert project.check("records_have_personas").outcome == "WARN"


def test_pairs_of_shards_that_were_decided_by_other_thresholds_are_a_warning(
    project: CheckedProject,
) -> None:
    checked = project.check("no_kept_pair", jaccard_threshold=0.2)
    assert checked.outcome == "WARN"
    assert checked["of them behind"] == checked["violations"] > 1


def test_an_answer_that_may_still_be_in_a_journal_is_a_warning(project: CheckedProject) -> None:
    key = "(select min(call_key) from personas.extracted)"
    project.change(f"delete from llm.calls where call_key = {key}")
    assert project.check("rows_have_calls").outcome == "ERROR"
    project.settings.journal_dir.mkdir()
    (project.settings.journal_dir / "1-1.jsonl").touch()
    assert project.check("rows_have_calls").outcome == "WARN"
    project.change(copy_row("llm.calls", call_key=key, status="'failed'"))
    assert project.check("rows_have_calls").outcome == "ERROR"


def test_a_stage_whose_input_has_changed_is_a_warning(project: CheckedProject) -> None:
    project.change("insert into personas.hub (shard) select min(shard) from corpus.shards")
    checked = project.check("no_stage_is_behind")
    assert (checked.outcome, checked["violations"]) == ("WARN", 1)
    assert "synthetic.math, synthetic.tool" in checked["first rows"]


def test_checks_pass_before_the_first_run(tmp_path: Path) -> None:
    checked = CheckedProject(Settings(data_dir=tmp_path)).check_all(*NAMES)
    assert {name: each.outcome for name, each in checked.items()} == dict.fromkeys(NAMES, "passed")


def test_shards_in_another_order_are_at_most_behind(math_only: Platform) -> None:
    first, second = math_only.register()
    for shard in (second, first):
        outcomes = [each.outcome for each in results(math_only.run(shard)).values()]
        assert len(outcomes) == len(NAMES)
        assert "ERROR" not in outcomes


def test_an_asset_alone_has_its_own_checks_only(math_only: Platform) -> None:
    [shard, _] = math_only.register()
    result = math_only.materialize("corpus/documents", "corpus/rejected", shard=shard)
    assert results(result).keys() == {
        "document_ids_are_unique",
        "shards_have_like_languages",
        "language_mix",
    }


def test_a_kept_pair_stops_the_run_before_records_are_bought(math_only: Platform) -> None:
    [shard, _] = math_only.register()
    math_only.run(shard)
    with math_only.store.transaction() as connection:
        connection.execute(kept_pair(0.95))

    result = math_only.materialize("personas/hub", "synthetic/math", shard=shard)

    assert not result.success
    outcome = {event.asset_key for event in result.get_asset_materialization_events()}
    assert outcome == {dg.AssetKey(["personas", "hub"])}
    checked = results(result)
    assert {name for name in checked if checked[name].outcome == "ERROR"} == {"no_kept_pair"}


def test_the_funnel_goes_stale_only_where_a_time_is_set(math_only: Platform) -> None:
    def policies(settings: Settings) -> dict[str, object]:
        specs = build_definitions(Project(settings)).resolve_all_asset_specs()
        return {s.key.to_user_string(): s.freshness_policy for s in specs if s.freshness_policy}

    assert policies(math_only.settings) == {}
    daily = math_only.settings.model_copy(update={"fresh_within_hours": 24.0})
    assert policies(daily) == {"marts/funnel": dg.FreshnessPolicy.time_window(timedelta(hours=24))}
