"""What a project says and refuses, before anything is run."""

from pathlib import Path

import pytest

from persona_pipeline.errors import PipelineError, SettingsError
from persona_pipeline.project import open_project


def test_a_project_shows_its_folder_and_no_key(tmp_path: Path) -> None:
    project = open_project(data_dir=tmp_path / "data", model="openai/m", api_key="secret-key")
    assert repr(project) == f"Project(data_dir='{tmp_path / 'data'}')"
    assert hash(project) == hash(project)


def test_a_misspelt_persona_stage_is_an_error_and_not_another_model(tmp_path: Path) -> None:
    project = open_project(data_dir=tmp_path / "data")
    with pytest.raises(SettingsError, match=r"unknown persona stage 'text_to_personas'.*did you"):
        project.persona_plan("text_to_personas")


def test_a_query_before_the_first_run_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="run 'persona-pipeline run' first"):
        open_project(data_dir=tmp_path / "data").query("from marts.funnel")
