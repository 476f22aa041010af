"""What was bought, as a table."""

import polars as pl
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from persona_pipeline.errors import PipelineError
from persona_pipeline.llm.buying.journal import Journal
from persona_pipeline.settings import Settings
from persona_pipeline.sql_files import read_sql
from persona_pipeline.store import Store, open_store

NUMBERS = {
    "calls": "calls",
    "tokens_in": "tok. in",
    "tokens_cached": "cached",
    "tokens_out": "tok. out",
}


def opened_store(settings: Settings) -> Store:
    """The store, with the answers that interrupted runs left in the journal."""
    store = open_store(settings)
    store.migrate()
    with Journal(settings.journal_dir) as journal:
        if left := journal.to_commit():
            store.replace([], left, run_id="journal")
            journal.committed()
            store.publish()
    return store


def print_calls(console: Console, settings: Settings) -> None:
    """A table per model, a line per stage and status; then an error of each that failed.

    Raises:
        PipelineError: nothing has been run yet.
    """
    if not settings.database.is_file():
        msg = f"there is no {settings.database} yet: run 'persona-pipeline run' first"
        raise PipelineError(msg)
    rows = opened_store(settings).query(read_sql("cli/calls"))
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
