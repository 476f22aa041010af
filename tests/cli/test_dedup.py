"""Test what `dedup explain` and `dedup sweep` print."""

import re
from dataclasses import replace
from pathlib import Path

import duckdb
import pytest
from click.testing import CliRunner

from persona_pipeline.cli.dedup import dedup
from persona_pipeline.dedup.rules import Thresholds
from persona_pipeline.store.store import Store
from tests.support.dedup_project import MODEL, TEN, Project, changed


@pytest.fixture
def project(store: Store) -> Project:
    return Project(store)


def run(project: Project, *arguments: str) -> tuple[str, BaseException | None]:
    settings = {"embedding_model": MODEL, "cosine_threshold": "0.95"}
    variables = {f"PERSONA_PIPELINE_{name.upper()}": value for name, value in settings.items()}
    result = CliRunner().invoke(
        dedup,
        [*arguments, "--data-dir", str(project.folder)],
        env={"COLUMNS": "160", **variables},
    )
    return result.output, result.exception


def test_the_command_shows_both_texts_with_the_words_that_differ(project: Project) -> None:
    project.deduplicate({"keeper": f"{TEN} {TEN} v", "gone": TEN, "near": changed(1)})
    output, error = run(project, "explain", "gone")
    assert error is None
    assert "{+v+}" in output
    assert "Jaccard similarity 0.9091, threshold 0.9" in output
    assert "10 in both of 11 = 0.9091" in output
    assert "near" in output
    output, _ = run(project, "explain", "keeper")
    assert "Removed because of it: 1" in output
    project.deduplicate({"alone": TEN})
    output, _ = run(project, "explain", "alone")
    assert "No persona is known to be like it" in output
    assert "Pairs are stored from a Jaccard similarity of 0.7 on" in output


def test_the_command_prints_a_line_per_threshold_and_the_pairs_of_some(project: Project) -> None:
    project.deduplicate({"a": TEN, "b": f"{TEN} v", "c": changed(1)})
    output, error = run(project, "sweep", "--show", "0.8")
    assert error is None
    assert re.search(r"threshold +kept +removed +share +jaccard", output)
    assert re.search(r"0\.9 +2 +1 +33\.3% +1 +the hub", output)
    assert "~" not in output
    assert "0.9  " in run(project, "sweep", "--step", "0.1")[0]  # the hub is always a row
    assert "At 0.8: removed, the least alike" in output
    assert "At 0.9" not in output
    assert "another threshold: --show 0.95; to each: --show all" in output
    output, _ = run(project, "sweep", "--show", "all")
    assert output.count("both kept, the most alike") == 12
    output, _ = run(project, "sweep")
    assert re.findall(r"At (0\.\d+): both", output) == ["0.9"]
    output, error = run(project, "sweep", "--show", "0.72")
    assert error is not None
    assert "known: 0.95, 0.9" in output
    assert "--show 'most' is not in the sweep" in run(project, "sweep", "--show", "most")[0]


def test_the_command_says_which_layer_decided_and_by_what(project: Project) -> None:
    personas = {"a": "tables and maps of tides, printed", "b": "tables and map of tides, printed"}
    project.plan = replace(project.plan, thresholds=Thresholds(0.9, 0.95, 70))
    project.deduplicate(
        personas | {"c": personas["a"].upper(), "d": "far away"}, b=[1, 0], d=[1, 0]
    )
    output, _ = run(project, "explain", "b")
    assert re.search(
        r"Layer fuzzy: score 9\d\.\d, threshold 70 \(Jaccard similarity 0\.7143", output
    )
    output, _ = run(project, "explain", "c")
    assert "Layer exact: the same words in the same order." in output
    assert "Distinct words" not in output
    project.deduplicate({"b": "one two", "d": "far away"}, b=[1.0, 0.0], d=[1.0, 0.0])
    output, _ = run(project, "explain", "d")
    assert "Layer semantic: cosine 1.0000, threshold 0.95." in output


