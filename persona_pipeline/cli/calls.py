"""Print what was bought as tables, and export or import the answers."""

from pathlib import Path

import click
import polars as pl
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from persona_pipeline.cli.options import data_dir_option, project_from
from persona_pipeline.cli.terminal import open_console
from persona_pipeline.project import Project
from persona_pipeline.sql import read_sql
from persona_pipeline.store.call_export import export_calls, import_calls

NUMBERS = {
    "calls": "calls",
    "tokens_in": "tok. in",
    "tokens_cached": "cached",
    "tokens_out": "tok. out",
}


def print_calls(console: Console, project: Project) -> None:
    """Print a table per model, with a row per stage and status.

    One error of each failed stage and status follows the tables.

    Raises:
        PipelineError: nothing has been run yet.
    """
    project.require_database()
    rows = project.store.query(read_sql("cli/calls"))
    for model in rows["model"].unique().sort():
        console.print(_table(model, rows.filter(pl.col("model") == model)))
    for row in rows.filter(pl.col("an_error").is_not_null()).iter_rows(named=True):
        console.print(f"{row['stage']}, {row['status']}: {escape(row['an_error'])}")


def _table(model: str, rows: pl.DataFrame) -> Table:
    table = Table(title=escape(model), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("stage", "status"):
        table.add_column(name, no_wrap=True)
    for name in (*NUMBERS.values(), "USD"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows.iter_rows(named=True):
        usd = "unknown" if row["cost_usd"] is None else f"{row['cost_usd']:.4f}"
        counts = [f"{row[name]:,}" for name in NUMBERS]
        table.add_row(row["stage"], row["status"], *counts, usd)
    return table


@click.group(invoke_without_command=True)
@data_dir_option
@click.pass_context
def calls(context: click.Context, /, **arguments: object) -> None:
    """Show the bought answers, by stage, model and status; export or import them."""
    context.obj = project_from(arguments)
    if context.invoked_subcommand is None:
        print_calls(open_console(), context.obj)


@calls.command(name="export")
@click.argument("path", type=click.Path(path_type=Path))
@click.pass_obj
def export_answers(project: Project, path: Path) -> None:
    """Write every bought answer to PATH: .parquet or .jsonl."""
    count = export_calls(project.store, path)
    click.echo(f"{count:,} answers written to {path}")


@calls.command(name="import")
@click.argument("path", type=click.Path(path_type=Path, exists=True))
@click.pass_obj
def import_answers(project: Project, path: Path) -> None:
    """Import the answers of PATH, so that runs here need not buy them."""
    count, new = import_calls(project.store, path)
    project.store.publish()
    click.echo(f"{count:,} answers read from {path}, {new:,} of them new")
