"""Show why a persona was kept or removed, and what another threshold would do.

The commands read the published snapshot only.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import click
import duckdb
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from persona_pipeline.cli.options import data_dir_option, project_from
from persona_pipeline.cli.run_report import outdated_notes
from persona_pipeline.cli.sweep_tables import print_sweep, thresholds_to_show
from persona_pipeline.cli.terminal import (
    ONLY_FIRST,
    ONLY_SECOND,
    cut_text,
    mark_pieces,
    open_console,
    plain,
    warn,
)
from persona_pipeline.dedup.rules import TOLERANCE
from persona_pipeline.dedup.words.diff import Differences, compare_words
from persona_pipeline.errors import PipelineError
from persona_pipeline.hub.explain import (
    Neighbour,
    Origin,
    PersonaExplanation,
    PersonaRemoval,
    explain,
)
from persona_pipeline.hub.state import DedupState, read_dedup_state
from persona_pipeline.hub.sweep import FIRST, LAST, STEP, sweep, sweep_thresholds
from persona_pipeline.project import Project
from persona_pipeline.store.store import Store

SHOWN = 5
ID_SHOWN = 12
MEASURES = {"jaccard": "Jaccard similarity", "semantic": "cosine"}

share = click.FloatRange(0.1, 1)


@click.group()
def dedup() -> None:
    """Say why a persona was removed, or try other thresholds, on the published snapshot."""


@dedup.command(name="explain")
@click.argument("persona_id")
@data_dir_option
def explain_persona(persona_id: str, data_dir: str | None) -> None:
    """Show why PERSONA_ID (or its first characters) was kept or removed, and who is like it."""
    project = project_from({"data_dir": data_dir})
    plan, console = project.dedup_plan, open_console()
    with _snapshot(project) as store:
        explanation = explain(store, persona_id)
        state = read_dedup_state(store, plan)
    _print_explanation(console, explanation, state)
    for note in outdated_notes(state, plan):
        warn(console, note)


@dedup.command(name="sweep")
@data_dir_option
@click.option(
    "--from", "first", type=share, default=FIRST, show_default=True, help="The first threshold."
)
@click.option(
    "--to", "last", type=share, default=LAST, show_default=True, help="The last threshold."
)
@click.option(
    "--step",
    type=click.FloatRange(0.005, 1),
    default=STEP,
    show_default=True,
    help="Distance between two thresholds.",
)
@click.option(
    "--show",
    help="Print the pairs closest to this threshold, or to 'all'.  [default: the hub's]",
)
def sweep_thresholds_down(
    data_dir: str | None, first: float, last: float, step: float, show: str | None
) -> None:
    """Show what each Jaccard threshold would keep, and the pairs closest to it on either side."""
    project = project_from({"data_dir": data_dir})
    plan = project.dedup_plan
    with _snapshot(project) as store:
        state = read_dedup_state(store, plan)
        named = [plan.thresholds, *state.thresholds]  # the table always shows these
        own = {each.jaccard for each in named if last <= each.jaccard <= first}
        thresholds = sorted({*sweep_thresholds(first, last, step), *own}, reverse=True)
        shown = thresholds_to_show(show, thresholds, state, plan)
        steps = sweep(store, plan, thresholds)
    print_sweep(open_console(), steps, shown, state, plan)


@contextmanager
def _snapshot(project: Project) -> Iterator[Store]:
    """Yield the published snapshot. Reading it blocks no run.

    Raises:
        PipelineError: there is no snapshot, or an older version wrote it.
    """
    path = project.newest_snapshot()
    older = f"{path} was written by an older version: run 'persona-pipeline run' once more"
    if not project.published.is_current():
        raise PipelineError(older)
    try:
        yield project.published
    except (duckdb.CatalogException, duckdb.BinderException) as error:
        raise PipelineError(older) from error


def _print_explanation(
    console: Console, explanation: PersonaExplanation, state: DedupState
) -> None:
    persona, removal = explanation.persona, explanation.removal
    if removal is None:
        verdict = "kept" if explanation.is_decided else "not deduplicated yet"
        console.print(_sides([(verdict, persona, Text(plain(persona.persona)))]))
    elif removal.keeper is None:
        console.print(_sides([("removed", persona, Text(plain(persona.persona)))]))
        console.print(f"Its keeper {removal.kept_id} is gone: run 'persona-pipeline run' again.")
    else:
        _print_removal(console, persona, removal.keeper, removal)
    if explanation.removed:
        count = len(explanation.removed)
        listed = f", of which the least similar {SHOWN}" if count > SHOWN else ""
        console.print(f"\n[bold]Removed because of it: {count:,}{listed}[/]", highlight=False)
        console.print(_neighbours(explanation.removed[:SHOWN]))
    _print_others(console, explanation, state)


def _print_removal(
    console: Console, persona: Origin, keeper: Origin, removal: PersonaRemoval
) -> None:
    differences = compare_words(plain(persona.persona), plain(keeper.persona))
    console.print(
        _sides(
            [
                ("removed", persona, mark_pieces(differences.first, *ONLY_FIRST)),
                ("keeper", keeper, mark_pieces(differences.second, *ONLY_SECOND)),
            ]
        )
    )
    console.print(f"[bold]{_reason(removal, differences)}[/]", highlight=False)
    if removal.layer != "exact":  # otherwise all words are the same
        console.print(_in_words(differences), highlight=False)


def _print_others(console: Console, explanation: PersonaExplanation, state: DedupState) -> None:
    others = explanation.neighbours
    if others:
        listed = f", of which the most similar {SHOWN}" if len(others) > SHOWN else ""
        console.print(f"\n[bold]Others like it: {len(others):,}{listed}[/]", highlight=False)
        console.print(_neighbours(others[:SHOWN]))
        return
    other = " other" if explanation.removal or explanation.removed else ""
    sentence = f"\nNo{other} persona is known to be like it."
    if state.min_jaccard is not None:
        sentence += f" Pairs are stored from a Jaccard similarity of {state.min_jaccard:g} on"
        cosine = state.min_cosine
        sentence += "." if cosine is None else f", and from a cosine of {cosine:g} on."
    console.print(sentence, highlight=False)


def _sides(sides: list[tuple[str, Origin, Text]]) -> Table:
    """Build a table with each persona's text and, below it, where the persona comes from."""
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    for name, persona, text in sides:
        table.add_row(name, text)
        page = plain(persona.url or persona.title or "no page")
        where = Text(f"{persona.persona_id}\n{persona.shard}, {persona.origin}\n{page}", "dim")
        table.add_row("", where)
    return table


