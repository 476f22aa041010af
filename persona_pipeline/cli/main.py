"""Dispatch the commands.

A command's module is imported when the command is used, so help takes 0.1 s instead of 1.3 s.
"""

import os
import signal
import sys
from importlib import import_module
from typing import NamedTuple

import click

from persona_pipeline.errors import PipelineError, explain_full_disk, plain_interrupts
from persona_pipeline.process import collect_less_often


class _LazyCommand(NamedTuple):
    """Where a command is defined, and its summary in the help."""

    module: str
    attribute: str
    summary: str


COMMANDS = {
    "backup": _LazyCommand(
        "backup", "backup_data", "Write database, journal and staged shards to PATH."
    ),
    "calls": _LazyCommand(
        "calls", "calls", "Show the bought answers, by stage, model and status; export, import."
    ),
    "dedup": _LazyCommand(
        "dedup", "dedup", "Say why a persona was removed, or try other thresholds."
    ),
    "doctor": _LazyCommand(
        "doctor", "doctor", "Say what is set, what works, what is missing and how to mend it."
    ),
    "estimate": _LazyCommand(
        "estimate", "estimate", "Say what a run would buy: calls, tokens, USD and time."
    ),
    "preview": _LazyCommand(
        "preview", "preview", "Print the rendered prompt of DOMAIN and the model's answer."
    ),
    "restore": _LazyCommand(
        "backup", "restore_data", "Put the backup PATH into the data directory."
    ),
    "run": _LazyCommand(
        "run", "run", "Run the main job: documents to personas to records in every domain."
    ),
    "select": _LazyCommand(
        "select", "select", "Choose personas as different as possible: a subset of the hub."
    ),
    "sql": _LazyCommand(
        "sql", "run_query", "Run QUERY on the published snapshot, or open a SQL shell on it."
    ),
}


class LazyGroup(click.Group):
    """A group whose commands are in COMMANDS; its help imports none of them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands, sorted."""
        del ctx
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command of this name; return None where there is none."""
        del ctx
        if cmd_name not in COMMANDS:
            return None
        lazy = COMMANDS[cmd_name]
        module = import_module(f"persona_pipeline.cli.{lazy.module}")
        command: click.Command = getattr(module, lazy.attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write each command's name and summary."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name].summary) for name in sorted(COMMANDS)])


def main() -> None:
    """Run a command. A PipelineError becomes a message and exit status 1, not a traceback."""
    collect_less_often()
    try:
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as after Ctrl-C
        with plain_interrupts():
            cli(standalone_mode=False)
    except PipelineError as error:
        _print_error("error:", str(error))
        sys.exit(1)
    except click.ClickException as error:
        error.show()
        if isinstance(error, click.NoSuchOption):
            _print_setting(error.option_name)
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        click.echo(
            "\nstopped; every finished answer is kept. Run the same command to go on.", err=True
        )
        sys.stdout.flush()
        os._exit(130)  # a normal exit waits for the embedded model's unfinished answers
    except Exception as error:  # each library has its own for a full disk
        if not (message := explain_full_disk(error)):
            raise
        _print_error("error:", message)
        sys.exit(1)


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="persona-pipeline")
def cli() -> None:
    """Web text to personas, personas to diverse synthetic training data.

    Every setting is also an environment variable, PERSONA_PIPELINE_<NAME>, and a key of
    persona_pipeline.toml.
    """


def _print_error(label: str, message: str) -> None:
    from rich.markup import escape  # noqa: PLC0415 - only for errors

    from persona_pipeline.cli.terminal import open_console  # noqa: PLC0415

    open_console(stderr=True).print(f"[red]{label}[/] {escape(message)}", highlight=False)


def _print_setting(option: str) -> None:
    """Say how to set a setting that the command has no option for."""
    from persona_pipeline.cli.options import setting_of  # noqa: PLC0415 - reads all settings

    if hint := setting_of(option):
        click.echo(hint, err=True)