def test_an_estimated_similarity_is_said_to_be_one(project: Project) -> None:
    project.deduplicate({"a": TEN, "b": f"{TEN} v"})
    output = run(project, "explain", "a")[0] + run(project, "explain", "b")[0]
    assert "jaccard: Jaccard similarity 0.9091" in output
    with project.store.transaction() as connection:
        connection.execute("update personas.duplicates set similarity = 0.95")
    output = run(project, "explain", "a")[0] + run(project, "explain", "b")[0]
    assert "Layer jaccard: estimated Jaccard similarity 0.9500, threshold 0.9" in output


def test_the_command_says_what_is_not_decided_any_more_or_yet(project: Project) -> None:
    project.write({"a": TEN})
    assert "not deduplicated yet" in run(project, "explain", "a")[0]
    assert "Not compared yet with the settings of now: s1" in run(project, "sweep")[0]
    project.deduplicate({"a": TEN, "b": TEN})
    project.write({"b": TEN})
    assert "Its keeper a is gone" in run(project, "explain", "b")[0]


def test_the_commands_distinguish_the_hub_from_the_present_settings(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.deduplicate({"a": TEN, "b": changed(1)})
    monkeypatch.setenv("PERSONA_PIPELINE_JACCARD_THRESHOLD", "0.8")
    monkeypatch.setenv("PERSONA_PIPELINE_FUZZY_THRESHOLD", "90")
    decided = (
        "Decided with jaccard_threshold 0.9 (now 0.8), fuzzy_threshold none (now 90): s1. The next"
    )
    output, _ = run(project, "sweep")
    assert "the hub" not in output  # none of these rows is it: they ask for spelling, too
    assert re.search(r"0\.8 .* next run +\n", output)
    assert "At 0.9: removed" in output
    assert decided in output
    output, _ = run(project, "explain", "a")
    assert "\nkept" in f"\n{output}"
    assert decided in output
    monkeypatch.setenv("PERSONA_PIPELINE_FUZZY_THRESHOLD", "none")
    output, _ = run(project, "sweep")
    assert re.search(r"0\.9 .* the hub +\n", output)
    assert "Decided with jaccard_threshold 0.9 (now 0.8): s1." in output
    monkeypatch.setenv("PERSONA_PIPELINE_STORE_PAIRS_FROM", "0.6")
    output, _ = run(project, "sweep")
    monkeypatch.setattr("persona_pipeline.hub.sweep.COMPARED_ANEW", 0)
    assert re.search(r"~0\.65 .*stored from 0\.7 on", run(project, "sweep")[0], re.DOTALL)
    assert "Not compared yet with the settings of now: s1." in output


def test_the_commands_name_shards_without_vectors(project: Project) -> None:
    project.deduplicate({"a": TEN})
    missing = "Without vectors of fake/embedder, and so not compared by meaning: s1."
    assert missing in run(project, "sweep")[0]
    assert missing in run(project, "explain", "a")[0]


def test_a_snapshot_of_an_older_version_is_said_to_be_one(project: Project) -> None:
    with duckdb.connect(str(project.store.path)) as connection:
        connection.execute("drop table personas.fingerprints")
    _, error = run(project, "sweep")
    assert "written by an older version" in str(error)


def test_a_snapshot_from_before_the_last_migration_is_said_to_be_older(project: Project) -> None:
    with duckdb.connect(str(project.store.path)) as connection:
        connection.execute("delete from schema_migrations where version > 9")
    _, error = run(project, "explain", "a")
    assert "written by an older version" in str(error)


def test_the_commands_say_what_to_do_where_nothing_was_run(tmp_path: Path) -> None:
    result = CliRunner().invoke(dedup, ["sweep", "--data-dir", str(tmp_path / "none")])
    assert "run 'persona-pipeline run' first" in str(result.exception)
