"""Options that several commands have, and the settings that they make."""

import shlex

import click

from persona_pipeline.settings import PREFIX, Settings, config_file, load_settings

data_dir_option = click.option("--data-dir", help="Where everything is kept.  [default: data]")


def settings_from(given: dict[str, object]) -> Settings:
    """The settings, with the options that were given first."""
    return load_settings(**{name: value for name, value in given.items() if value is not None})


def setting_of(option: str) -> str | None:
    """How to set what a command has no option for; None: there is no such setting."""
    name = option.lstrip("-").replace("-", "_")
    if name not in Settings.model_fields:
        return None
    return (
        f"{name} is a setting without an option here: set {PREFIX}{name.upper()}, or {name} in "
        f"{config_file()}"
    )


def data_dir_typed(settings: Settings) -> str:
    """The option that names the data directory; nothing for the usual one."""
    usual = Settings.model_fields["data_dir"].default
    return (
        "" if settings.data_dir == usual else f" --data-dir {shlex.quote(str(settings.data_dir))}"
    )
