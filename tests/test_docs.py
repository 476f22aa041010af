import re
from pathlib import Path

import click
import pytest

from persona_pipeline.cli.main import COMMANDS, cli
from persona_pipeline.settings import Settings, load_settings
from persona_pipeline.sql import sql_names
from persona_pipeline.synthesis.domain import load_domains

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
SETTINGS = (ROOT / "SETTINGS.md").read_text(encoding="utf-8")


def test_every_setting_stands_in_the_list_with_what_it_does() -> None:
    listed = dict(re.findall(r"^\| `(\w+)` \| .* \| (.*) \|$", SETTINGS, re.MULTILINE))
    assert listed.keys() == Settings.model_fields.keys()
    assert all(listed.values())


def test_the_example_of_settings_is_understood(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [example] = re.findall(r"```toml\n(.*?)```", SETTINGS, re.DOTALL)
    (tmp_path / "persona_pipeline.toml").write_text(example)
    monkeypatch.chdir(tmp_path)
    load_settings().load_domains()


def test_the_readme_names_every_domain_command_and_mart() -> None:
    names = [
        *(f"synthetic.{domain}" for domain in load_domains()),
        *(f"persona-pipeline {command}" for command in COMMANDS),
        *(name.replace("/", ".") for name in sql_names("marts")),
    ]
    assert [name for name in names if name not in README] == []


def test_every_option_in_the_readme_exists() -> None:
    context = click.Context(cli)
    commands = [cli.get_command(context, name) for name in COMMANDS]
    known = {
        option
        for command in commands
        if command is not None
        for parameter in command.params
        if isinstance(parameter, click.Option)
        for option in parameter.opts
    }
    used = set(re.findall(r"persona-pipeline [^\n`#]*?(--[a-z-]+)", README))
    assert used <= known


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_of_commands_says_of_each_what_its_own_help_begins_with(name: str) -> None:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    own = (command.help or "").split(".")[0]
    assert COMMANDS[name].summary.rstrip(".").split(":")[0].split(";")[0] in own


def test_the_readme_is_short_and_holds_no_unfinished_mark() -> None:
    assert len(README.splitlines()) <= 250
    assert "@@" not in README
    assert "@@" not in (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
