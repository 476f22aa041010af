"""Measures warn: test each just below and just above the value from which on it does."""

from pathlib import Path

import pytest

from persona_pipeline.settings import Settings
from tests.support.checked_project import CheckedProject


@pytest.fixture
def project(tmp_path: Path) -> CheckedProject:
    """Make a project with the tables of two domains and no rows."""
    result = CheckedProject(Settings(data_dir=tmp_path / "data"))
    result.store.migrate()
    columns = ("shard", "record_id", "persona_id", "variant", "prompting", "text", "call_key")
    kinds = {**dict.fromkeys((*columns, "run_id"), "varchar"), "created_at": "timestamp"}
    for domain in ("math", "tool"):
        result.store.add_table(f"synthetic.{domain}", kinds)
    return result


def reject(count: int) -> str:
    return (
        "insert into personas.rejected (shard, stage, reason) "
        f"select 's', 'quality_rules', 'too_long' from range({count})"
    )


def test_a_reason_that_rejects_most_rows_of_a_stage_is_a_warning(project: CheckedProject) -> None:
    project.change(
        "insert into runs.stages (shard, stage, rows_in) "
        "values ('s', 'quality_rules', 10), ('t', 'quality_rules', 10), ('s', 'corpus', 30)",
        "insert into corpus.rejected (shard, reason) values ('s', 'too_short')",
        reject(10),
    )
    assert project.check("rejected_share").outcome == "passed"  # half of them
    project.change(reject(1))

    checked = project.check("rejected_share")

    assert (checked.outcome, checked["violations"]) == ("WARN", 1)
    assert checked["quality_rules too_long: rejected_ratio"] == pytest.approx(11 / 20)
    assert checked["corpus too_short: rejected_ratio"] == pytest.approx(1 / 30)
    assert "| quality_rules | too_long | 11 | 0.55 | True |" in checked["first rows"]
    assert project.check("rejected_share", warn_rejected_share=0.55).outcome == "passed"
    project.change("update runs.stages set rows_in = 9 where stage = 'quality_rules'")
    assert project.check("rejected_share").outcome == "passed"  # 18 rows say nothing


def buy(run: str, day: int, usd: float | None, *, kept: int, thrown: int = 0) -> list[str]:
    """Return statements for a run that paid `usd` for each call, some of which gave a record."""
    price = "null" if usd is None else usd
    return [
        (
            "insert into llm.calls (shard, call_key, stage, status, cost_usd, run_id, created_at) "
            f"select 's', '{run}' || row, 'synthetic.math', 'ok', {price}, '{run}', "
            f"timestamp '2026-01-01' + interval {day} day from range({kept + thrown}) as t(row)"
        ),
        (
            "insert into synthetic.math (shard, record_id, call_key) "
            f"select 's', '{run}' || row, '{run}' || row from range({kept}) as t(row)"
        ),
    ]


def test_records_that_cost_more_than_in_the_runs_before_are_a_warning(
    project: CheckedProject,
) -> None:
    project.change(*buy("a", 1, 0.01, kept=4))
    assert project.check("cost_growth").outcome == "passed"  # nothing before it
    project.change(*buy("b", 2, 0.02, kept=1, thrown=1), *buy("c", 3, 0.02, kept=3))
    project.change(*buy("d", 4, 0.02, kept=1, thrown=1))
    checked = project.check("cost_growth")  # 0.04, against 0.01, 0.04 and 0.02
    assert checked.outcome == "passed"
    assert checked["math: growth_ratio"] == pytest.approx(2)
    project.change(*buy("e", 5, 0.09, kept=1), *buy("f", 6, None, kept=1), *buy("g", 7, 1, kept=0))

    checked = project.check("cost_growth")  # 0.09, against 0.03; f is of unknown price, g is gone

    assert (checked.outcome, checked["violations"]) == ("WARN", 1)
    assert checked["math: usd_per_record"] == pytest.approx(0.09)
    assert checked["math: growth_ratio"] == pytest.approx(3)
    assert project.check("cost_growth", warn_cost_growth=3.1).outcome == "passed"
    project.change("update llm.calls set cost_usd = 0 where run_id != 'e'")
    assert project.check("cost_growth").outcome == "passed"  # what was free has no multiple


