"""Print what a run will buy, what it may spend, and what is left when it stops at its budget."""

from collections.abc import Sequence

import click
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from persona_pipeline.cli.options import job_options, job_project
from persona_pipeline.cli.schema_gaps import print_gaps
from persona_pipeline.cli.terminal import count_of, open_console
from persona_pipeline.corpus.registration import staged_aside
from persona_pipeline.estimate import Estimate, estimate_run, estimate_staged
from persona_pipeline.llm.gateway.budget import BudgetExceeded
from persona_pipeline.llm.progress import describe_seconds
from persona_pipeline.project import Project
from persona_pipeline.settings import Settings

COLUMNS = ("reused", "to buy", "tok. in", "tok. out", "USD", "time")


def print_estimate(console: Console, project: Project) -> None:
    """Print the estimate by stage, its sum, and the share of documents it is from.

    It registers nothing.
    """
    with staged_aside(project.source_plan, project.settings) as staged:
        shards = [(shard.shard, shard.path, shard.row_count) for shard in staged]
        estimate = estimate_staged(project, shards)
    models = sorted({stage.model for stage in estimate.stages})
    title = f"What a run would buy of {escape(', '.join(models))}"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, padding=0)
    table.add_column("stage", no_wrap=True)
    for name in COLUMNS:
        table.add_column(name, justify="right", no_wrap=True)
    for stage in estimate.stages:
        counts = (stage.reused, stage.calls, stage.tokens_in, stage.tokens_out)
        shown = [f"{count:,}" for count in counts]
        table.add_row(stage.stage, *shown, _usd(stage.usd), _time(stage.seconds))
    console.print(table)
    console.print(_sentence(estimate, project.settings), highlight=False)
    if estimate.share < 1:
        console.print(
            f"Estimated from {estimate.share:.0%} of the documents; the others are assumed alike."
        )
    print_gaps(console, project, project.domains.values())


def print_expected(
    console: Console, project: Project, shards: Sequence[str], undone: Sequence[str]
) -> None:
    """Print what the run will buy, in one sentence; only `undone` have a step to do."""
    estimate = estimate_run(project, shards, undone)
    expected = _sentence(estimate, project.settings)
    nothing = "nothing to buy: all answers are there"
    console.print(f"Expected: {expected if estimate.calls else nothing}", highlight=False)


def print_stopped(
    console: Console, project: Project, shards: Sequence[str], exceeded: BudgetExceeded
) -> None:
    """Print which cap was reached, what is left to buy, and how to go on."""
    console.print(f"[bold yellow]{escape(str(exceeded))}[/]. Everything bought is kept.")
    left = estimate_run(project, shards, project.undone_shards(shards))
    console.print(f"Left: {_sentence(left, project.settings)}", highlight=False)
    console.print("Run the same command again to go on, with the same cap or another one.")


def _sentence(estimate: Estimate, settings: Settings) -> str:
    parts = [f"about {count_of(estimate.calls, 'call')}", f"{estimate.tokens:,} tokens"]
    parts.append(f"{_usd(estimate.usd)} USD")
    parts.append("time unknown" if estimate.seconds is None else _time(estimate.seconds))
    text = ", ".join(parts)
    cap = settings.max_usd
    if cap is not None and estimate.usd is not None and estimate.usd > cap:
        text += f"; the run will stop at {cap:g} USD and can be continued"
    return text


def _usd(amount: float | None) -> str:
    return "unknown" if amount is None else f"{amount:.4f}"


def _time(seconds: float | None) -> str:
    return "unknown" if seconds is None else describe_seconds(seconds)


@click.command()
@job_options
def estimate(**arguments: object) -> None:
    """Say what a run would buy: calls, tokens, USD and time, by stage. No model is asked."""
    print_estimate(open_console(), job_project(arguments))
