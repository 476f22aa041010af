"""Define the options that several commands share, and open the project that they describe."""

import shlex
from collections.abc import Callable, Mapping

import click

from persona_pipeline.project import Project, open_project
from persona_pipeline.settings import PREFIX, Settings, config_file

data_dir_option = click.option("--data-dir", help="Where everything is kept.  [default: data]")


def project_from(arguments: Mapping[str, object]) -> Project:
    """Open the project. The options that were given win over all other settings."""
    return open_project(**{name: value for name, value in arguments.items() if value is not None})


def setting_of(option: str) -> str | None:
    """Say how to set a setting that a command has no option for; None if no setting is so named."""
    name = option.lstrip("-").replace("-", "_")
    if name not in Settings.model_fields:
        return None
    return (
        f"{name} is a setting without an option here: set {PREFIX}{name.upper()}, or {name} in "
        f"{config_file()}"
    )


def data_dir_typed(settings: Settings) -> str:
    """Return the option that names the data directory; an empty string for the default one."""
    usual = Settings.model_fields["data_dir"].default
    return (
        "" if settings.data_dir == usual else f" --data-dir {shlex.quote(str(settings.data_dir))}"
    )


Command = Callable[..., None]


def with_options(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Return a decorator that adds the options in this order."""

    def add(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return add


model_options = with_options(
    click.option("--model", help="Any LiteLLM name, embedded/..., a GGUF path, fake/demo."),
    click.option("--api-base", help="Address of an OpenAI-compatible server."),
    click.option("--api-key", help="Key of that server; else the provider's own variable."),
)
job_options = with_options(
    click.option("--source", help="File, folder, URL, wikipedia, wikipedia:es or wikipedia:fr."),
    click.option("--documents", help="Documents to take, or 'all'.  [default: 20]"),
    click.option("--shards", type=click.IntRange(1), help="Whole shards to take instead."),
    click.option(
        "--shard-size", type=click.IntRange(1), help="Documents in a shard.  [default: 1000]"
    ),
    click.option("--records-per-shard", help="Per domain, or 'all' personas.  [default: 3]"),
    click.option("--domains", help="Comma-separated; default: all."),
    data_dir_option,
    model_options,
    click.option("--fallback-models", help="Comma-separated; asked where the model fails."),
    click.option("--max-concurrency", help="Most calls in flight.  [default: 256]"),
    click.option(
        "--batch", is_flag=True, default=None, help="In batches: half the price, up to a day."
    ),
    click.option("--max-usd", help="Stop before this is spent; run again to go on."),
    click.option("--max-tokens", help="Stop before so many tokens are used."),
    click.option("--allow-unknown-price", is_flag=True, default=None, help="Under --max-usd, too."),
    click.option(
        "--force", is_flag=True, default=None, help="Do stages again that nothing has changed for."
    ),
)


def job_project(arguments: dict[str, object]) -> Project:
    """Open the project that the options of a job describe; `shards` is turned into documents."""
    shards = arguments.pop("shards")
    project = project_from(arguments)
    if not isinstance(shards, int):
        return project
    documents = str(shards * project.settings.shard_size)
    return project_from({**arguments, "documents": documents})
