"""Set variables and a TOML file as a user would, and spell settings as variables."""

import json
from pathlib import Path

import pytest
from pydantic import SecretStr
from pydantic_core import to_jsonable_python

from persona_pipeline.settings import PREFIX, Settings

CANARY = "sk-canary-5f1d"
"""A secret that no message may show."""


def write_toml(text: str) -> None:
    Path("persona_pipeline.toml").write_text(text)


def set_variables(monkeypatch: pytest.MonkeyPatch, **values: str) -> None:
    for name, value in values.items():
        monkeypatch.setenv(f"{PREFIX}{name.upper()}", value)


def environment_of(settings: Settings) -> dict[str, str]:
    """Spell the settings that were given as environment variables."""
    variables = {}
    for name in settings.model_fields_set:
        value = getattr(settings, name)
        if isinstance(value, SecretStr):
            value = value.get_secret_value()
        variables[f"{PREFIX}{name.upper()}"] = _as_variable(value)
    return variables


def _as_variable(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, list):
        return ",".join(map(str, value))
    if isinstance(value, dict):
        return json.dumps(value, default=to_jsonable_python)
    return str(value)
