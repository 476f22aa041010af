"""Test what 'persona-pipeline select' makes and prints."""

import re
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console

from persona_pipeline.cli.main import cli
from persona_pipeline.cli.select import make_selection
from persona_pipeline.errors import PipelineError, SettingsError, tell_renamed
from persona_pipeline.hub.selection import summarize_selection
from persona_pipeline.hub.selection_rules import Selection
from persona_pipeline.project import open_project
from persona_pipeline.settings import load_settings
from tests.support.selection_project import (
    MODEL,
    Persona,
    SelectionProject,
    open_selection_project,
    people,
)


@pytest.fixture
def project(empty_database: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SelectionProject]:
    with open_selection_project(empty_database, monkeypatch) as project:
        yield project


def print_selection(project: SelectionProject, name: str, **rules: object) -> str:
    """Return what 'persona-pipeline select' prints."""
    selections = {"selections": {name: rules}} if rules else {}
    arguments = {"data_dir": project.settings.data_dir, "embedding_model": MODEL, **selections}
    output = StringIO()
    make_selection(Console(file=output, width=200), open_project(**arguments), name)
    return output.getvalue()


def test_the_command_prints_what_was_made_and_what_to_write_into_the_settings(
    project: SelectionProject,
) -> None:
    project.write(people(9))
    shown = print_selection(project, "diverse", count=6, thresholds="0.7,0.5", seed=2)
    result = summarize_selection(project.store, "diverse", 5)
    assert f"diverse: {result.count} personas of the hub's 9\n" in shown
    assert f"smallest {result.smallest:.3f}, median {result.median:.3f}" in shown
    assert all(f"\n  {text}\n" in shown for text in result.first["persona"])
    written = "\n".join(re.findall(r"^  (\[.*|[a-z_]+ = .*)$", shown, re.MULTILINE))
    Path("persona_pipeline.toml").write_text(written)
    read = load_settings()
    assert read.selections == {"diverse": Selection(count=6, thresholds=[0.7, 0.5], seed=2)}
    assert list(read.persona_sources.values()) == ["diverse"]
    assert f"run --data-dir {project.settings.data_dir}" in shown
    assert "[selections" not in print_selection(project, "diverse")


def test_the_command_says_when_fewer_were_left_than_asked_for(project: SelectionProject) -> None:
    project.write(people(3))
    assert "100 were asked for; the hub has no more.\n" in print_selection(
        project, "diverse", count=100
    )
    shown = print_selection(project, "diverse", count=100, thresholds=[0.5], method="first")
    assert "the hub has no more that are below the thresholds" in shown
    assert "cosine" not in shown


def test_a_threshold_that_removes_nobody_is_printed_with_zero(project: SelectionProject) -> None:
    project.write([Persona(f"p{n}", f"w1 w2 w3 w{4 + n}", n, None) for n in range(2)])
    rules = {"thresholds": [0.95, 0.5], "method": "first"}
    assert "removed as too similar: 0 at 0.95, 1 at 0.5\n" in print_selection(
        project, "diverse", **rules
    )


def test_options_make_one_selection_and_leave_the_others_configured(
    project: SelectionProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write(people(9))
    Path("persona_pipeline.toml").write_text(
        '[selections.few]\ncount = 2\n[persona_sources]\nnpc = "few"\n'
    )
    monkeypatch.setenv("PERSONA_PIPELINE_EMBEDDING_MODEL", MODEL)
    arguments = ["select", "many", "--count", "5", "--data-dir", str(project.settings.data_dir)]
    done = CliRunner().invoke(cli, arguments)
    assert "many: 5 personas" in done.output
    assert "[selections.many]" in done.output
    arguments = ["select", "few", "--seed", "7", "--data-dir", str(project.settings.data_dir)]
    done = CliRunner().invoke(cli, arguments)
    assert "few: 2 personas" in done.output  # what no option says is as configured
    assert "[persona_sources]" not in done.output


def test_the_old_option_chooses_the_method_and_names_the_new_one(
    project: SelectionProject, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tell_renamed.cache_clear()
    project.write(people(9))
    Path("persona_pipeline.toml").write_text('[selections.few]\ncount = 2\nmethod = "farthest"\n')
    monkeypatch.setenv("PERSONA_PIPELINE_EMBEDDING_MODEL", MODEL)
    data = str(project.settings.data_dir)
    done = CliRunner().invoke(cli, ["select", "few", "--no-farthest", "--data-dir", data])
    assert 'method = "first"' in done.output
    assert "--no-farthest is now --method first; the old name works until 0.3" in caplog.text


def test_the_command_without_rules_or_personas_says_what_to_do(
    project: SelectionProject, tmp_path: Path
) -> None:
    with pytest.raises(SettingsError, match=r"'diverse'; none is configured: .* or give --count"):
        print_selection(project, "diverse")
    with pytest.raises(PipelineError, match=r"no persona is in the hub.*persona-pipeline run"):
        print_selection(project, "diverse", count=3)
    empty = open_project(data_dir=tmp_path / "none", selections={"diverse": {"count": 1}})
    with pytest.raises(PipelineError, match=r"there is no .*none/pipeline\.duckdb yet: run"):
        make_selection(Console(), empty, "diverse")
