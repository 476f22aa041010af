"""Run a query on the published snapshot, and print its rows in the form that is asked for."""

import contextlib
import io
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import click
import duckdb
from rich.table import Table
from rich.text import Text

from persona_pipeline.cli.options import data_dir_option, project_from
from persona_pipeline.cli.terminal import open_console, plain
from persona_pipeline.control_characters import escape_control, escape_json
from persona_pipeline.errors import PipelineError, unknown_choice
from persona_pipeline.sql import open_duckdb, read_sql, sql_names

PRINTED_AT_A_TIME = 1000
PRINTED_CHARS = 1 << 20
SHOWN = 200
"""Most rows that are shown as a table, or a line per value."""
FEW = 10
"""Most rows that are shown a line per value when not all columns fit into the terminal."""
NESTED = {"list", "array", "struct", "map"}
MISSING = re.compile(r"Table with name (\w+) does not exist")
HIDDEN = re.compile(r"(\d+) columns? \((\d+) shown\)")
"""What DuckDB writes below a table that does not show all its columns."""


@click.command(name="sql")
@click.argument("query", required=False)
@data_dir_option
@click.option("--csv", is_flag=True, help="Print comma-separated values.")
@click.option("--jsonl", is_flag=True, help="Print a JSON object per row.")
@click.option("--lines", is_flag=True, help="Print a line per value: for wide rows.")
@click.option("--example", help="Run this example in place of QUERY.")
@click.option("--examples", "lists", is_flag=True, help="List the examples: name and question.")
def run_query(
    query: str | None, *, example: str | None, lists: bool, data_dir: str | None, **chosen: bool
) -> None:
    """Run QUERY on the published snapshot, or open a SQL shell on it."""
    if lists:
        click.echo(list_examples())
        return
    outputs = [name for name, is_chosen in chosen.items() if is_chosen]
    if len(outputs) > 1:
        msg = f"give either {' or '.join(f'--{name}' for name in outputs)}"
        raise click.UsageError(msg)
    if example is not None:
        if query is not None:
            msg = "give either QUERY or --example"
            raise click.UsageError(msg)
        query = read_example(example)
    snapshot = project_from({"data_dir": data_dir}).newest_snapshot()
    if query is None:
        _open_shell(snapshot)
        return
    try:
        with open_duckdb(snapshot, read_only=True) as connection:
            if (result := connection.sql(query)) is not None:
                _PRINT[outputs[0] if outputs else "table"](result)
    except duckdb.Error as error:
        raise PipelineError(_explain(error)) from error


def _is_domain(name: str) -> bool:
    from persona_pipeline.synthesis.domain import load_domains  # noqa: PLC0415 - only on errors

    return name in load_domains()


def _explain(error: duckdb.Error) -> str:
    """Return DuckDB's message, or ours if a domain's table does not exist yet."""
    missing = MISSING.search(str(error))
    knows = missing and f"synthetic.{missing[1]}" in str(error)  # DuckDB suggests a known table
    if missing and not knows and _is_domain(missing[1]):
        return f"there is no synthetic.{missing[1]} yet: no run had the domain {missing[1]}"
    return str(error)


def _print_table(result: duckdb.DuckDBPyRelation) -> None:
    """Print the table that DuckDB draws; print few rows a line per value if columns are hidden."""
    drawn = io.StringIO()
    with contextlib.redirect_stdout(drawn):
        result.show(max_width=open_console().width, max_rows=SHOWN)
    *_, below = drawn.getvalue().rstrip().rpartition("\n")
    hidden = HIDDEN.search(below)
    if hidden and len(rows := _as_texts(result, FEW + 1)) <= FEW:
        _print_rows(result.columns, rows)
        return
    click.echo(escape_control(drawn.getvalue()), nl=False)
    if hidden:
        total, shown = hidden.groups()
        click.echo(f"{shown} of {total} columns fit: name fewer, or see all with --lines or --csv")


