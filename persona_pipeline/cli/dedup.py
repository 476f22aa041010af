"""Why a persona was kept or removed, and what another threshold would do: from the snapshot."""

from collections.abc import Iterator
from contextlib import contextmanager

import click
import duckdb
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from persona_pipeline.cli.options import data_dir_option, settings_from
from persona_pipeline.cli.snapshots import newest_snapshot
from persona_pipeline.dedup.rules import TOLERANCE
from persona_pipeline.errors import PipelineError
from persona_pipeline.personas.comparison import DedupPlan, dedup_plan
from persona_pipeline.personas.differences import Differences, Piece, compare_words
from persona_pipeline.personas.explaining import Explanation, Neighbour, Origin, Removal, explain
from persona_pipeline.personas.sweep import (
    FIRST,
    LAST,
    STEP,
    SweepStep,
    sweep,
    sweep_thresholds,
    uncompared_shards,
)
from persona_pipeline.settings import Settings
from persona_pipeline.store import Store

SHOWN = 5
ID_SHOWN = 12
LONGEST = 240
"""Characters of a text in a list."""
ONLY_FIRST, ONLY_SECOND = ("[-", "-]", "bold red"), ("{+", "+}", "bold green")
"""What stands around the words that only the first, or the second, of two texts has."""
MEASURES = {"surface": "Jaccard similarity", "semantic": "cosine"}

share = click.FloatRange(0.1, 1)


@click.group()
def dedup() -> None:
    """Say why a persona was removed, or try other thresholds. Reads the published snapshot."""


@dedup.command(name="explain")
@click.argument("persona_id")
@data_dir_option
def explain_persona(persona_id: str, data_dir: str | None) -> None:
    """Show why PERSONA_ID (or how it begins) was kept or removed, and who is like it."""
    settings = settings_from({"data_dir": data_dir})
    with _snapshot(settings) as store:
        explanation = explain(store, persona_id)
    _print_explanation(Console(), explanation, dedup_plan(settings))


@dedup.command(name="sweep")
@data_dir_option
@click.option("--from", "first", type=share, default=FIRST, show_default=True)
@click.option("--to", "last", type=share, default=LAST, show_default=True)
@click.option("--step", type=click.FloatRange(0.005, 1), default=STEP, show_default=True)
@click.option("--show", help="Pairs closest to this threshold, or 'all'.")
def sweep_thresholds_down(
    data_dir: str | None, first: float, last: float, step: float, show: str | None
) -> None:
    """Show what each Jaccard threshold would keep, and the pairs closest to it on either side."""
    settings = settings_from({"data_dir": data_dir})
    plan = dedup_plan(settings)
    thresholds = sweep_thresholds(first, last, step)
    shown = _shown(show, thresholds, plan.thresholds.jaccard)
    with _snapshot(settings) as store:
        left = uncompared_shards(store, plan)
        steps = sweep(store, plan, thresholds)
    console = Console()
    console.print(_sweep_table(steps, plan))
    _print_footnotes(console, steps, left, plan)
    for found in steps:
        if found.threshold in shown:
            _print_pairs(console, found)


@contextmanager
def _snapshot(settings: Settings) -> Iterator[Store]:
    """The published snapshot: reading it blocks no run."""
    path = newest_snapshot(settings)
    try:
        yield Store(path, path)
    except duckdb.CatalogException as error:
        msg = f"{path} was written by an older version: run 'persona-pipeline run' once more"
        raise PipelineError(msg) from error


def _print_explanation(console: Console, explanation: Explanation, plan: DedupPlan) -> None:
    persona, removal = explanation.persona, explanation.removal
    if removal is None:
        state = "kept" if explanation.is_decided else "not deduplicated yet"
        console.print(_sides([(state, persona, Text(_plain(persona.persona)))]))
    elif removal.keeper is None:
        console.print(_sides([("removed", persona, Text(_plain(persona.persona)))]))
        console.print(f"Its keeper {removal.kept_id} is gone: run 'persona-pipeline run' again.")
    else:
        _print_removal(console, persona, removal.keeper, removal)
    if explanation.removed:
        count = len(explanation.removed)
        listed = f", of which the least similar {SHOWN}" if count > SHOWN else ""
        console.print(f"\n[bold]Removed because of it: {count:,}{listed}[/]", highlight=False)
        console.print(_neighbours(explanation.removed[:SHOWN]))
    _print_others(console, explanation, plan)


def _print_removal(console: Console, persona: Origin, keeper: Origin, removal: Removal) -> None:
    found = compare_words(_plain(persona.persona), _plain(keeper.persona))
    console.print(
        _sides(
            [
                ("removed", persona, _marked(found.first, *ONLY_FIRST)),
                ("keeper", keeper, _marked(found.second, *ONLY_SECOND)),
            ]
        )
    )
    console.print(f"[bold]{_reason(removal)}[/]", highlight=False)
    console.print(_in_words(found), highlight=False)


