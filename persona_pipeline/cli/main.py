"""The commands: run, estimate, calls, dedup, sql, preview, select, backup, restore, doctor."""

import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import click
from rich.console import Console
from rich.markup import escape

from persona_pipeline.cli.aftermath import Before, look_before, print_aftermath
from persona_pipeline.cli.backups import backup_data, restore_data
from persona_pipeline.cli.calls import opened_store, print_calls
from persona_pipeline.cli.dedup import dedup
from persona_pipeline.cli.display import open_reporter
from persona_pipeline.cli.doctor import run_checks
from persona_pipeline.cli.estimates import print_estimate, print_expected, print_stopped
from persona_pipeline.cli.location import find_root, load_main_job
from persona_pipeline.cli.options import data_dir_option, setting_of, settings_from
from persona_pipeline.cli.preview import print_preview
from persona_pipeline.cli.queries import run_query
from persona_pipeline.cli.selections import make_selection
from persona_pipeline.cli.summary import print_next, print_summary
from persona_pipeline.errors import PipelineError
from persona_pipeline.llm.buying.budget import BudgetReached
from persona_pipeline.llm.buying.exchange import export_calls, import_calls
from persona_pipeline.llm.models import prefetch
from persona_pipeline.progress import reporting_to
from persona_pipeline.settings import Settings, environment_of
from persona_pipeline.store import plain_interrupts

Command = Callable[..., None]
STOPPED_AT_BUDGET = 3
"""Exit status of a run that ended at its cap: neither done nor failed."""


def main() -> None:
    """Run a command; a PipelineError is a message and exit status 1, not a traceback."""
    try:
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: in order
        with plain_interrupts():
            cli(standalone_mode=False)
    except PipelineError as error:
        Console(stderr=True).print(f"[red]error:[/] {escape(str(error))}", highlight=False)
        sys.exit(1)
    except click.ClickException as error:
        error.show()
        if isinstance(error, click.NoSuchOption) and (hint := setting_of(error.option_name)):
            Console(stderr=True).print(hint, highlight=False, soft_wrap=True)
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        Console(stderr=True).print(
            "\nstopped; every finished answer is kept. Run the same command to go on."
        )
        sys.stdout.flush()
        os._exit(130)  # an embedded model would first finish the answers that nobody waits for


def with_options(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """A decorator that adds the options, in this order."""

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
)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="persona-pipeline")
def cli() -> None:
    """Web text to personas, personas to diverse synthetic training data.

    Every setting is also an environment variable, PERSONA_PIPELINE_<NAME>, and a key of
    persona_pipeline.toml.
    """


@cli.command()
@job_options
def run(**given: object) -> None:
    """Run the main job: documents to personas to records in every domain."""
    settings = _job_settings(given)
    started = time.monotonic()
    console = Console()
    root = find_root()
    os.environ.update(environment_of(settings))  # the code location reads the same settings
    _quiet_libraries()
    began: list[Before] = []

    def begin(shards: list[str]) -> None:
        began.append(look_before(opened_store(settings), settings, shards))
        print_expected(console, settings, shards)

    try:
        with open_reporter(console) as reporter, reporting_to(reporter):
            prefetch(settings)
            load_main_job(root).run_main_job(settings, root, before_buying=begin)
    except BudgetReached as reached:
        [before] = began
        print_stopped(console, settings, before.shards, reached)
        print_aftermath(console, opened_store(settings), settings, before)
        sys.exit(STOPPED_AT_BUDGET)
    [before] = began
    print_summary(console, settings, before.shards, time.monotonic() - started)
    print_aftermath(console, opened_store(settings), settings, before)
    print_next(console, settings, given)


@cli.command()
@job_options
def estimate(**given: object) -> None:
    """Say what a run would buy: calls, tokens, USD and time, by stage. Asks no model."""
    print_estimate(Console(), _job_settings(given))


@cli.group(invoke_without_command=True)
@data_dir_option
@click.pass_context
def calls(context: click.Context, /, **given: object) -> None:
    """Show the bought answers, by stage, model and status; export or import them."""
    context.obj = settings_from(given)
    if context.invoked_subcommand is None:
        print_calls(Console(), context.obj)


@calls.command(name="export")
@click.argument("path", type=click.Path(path_type=Path))
@click.pass_obj
def export_answers(settings: Settings, path: Path) -> None:
    """Write every bought answer to PATH: .parquet or .jsonl."""
    count = export_calls(opened_store(settings), path)
    click.echo(f"{count:,} answers written to {path}")


@calls.command(name="import")
@click.argument("path", type=click.Path(path_type=Path, exists=True))
@click.pass_obj
def import_answers(settings: Settings, path: Path) -> None:
    """Take in the answers of PATH, so that runs here need not buy them."""
    store = opened_store(settings)
    count, new = import_calls(store, path)
    store.publish()
    click.echo(f"{count:,} answers read from {path}, {new:,} of them new")


cli.add_command(dedup)
cli.add_command(backup_data)
cli.add_command(restore_data)
cli.add_command(run_query)


@cli.command()
@click.argument("domain")
@click.option("--persona", required=True, help="The persona to write for.")
@click.option("--prompting", help="zero_shot, few_shot or persona_few_shot.")
@click.option("--option", "options", multiple=True, help="name=value, e.g. difficulty=hard.")
@model_options
def preview(domain: str, persona: str, options: tuple[str, ...], **given: object) -> None:
    """Print the rendered prompt of DOMAIN and the model's answer."""
    print_preview(Console(), settings_from(given), domain, persona, options)


@cli.command()
@click.argument("name")
@click.option("--count", type=click.IntRange(1), help="Most personas to choose.")
@click.option("--thresholds", help="Falling word-set similarities to remove at: 0.7,0.5.")
@click.option("--farthest/--no-farthest", default=None, help="By the embeddings, or first in line.")
@click.option("--seed", type=int, help="Draws who is chosen first.  [default: 0]")
@data_dir_option
def select(name: str, data_dir: str | None, **given: object) -> None:
    """Choose personas as different as possible: the diverse subset NAME of the hub.

    What no option says is as in the setting 'selections' of NAME.
    """
    settings = settings_from({"data_dir": data_dir})
    if rules := {option: value for option, value in given.items() if value is not None}:
        known = settings.selections.get(name)
        configured = known.model_dump(exclude_unset=True) if known else {}
        selections = {**settings.selections, name: configured | rules}
        settings = settings_from({"data_dir": data_dir, "selections": selections})
    make_selection(Console(), settings, name)


@cli.command()
@model_options
@data_dir_option
def doctor(**given: object) -> None:
    """Say what is set, what works, what is missing and how to mend it."""
    healthy = run_checks(Console(), settings_from(given))
    sys.exit(0 if healthy else 1)


def _job_settings(given: dict[str, object]) -> Settings:
    shards = given.pop("shards")
    settings = settings_from(given)
    if not isinstance(shards, int):
        return settings
    return settings_from({**given, "documents": str(shards * settings.shard_size)})


def _quiet_libraries() -> None:
    for name in ("dagster", "LiteLLM", "httpx"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
