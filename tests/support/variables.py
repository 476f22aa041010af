"""Turn settings into the environment variables that a user would set."""

import json

from pydantic import SecretStr
from pydantic_core import to_jsonable_python

from persona_pipeline.settings import PREFIX, Settings


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