def _print_others(console: Console, explanation: Explanation, plan: DedupPlan) -> None:
    others = explanation.neighbours
    if others:
        listed = f", of which the most similar {SHOWN}" if len(others) > SHOWN else ""
        console.print(f"\n[bold]Others like it: {len(others):,}{listed}[/]", highlight=False)
        console.print(_neighbours(others[:SHOWN]))
        return
    cosine = plan.comparison.min_cosine
    semantic = "" if cosine is None else f", and from a cosine of {cosine:g} on"
    console.print(
        f"\nNo{' other' if explanation.removal or explanation.removed else ''} persona is known "
        f"to be like it. Pairs are kept from a Jaccard similarity of "
        f"{plan.comparison.min_jaccard:g} on (setting pairs_from){semantic}.",
        highlight=False,
    )


def _sides(sides: list[tuple[str, Origin, Text]]) -> Table:
    """Of each persona: its text, and beneath it where it comes from."""
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    for name, persona, text in sides:
        table.add_row(name, text)
        page = _plain(persona.url or persona.title or "no page")
        where = Text(f"{persona.persona_id}\n{persona.shard}, {persona.origin}\n{page}", "dim")
        table.add_row("", where)
    return table


def _reason(removal: Removal) -> str:
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
    return f"Layer {removal.layer}: {measure} {removal.similarity:.4f}, {limit}{score}."


def _in_words(found: Differences) -> str:
    total = found.shared_count + found.first_count + found.second_count
    jaccard = f" of {total} = {found.shared_count / total:.4f}" if total else ""
    return (
        f"Distinct words: {found.shared_count} in both{jaccard}; only in the removed one, marked "
        f"\\[-so-]: {found.first_count}; only in the keeper, {{+so+}}: {found.second_count}."
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
        state = "kept" if other.kept_id is None else "removed"
        text = Text(_short(other.persona))
        text.append(f" ({other.persona_id[:ID_SHOWN]})", "dim")
        table.add_row(*(values[place] for values in columns.values()), state, text)
    return table


def _shown(show: str | None, thresholds: list[float], configured: float) -> set[float]:
    """The thresholds whose pairs are printed."""
    if show == "all":
        return set(thresholds)
    if show is None:
        nearest = min(thresholds, key=lambda at: abs(at - configured))
        place = thresholds.index(nearest)
        return set(thresholds[place : place + 2])
    chosen = [at for at in thresholds if _names(show, at)]
    if not chosen:
        known = ", ".join(f"{at:g}" for at in thresholds)
        msg = f"--show {show!r} is not in the sweep; known: {known}, all"
        raise click.UsageError(msg)
    return set(chosen)


def _sweep_table(steps: list[SweepStep], plan: DedupPlan) -> Table:
    table = Table(
        title="What each Jaccard threshold would keep",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    for name in ("threshold", "candidates", "kept", "removed", "share"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for step in steps:
        counts = [f"{count:,}" for count in (step.candidates, step.kept, step.removed)]
        part = step.removed / step.candidates if step.candidates else 0.0
        notes = ["chained"] if step.is_chained else []
        if _is_near(plan.thresholds.jaccard, step.threshold):
            notes.append("<- jaccard_threshold")
        table.add_row(f"{step.threshold:g}", *counts, f"{part:.1%}", " ".join(notes))
    return table


def _print_footnotes(
    console: Console, steps: list[SweepStep], left: list[str], plan: DedupPlan
) -> None:
    if any(step.is_chained for step in steps):
        console.print(
            "chained: decided among what the threshold before it kept, in the surface layer only; "
            f"pairs are stored from {plan.comparison.min_jaccard:g} on (setting pairs_from)."
        )
    if left:
        console.print(
            f"[yellow]Not compared yet with these settings: {escape(', '.join(left))}. Run "
            "'persona-pipeline run', or materialize personas/pairs.[/]"
        )


def _print_pairs(console: Console, step: SweepStep) -> None:
    sides = (
        (f"At {step.threshold:g}: removed, closest above", step.closest_removed, "none"),
        (f"At {step.threshold:g}: both kept, closest below", step.closest_kept, "none known"),
    )
    for title, pairs, nothing in sides:
        console.print(f"\n[bold]{title}[/]", highlight=False)
        table = Table.grid(padding=(0, 2))
        table.add_column(no_wrap=True, justify="right")
        table.add_column(overflow="fold")
        for row in pairs.iter_rows(named=True):
            found = compare_words(_plain(row["persona"]), _plain(row["other_persona"]))
            table.add_row(f"{row['similarity']:.4f}", _cut(_marked(found.first, *ONLY_FIRST)))
            table.add_row("", _cut(_marked(found.second, *ONLY_SECOND)))
        console.print(table if len(pairs) else nothing)


def _marked(pieces: list[Piece], before: str, after: str, style: str) -> Text:
    """The text with what differs between marks, which are there without colour too."""
    text = Text()
    for piece in pieces:
        if piece.is_different:
            text.append(f"{before}{piece.text}{after}", style)
        else:
            text.append(piece.text)
    return text


def _cut(text: Text) -> Text:
    text.truncate(LONGEST, overflow="ellipsis")
    return text


def _short(text: str) -> str:
    plain = _plain(text)
    return plain if len(plain) <= LONGEST else f"{plain[: LONGEST - 1]}…"


def _plain(text: str) -> str:
    """Without what would move the cursor: a model wrote it."""
    return "".join(sign if sign.isprintable() else " " for sign in text)


def _names(show: str, threshold: float) -> bool:
    try:
        return _is_near(float(show), threshold)
    except ValueError:
        return False


def _is_near(one: float, other: float) -> bool:
    return abs(one - other) < TOLERANCE


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"