def _print_lines(result: duckdb.DuckDBPyRelation) -> None:
    """Print a line per value, with a rule between rows."""
    rows = _as_texts(result, SHOWN + 1)
    _print_rows(result.columns, rows[:SHOWN])
    if not rows:
        click.echo("0 rows")
    if len(rows) > SHOWN:
        click.echo(f"The first {SHOWN} rows: --csv and --jsonl print all.")


def _as_texts(result: duckdb.DuckDBPyRelation, count: int) -> list[tuple[str | None, ...]]:
    return result.limit(count).project("columns(*)::varchar").fetchall()


def _print_rows(names: Sequence[str], rows: Sequence[tuple[str | None, ...]]) -> None:
    console = open_console()
    for number, row in enumerate(rows, start=1):
        console.rule(f"row {number:,}", align="left", characters="─")
        table = Table.grid(padding=(0, 2))
        table.add_column(no_wrap=True, style="bold")
        table.add_column(overflow="fold")
        for name, value in zip(names, row, strict=True):
            table.add_row(Text(name), Text("null", "dim") if value is None else _as_text(value))
        console.print(table)


def _as_text(value: str) -> Text:
    return Text("\n".join(map(plain, value.splitlines())))


def _print_csv(result: duckdb.DuckDBPyRelation) -> None:
    r"""Print CSV, with lists and structs as JSON: DuckDB's own form of them cannot be parsed.

    Control characters are printed as escapes, such as `\x1b`: CSV has none of its own.
    """
    names = ['"' + name.replace('"', '""') + '"' for name in result.columns]
    columns = [
        f"to_json({name}) as {name}" if kind.id in NESTED else name
        for name, kind in zip(names, result.types, strict=True)
    ]
    is_named = len({name.lower() for name in names}) == len(names)  # else names are ambiguous
    if is_named and columns != names:
        result = result.project(", ".join(columns))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "result.csv"
        result.write_csv(str(path), header=True)
        with path.open(encoding="utf-8", newline="") as text:
            for lines in iter(lambda: text.read(PRINTED_CHARS), ""):
                click.echo(escape_control(lines), nl=False)


def _print_objects(result: duckdb.DuckDBPyRelation) -> None:
    """Print a JSON object per row. DuckDB writes it: Polars has no type for a sum of integers."""
    rows = result.set_alias("result_rows").project("to_json(result_rows)::varchar")
    while objects := rows.fetchmany(PRINTED_AT_A_TIME):
        click.echo("\n".join(escape_json(text) for (text,) in objects))


_PRINT = {
    "table": _print_table,
    "lines": _print_lines,
    "csv": _print_csv,
    "jsonl": _print_objects,
}


def _open_shell(snapshot: Path) -> None:
    shell = Path(sys.executable).with_name("duckdb")
    if not shell.is_file():
        msg = f"the duckdb shell is not installed: pip install duckdb-cli, then: duckdb {snapshot}"
        raise PipelineError(msg)
    subprocess.run([str(shell), "-readonly", str(snapshot)], check=False)  # noqa: S603 - our own command


def example_names() -> list[str]:
    """Return the names that `--example` accepts."""
    return [name.removeprefix("examples/") for name in sql_names("examples")]


def read_example(name: str) -> str:
    """Return the SQL of one example.

    Raises:
        PipelineError: there is no example of this name; the message lists the names.
    """
    if name not in example_names():
        raise PipelineError(unknown_choice("example", name, example_names()))
    return read_sql(f"examples/{name}")


def question(name: str) -> str:
    """Return the question that an example answers: the first line of its file."""
    return read_example(name).partition("\n")[0].removeprefix("-- ")


def list_examples() -> str:
    """Return a line for each example: its name and its question."""
    width = max(map(len, example_names()))
    return "\n".join(f"{name:<{width}}  {question(name)}" for name in example_names())
