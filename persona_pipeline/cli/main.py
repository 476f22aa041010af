"""The commands: run, estimate, calls, dedup, sql, preview, select, backup, restore, doctor."""

import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import click
import duckdb
from rich.console import Console
from rich.markup import escape

from persona_pipeline.cli.backups import backup_data, restore_data
from persona_pipeline.cli.calls import opened_store, print_calls
from persona_pipeline.cli.dedup import dedup
from persona_pipeline.cli.display import open_reporter
from persona_pipeline.cli.doctor import run_checks
from persona_pipeline.cli.estimates import print_estimate, print_expected, print_stopped
from persona_pipeline.cli.examples import list_examples, read_example
from persona_pipeline.cli.location import find_root, load_main_job
from persona_pipeline.cli.options import data_dir_option, settings_from
from persona_pipeline.cli.preview import print_preview
from persona_pipeline.cli.selections import make_selection
from persona_pipeline.cli.snapshots import newest_snapshot
from persona_pipeline.cli.summary import print_summary
from persona_pipeline.connections import open_duckdb
from persona_pipeline.errors import PipelineError
from persona_pipeline.llm.buying.budget import BudgetReached
from persona_pipeline.llm.buying.exchange import export_calls, import_calls
from persona_pipeline.llm.models import prefetch
from persona_pipeline.progress import reporting_to
from persona_pipeline.settings import Settings, environment_of
from persona_pipeline.store import plain_interrupts
from persona_pipeline.synthesis import check_sources

Command = Callable[..., None]
PRINTED_AT_A_TIME = 1000
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
    shards: list[str] = []

    def show_estimate(registered: list[str]) -> None:
        shards.extend(registered)
        check_sources(opened_store(settings), settings)
        print_expected(console, settings, shards)

    try:
        with open_reporter(console) as reporter, reporting_to(reporter):
            prefetch(settings)
            load_main_job(root).run_main_job(settings, root, before_buying=show_estimate)
    except BudgetReached as reached:
        print_stopped(console, settings, shards, reached)
        sys.exit(STOPPED_AT_BUDGET)
    print_summary(console, settings, shards, time.monotonic() - started)


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


@cli.command()
@click.argument("query", required=False)
@data_dir_option
@click.option("--csv", "output", flag_value="csv", help="Print comma-separated values.")
@click.option("--jsonl", "output", flag_value="jsonl", help="Print a JSON object per row.")
@click.option("--example", help="Run this example in place of QUERY.")
@click.option("--examples", "lists", is_flag=True, help="List the examples: name and question.")
def sql(
    query: str | None, *, output: str | None, example: str | None, lists: bool, **given: object
) -> None:
    """Run QUERY on the published snapshot, or open a SQL shell on it."""
    if lists:
        click.echo(list_examples())
        return
    if example is not None:
        if query is not None:
            msg = "give either QUERY or --example"
            raise click.UsageError(msg)
        query = read_example(example)
    snapshot = newest_snapshot(settings_from(given))
    if query is None:
        _open_shell(snapshot)
        return
    try:
        with open_duckdb(snapshot, read_only=True) as connection:
            result = connection.sql(query)
            if result is None:
                return
            if output == "csv":
                click.echo(_as_csv(result), nl=False)
            elif output == "jsonl":
                _print_objects(result)
            else:
                result.show(max_width=_width(), max_rows=200)
    except duckdb.Error as error:
        msg = f"{error}"
        raise PipelineError(msg) from error


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

    By the options, else by what the setting 'selections' says of NAME.
    """
    rules = {option: value for option, value in given.items() if value is not None}
    selections = {name: rules} if rules else None
    make_selection(Console(), settings_from({"data_dir": data_dir, "selections": selections}), name)


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


def _as_csv(result: duckdb.DuckDBPyRelation) -> str:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "result.csv"
        result.write_csv(str(path), header=True)
        return path.read_text(encoding="utf-8")


def _print_objects(result: duckdb.DuckDBPyRelation) -> None:
    """As DuckDB writes them: Polars has no number for a sum of integers."""
    rows = result.query("result_rows", "select to_json(result_rows)::varchar from result_rows")
    while objects := rows.fetchmany(PRINTED_AT_A_TIME):
        click.echo("\n".join(text for (text,) in objects))


def _open_shell(snapshot: Path) -> None:
    shell = Path(sys.executable).with_name("duckdb")
    if not shell.is_file():
        msg = f"the duckdb shell is not installed: pip install duckdb-cli, then: duckdb {snapshot}"
        raise PipelineError(msg)
    subprocess.run([str(shell), "-readonly", str(snapshot)], check=False)  # noqa: S603 - our own command


def _width() -> int:
    return Console().width


def _quiet_libraries() -> None:
    for name in ("dagster", "LiteLLM", "httpx"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
