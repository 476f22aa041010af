"""Run the notebook of the docs cell by cell on a finished project."""

import ast
import json
from pathlib import Path

import polars as pl
import pytest

from tests.support.platform import Platform

NOTEBOOK = Path(__file__).parents[2] / "docs" / "notebooks" / "explore.ipynb"


def run_cells(names: dict[str, object]) -> list[object]:
    """Run every code cell in one namespace; return the value of each cell's last line."""
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    shown: list[object] = []
    for cell in cells:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []  # nobody's data is committed with it
            tree = ast.parse("".join(cell["source"]))
            last = tree.body.pop()
            exec(compile(tree, cell["id"], "exec"), names)  # noqa: S102 - our own notebook
            if isinstance(last, ast.Expr):
                expression = compile(ast.Expression(last.value), cell["id"], "eval")
                shown.append(eval(expression, names))  # noqa: S307
            else:
                exec(compile(ast.Module([last], []), cell["id"], "exec"), names)  # noqa: S102
    return shown


def test_the_notebook_runs_on_a_snapshot_and_shows_what_it_says(
    finished_platform: Platform, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PERSONA_PIPELINE_DATA_DIR", str(finished_platform.settings.data_dir))
    names: dict[str, object] = {}
    _, funnel, hub, pairs, records, removed, personas, written = run_cells(names)
    for frame in (funnel, hub, records, removed, personas):
        assert isinstance(frame, pl.DataFrame)
        assert len(frame)
    assert isinstance(funnel, pl.DataFrame)
    assert funnel["is_balanced"].all()
    assert isinstance(pairs, pl.DataFrame)
    assert isinstance(removed, pl.DataFrame)
    assert removed["kept_id"].to_list() == [2]
    assert isinstance(written, pl.DataFrame)
    assert "1 of 4 removed: exact 1" in capsys.readouterr().out
