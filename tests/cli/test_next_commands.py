"""Test the commands that a run proposes at its end."""

from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from persona_pipeline.cli.run_report import print_next
from persona_pipeline.settings import load_settings


def proposed(documents: object = 20, *, has_more: bool = True, **arguments: object) -> str:
    output = StringIO()
    settings = load_settings(data_dir="my data", documents=documents, model="fake/demo")
    console, options = Console(file=output, width=200), {"data_dir": "my data", **arguments}
    print_next(console, settings, options, has_more=has_more)
    return output.getvalue()


def test_more_has_the_options_of_the_run_twice_the_documents_and_no_key() -> None:
    said = proposed(
        source="docs/[ab] *.txt", batch=True, max_usd=None, records_per_shard="5", api_key="sk-1"
    )
    more = "run --source 'docs/[ab] *.txt' --batch --records-per-shard 5 --documents 40"
    assert f"uv run persona-pipeline {more} --data-dir 'my data'" in said
    assert "sk-1" not in said
    assert "docs/x[/b]y.jsonl" in proposed(source="docs/x[/b]y.jsonl")


@pytest.mark.parametrize(
    "arguments",
    [
        {"source": "https://host/x.jsonl?signature=secret"},
        {"api_base": "http://host/v1?key=secret"},
        {"documents": "all"},
        {"has_more": False},
    ],
)
def test_there_is_no_more_after_all_or_where_it_would_show_a_secret(
    arguments: dict[str, Any],
) -> None:
    said = proposed(**arguments)
    assert "persona-pipeline sql" in said
    assert "persona-pipeline run" not in said
    assert "secret" not in said
