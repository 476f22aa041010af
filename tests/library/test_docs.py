import re
from pathlib import Path

import click

from persona_pipeline.cli.main import cli
from persona_pipeline.domains.spec import load_domains
from persona_pipeline.settings import Settings
from persona_pipeline.sql_files import sql_names

ROOT = Path(__file__).parent.parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_readme_names_every_setting_domain_command_and_mart() -> None:
    names = [
        *Settings.model_fields,
        *(f"synthetic.{domain}" for domain in load_domains()),
        *(f"persona-pipeline {command}" for command in cli.commands),
        *(name.replace("/", ".") for name in sql_names("marts")),
    ]
    assert [name for name in names if name not in README] == []


def test_every_option_in_the_readme_exists() -> None:
    known = {
        option
        for command in cli.commands.values()
        for parameter in command.params
        if isinstance(parameter, click.Option)
        for option in parameter.opts
    }
    used = set(re.findall(r"persona-pipeline [^\n`#]*?(--[a-z-]+)", README))
    assert used <= known


def test_the_readme_is_short_and_holds_no_unfinished_mark() -> None:
    assert len(README.splitlines()) <= 250
    assert "@@" not in README
    assert "@@" not in (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