def documents(**languages: int) -> str:
    """Return a statement for so many documents of each language in one shard."""
    rows = [
        f"select '{language}' as language from range({count})"
        for language, count in languages.items()
    ]
    return (
        "insert into corpus.documents (shard, source, document_id, language) "
        f"select 's', 'pages', row_number() over (), language from ({' union all '.join(rows)})"
    )


def test_documents_in_another_language_than_personas_must_be_in_are_a_warning(
    project: CheckedProject,
) -> None:
    project.change(
        documents(en=6, EN_gb=1, fr=2, English=1),
        "insert into personas.hub (shard, root_document_id) "
        "select shard, document_id from corpus.documents where language != 'en'",
    )

    checked = project.check("language_mix")

    assert checked.outcome == "passed"
    assert checked["documents en: language_ratio"] == pytest.approx(0.7)
    assert checked["personas fr: language_ratio"] == pytest.approx(0.5)
    checked = project.check("language_mix", language="en")
    assert (checked.outcome, checked["violations"]) == ("WARN", 2)  # documents and personas
    project.change("update corpus.documents set language = null where language = 'fr'")
    assert project.check("language_mix", language="en").outcome == "passed"


def three_shards(foreign: int) -> list[str]:
    """Return statements for 20 documents per shard, `foreign` of the first in another language."""
    return [
        "delete from corpus.documents",
        (
            "insert into corpus.documents (shard, source, document_id, language) "
            f"select 's' || row // 20, 'pages', row, if(row < {foreign}, 'fr', 'en') "
            "from range(60) as t(row)"
        ),
    ]


def test_a_shard_in_other_languages_than_the_rest_of_its_source_is_a_warning(
    project: CheckedProject,
) -> None:
    def outcome(*statements: str) -> str:
        project.change(*statements)
        return project.check("shards_have_like_languages").outcome

    assert outcome(*three_shards(foreign=10)) == "passed"
    assert outcome(*three_shards(foreign=11)) == "WARN"
    checked = project.check("shards_have_like_languages")
    assert checked["violations"] == 1
    assert "| pages | s0 | fr | 20 | 0.55 |" in checked["first rows"]
    assert outcome("delete from corpus.documents where document_id = '0'") == "passed"  # 19: few
    elsewhere = "update corpus.documents set source = 'other pages' where shard = 's0'"
    assert outcome(*three_shards(foreign=11), elsewhere) == "passed"


@pytest.mark.parametrize("words", [5, 61])
def test_personas_of_unusual_length_are_a_warning(project: CheckedProject, words: int) -> None:
    project.change(
        "insert into personas.candidates (shard, persona_id, word_count) "
        f"select 's', row, if(row < 5, {words}, 13) from range(110) as t(row)",
        "insert into personas.hub (shard, persona_id) select shard, persona_id "
        "from personas.candidates where persona_id::integer < 100",
        f"update personas.candidates set word_count = {words} where persona_id::integer >= 100",
    )
    assert project.check("persona_lengths").outcome == "passed"  # one in twenty
    project.change(f"update personas.candidates set word_count = {words} where persona_id = '99'")

    checked = project.check("persona_lengths")

    assert (checked.outcome, checked["violations"]) == ("WARN", 1)
    assert checked["personas.hub: unusual_ratio"] == pytest.approx(0.06)
    assert checked["personas.hub: median_words"] == 13


def test_records_of_hardly_any_words_are_a_warning(project: CheckedProject) -> None:
    project.change(
        "insert into synthetic.math (shard, record_id, text) "
        "select 's', row, if(row < 2, 'One two three four.', 'One two, three 4 five.') "
        "from range(20) as t(row)",
        "insert into synthetic.tool (shard, record_id, text) values ('s', 't', 'One.')",
    )

    checked = project.check("record_lengths")

    assert (checked.outcome, checked["violations"]) == ("WARN", 1)
    assert checked["math: median_words"] == 5
    assert checked["math: unusual_ratio"] == pytest.approx(0.1)
    assert checked["tool: p95_words"] == 1
    project.change("delete from synthetic.math where record_id = '2'")
    assert project.check("record_lengths").outcome == "passed"  # 19 records say nothing
