"""Options that several commands have, and the settings that they make."""

import click

from persona_pipeline.settings import Settings, load_settings

data_dir_option = click.option("--data-dir", help="Where everything is kept.  [default: data]")


def settings_from(given: dict[str, object]) -> Settings:
    """The settings, with the options that were given first."""
    return load_settings(**{name: value for name, value in given.items() if value is not None})
