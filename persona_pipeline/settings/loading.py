"""Read the settings, and say what is wrong with them."""

import os
import tomllib
from pathlib import Path
from typing import Any

import dotenv
from pydantic import ValidationError
from pydantic_settings import SettingsError as UnreadableSetting

from persona_pipeline.errors import SettingsError, unknown_choice
from persona_pipeline.settings.model import NESTED, Settings
from persona_pipeline.settings.sources import (
    CONFIG_VARIABLE,
    ELSEWHERE,
    PREFIX,
    config_file,
    rename_variables,
    renamed_settings,
)

HIDDEN = {"api_key", "api_base", "request_parameters", "source", "watch"}
"""Settings that may hold a password: an error does not repeat their values, nor parts of them."""


def load_settings(**arguments: Any) -> Settings:  # noqa: ANN401 - any setting
    """Read the settings from arguments, the environment, the TOML file, and the defaults.

    Variables of a `.env` file in the working directory are put into the environment, unless the
    environment has them already.

    Args:
        arguments: any settings by name. They win over the environment and the file.

    Returns:
        The settings, checked. They cannot be changed.

    Raises:
        SettingsError: a setting is unknown or wrong; the message names it and its choices.
    """
    rename_variables()
    environment = {name for name, value in os.environ.items() if value}
    try:
        dotenv.load_dotenv(Path(".env"), override=False)
    except UnicodeDecodeError as error:
        msg = f"{Path('.env').absolute()} is not UTF-8: {error.reason} at byte {error.start}"
        raise SettingsError(msg) from error
    rename_variables(first=environment)
    _refuse_unknown_variables()
    if CONFIG_VARIABLE in os.environ and not config_file().is_file():
        msg = f"{CONFIG_VARIABLE} names {config_file()}, which is not there"
        raise SettingsError(msg)
    try:
        settings = Settings(**renamed_settings(arguments, "an argument"))
    except ValidationError as error:
        raise SettingsError(_explain(error)) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        msg = f"{config_file()}: {error}"
        raise SettingsError(msg) from error
    except UnreadableSetting as error:
        example = f"""{PREFIX}PERSONA_SOURCES='{{"math": "diverse"}}'"""
        msg = f"{error}: {error.__cause__}; it is JSON, such as {example}"
        raise SettingsError(msg) from error
    if settings.min_chars > settings.max_chars:
        msg = (
            f"setting 'min_chars' ({settings.min_chars}) is larger than 'max_chars' "
            f"({settings.max_chars}): no document has both lengths"
        )
        raise SettingsError(msg)
    return settings


def _refuse_unknown_variables() -> None:
    known = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields} | ELSEWHERE
    for variable in os.environ:
        if variable.startswith(PREFIX) and variable not in known:
            raise SettingsError(unknown_choice("setting", variable, known))


def _explain(error: ValidationError) -> str:
    problems = []
    for item in error.errors(include_url=False, include_input=True):
        name = ".".join(map(str, item["loc"]))
        if item["type"] == "extra_forbidden" and len(item["loc"]) > 1:
            *path, key = map(str, item["loc"])
            fields = NESTED[path[0]].model_fields
            problems.append(unknown_choice(f"key of setting {'.'.join(path)!r}:", key, fields))
        elif item["type"] == "extra_forbidden":
            problems.append(unknown_choice("setting", name, Settings.model_fields))
        else:
            shown = "" if {*item["loc"][:1]} & HIDDEN else f" (got {item['input']!r})"
            problems.append(f"setting {name!r}: {item['msg']}{shown}")
    return "; ".join(problems)