def _reason(removal: PersonaRemoval, differences: Differences) -> str:
    limit = f"threshold {removal.threshold:g}"
    if removal.layer == "exact":
        return "Layer exact: the same words in the same order."
    if removal.layer == "fuzzy":
        return (
            f"Layer fuzzy: score {removal.fuzzy_score:.1f}, {limit} "
            f"(Jaccard similarity {removal.similarity:.4f})."
        )
    score = "" if removal.fuzzy_score is None else f" (fuzzy score {removal.fuzzy_score:.1f})"
    measure = MEASURES[removal.layer]
    if removal.layer == "jaccard" and abs(removal.similarity - differences.jaccard) > TOLERANCE:
        measure = "estimated Jaccard similarity"  # minhash128
    return f"Layer {removal.layer}: {measure} {removal.similarity:.4f}, {limit}{score}."


def _in_words(differences: Differences) -> str:
    return (
        f"Distinct words: {differences.shared_count} in both of {differences.total_count} = "
        f"{differences.jaccard:.4f}; only in the removed one, marked "
        f"\\[-so-]: {differences.first_count}; "
        f"only in the keeper, {{+so+}}: {differences.second_count}."
    )


def _neighbours(others: list[Neighbour]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    columns = {
        "Jaccard": ["exact" if other.is_exact else _number(other.jaccard, 4) for other in others],
        "fuzzy": [_number(other.fuzzy_score, 1) for other in others],
        "cosine": [_number(other.cosine, 4) for other in others],
    }
    columns = {name: values for name, values in columns.items() if any(values)}
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("persona", overflow="fold")
    for place, other in enumerate(others):
        verdict = "kept" if other.kept_id is None else "removed"
        text = cut_text(Text(plain(other.persona)))
        text.append(f" ({other.persona_id[:ID_SHOWN]})", "dim")
        table.add_row(*(values[place] for values in columns.values()), verdict, text)
    return table


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"
