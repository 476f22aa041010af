"""Make a diverse subset of the hub, and say what is in it and how to use it."""

import json

import click
from rich.console import Console
from rich.markup import escape

from persona_pipeline.cli.options import data_dir_option, data_dir_typed, project_from
from persona_pipeline.cli.run_report import left_behind_notes, outdated_notes
from persona_pipeline.cli.terminal import count_of, open_console, warn
from persona_pipeline.errors import PipelineError, tell_renamed
from persona_pipeline.hub.decisions import STAGE
from persona_pipeline.hub.selection import (
    Chosen,
    SelectionSummary,
    select_personas,
    summarize_selection,
)
from persona_pipeline.hub.selection_rules import Selection, check_selection
from persona_pipeline.hub.state import read_dedup_state
from persona_pipeline.locks import exclusive_lock
from persona_pipeline.project import Project
from persona_pipeline.settings import config_file, load_settings

SHOWN = 5


def make_selection(console: Console, project: Project, name: str) -> None:
    """Choose personas by the rules that the settings have for `name`, and print the outcome.

    Raises:
        PipelineError: there are no rules of this name, or there are no personas yet.
    """
    settings = project.settings
    check_selection(name, settings.selections, hint=", or give --count or --thresholds")
    rules = settings.selections[name]
    project.require_database()
    store, plan = project.store, project.dedup_plan
    with exclusive_lock(settings.locks_dir / STAGE):
        chosen = select_personas(store, plan, name, rules)
        store.replace(chosen.rows, [], run_id="select")
    store.publish()
    summary = summarize_selection(store, name, SHOWN)
    if not summary.count:
        msg = f"no persona is in the hub of {settings.database}: run 'persona-pipeline run' first"
        raise PipelineError(msg)
    _print_made(console, summary, rules, chosen)
    for note in (*outdated_notes(read_dedup_state(store, plan), plan), *left_behind_notes(store)):
        warn(console, note)
    _print_next(console, project, name)


def _print_made(
    console: Console, summary: SelectionSummary, rules: Selection, chosen: Chosen
) -> None:
    console.print(
        f"[bold]{summary.name}[/]: {count_of(summary.count, 'persona')} of the hub's "
        f"{chosen.hub_count:,}",
        highlight=False,
    )
    if chosen.removed:
        console.print(f"removed as too similar: {chosen.describe_removed()}", highlight=False)
    if rules.count is not None and summary.count < rules.count:
        below = " that are below the thresholds" if rules.thresholds else ""
        console.print(
            f"{rules.count:,} were asked for; the hub has no more{below}.", highlight=False
        )
    if summary.smallest is not None and summary.median is not None:
        console.print(
            "cosine distance to the nearest one chosen before: "
            f"smallest {summary.smallest:.3f}, median {summary.median:.3f}",
            highlight=False,
        )
    console.print("\nThe first of them:")
    for row in summary.first.iter_rows(named=True):
        console.print(f"  {escape(row['persona'])}", highlight=False)


def _print_next(console: Console, project: Project, name: str) -> None:
    """Print the settings that make a domain draw from the selection, and the next command."""
    settings = project.settings
    rules = settings.selections[name]
    lines = []
    if load_settings().selections.get(name) != rules:  # the rules come from options
        arguments = rules.model_dump(exclude_defaults=True).items()
        lines += [
            f"[selections.{name}]",
            *(f"{key} = {json.dumps(value)}" for key, value in arguments),
        ]
    if name not in settings.persona_sources.values():
        lines += ["[persona_sources]", f'{next(iter(project.domains))} = "{name}"']
    if lines:
        console.print(f"\n[bold]What to type next[/], into {config_file()}, for any domain:")
    for line in lines:
        console.print(f"  {escape(line)}", highlight=False, soft_wrap=True)
    again = f"uv run persona-pipeline run{data_dir_typed(settings)}"
    console.print(
        f"Then  {again}  for every source, as before",
        highlight=False,
        soft_wrap=True,
    )


@click.command()
@click.argument("name")
@click.option("--count", type=click.IntRange(1), help="Most personas to choose.")
@click.option("--thresholds", help="Falling word-set similarities to remove at: 0.7,0.5.")
@click.option(
    "--method",
    type=click.Choice(["farthest", "first"]),
    help="The personas whose embeddings are farthest apart, or the first ones of the hub.",
)
@click.option("--farthest/--no-farthest", default=None, hidden=True)
@click.option("--seed", type=int, help="Draws who is chosen first.  [default: 0]")
@data_dir_option
def select(name: str, data_dir: str | None, *, farthest: bool | None, **arguments: object) -> None:
    """Choose personas as different as possible: a subset of the hub, stored as NAME.

    An option that is not given is read from the setting 'selections' of NAME.
    """
    project = project_from({"data_dir": data_dir})
    if farthest is not None:
        method = "farthest" if farthest else "first"
        tell_renamed("--farthest" if farthest else "--no-farthest", f"--method {method}")
        arguments["method"] = arguments["method"] or method
    if rules := {option: value for option, value in arguments.items() if value is not None}:
        known = project.settings.selections.get(name)
        configured = known.model_dump(exclude_unset=True) if known else {}
        selections = {**project.settings.selections, name: configured | rules}
        project = project_from({"data_dir": data_dir, "selections": selections})
    make_selection(open_console(), project, name)
