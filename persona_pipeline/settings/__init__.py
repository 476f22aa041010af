"""Every setting of the platform, shared by the command line and Dagster.

Values come from the command line, then the environment (`PERSONA_PIPELINE_<NAME>`, also through a
`.env` file), then `persona_pipeline.toml`, then the defaults of `Settings`. The first source that
has a setting gives the whole of it.
"""

from persona_pipeline.settings.loading import load_settings
from persona_pipeline.settings.model import NESTED, Settings, Verb
from persona_pipeline.settings.sources import (
    CONFIG_VARIABLE,
    DEFAULT_CONFIG,
    ELSEWHERE,
    PREFIX,
    RENAMED,
    config_file,
    renamed_settings,
)

__all__ = [
    "CONFIG_VARIABLE",
    "DEFAULT_CONFIG",
    "ELSEWHERE",
    "NESTED",
    "PREFIX",
    "RENAMED",
    "Settings",
    "Verb",
    "config_file",
    "load_settings",
    "renamed_settings",
]
