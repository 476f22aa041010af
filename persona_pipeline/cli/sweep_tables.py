"""Print a sweep over thresholds as a table, with the pairs that are closest to some of them."""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace

import click
import polars as pl
from rich import box
from rich.console import Console
from rich.table import Table

from persona_pipeline.cli.run_report import outdated_notes
from persona_pipeline.cli.terminal import (
    ONLY_FIRST,
    ONLY_SECOND,
    count_of,
    cut_text,
    mark_pieces,
    plain,
    warn,
)
from persona_pipeline.dedup.rules import TOLERANCE
from persona_pipeline.dedup.table import LAYERS
from persona_pipeline.dedup.words.diff import compare_words
from persona_pipeline.hub.plan import DedupPlan
from persona_pipeline.hub.state import DedupState
from persona_pipeline.hub.sweep import SweepStep


def thresholds_to_show(
    show: str | None, thresholds: Sequence[float], state: DedupState, plan: DedupPlan
) -> set[float]:
    """Return the thresholds whose pairs are printed: those asked for, or else the hub's.

    Raises:
        UsageError: the threshold that is asked for is not in the sweep.
    """
    if show == "all":
        return set(thresholds)
    if show is None:
        hubs = state.thresholds or [plan.thresholds]
        return {min(thresholds, key=lambda at: abs(at - hub.jaccard)) for hub in hubs}
    chosen = {at for at in thresholds if _names(show, at)}
    if not chosen:
        known = ", ".join(f"{at:g}" for at in thresholds)
        msg = f"--show {show!r} is not in the sweep; known: {known}, all"
        raise click.UsageError(msg)
    return chosen


def print_sweep(
    console: Console,
    steps: Sequence[SweepStep],
    shown: AbstractSet[float],
    state: DedupState,
    plan: DedupPlan,
) -> None:
    """Print a row per threshold, and for each of those `shown` the pairs closest to it.

    Args:
        console: the console to print on.
        steps: one step per threshold, from the highest to the lowest.
        shown: the thresholds whose closest pairs are printed, above and below.
        state: the settings that the stored shards were decided with.
        plan: the present settings.
    """
    count = count_of(steps[0].candidates, "persona")
    console.print(f"What each Jaccard threshold would keep of {count}", highlight=False)
    console.print(_table(steps, state, plan))
    if any(step.is_chained for step in steps):
        console.print(
            "~: approximate, decided by words only among what the threshold before it kept; pairs "
            f"are stored from {state.min_jaccard or plan.comparison.min_jaccard:g} on (setting "
            "store_pairs_from).",
            highlight=False,
        )
    for note in outdated_notes(state, plan):
        warn(console, note)
    for step in steps:
        if step.threshold in shown:
            _print_closest(console, step, has_all_pairs=not state.with_few_pairs)
    if len(shown) < len(steps):
        other = next(step.threshold for step in steps if step.threshold not in shown)
        console.print(
            f"\nThe pairs closest to another threshold: --show {other:g}; to each: --show all.",
            highlight=False,
        )


def _table(steps: Sequence[SweepStep], state: DedupState, plan: DedupPlan) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=0, pad_edge=False)
    layers = [name for name in LAYERS if any(getattr(step, name) for step in steps)]
    for name in ("threshold", "kept", "removed", "share", *layers):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for step in steps:
        part = step.removed / step.candidates if step.candidates else 0.0
        of_layers = (f"{getattr(step, name):,}" for name in layers)
        table.add_row(
            f"{'~' if step.is_chained else ''}{step.threshold:g}",
            f"{step.kept:,}",
            f"{step.removed:,}",
            f"{part:.1%}",
            *of_layers,
            _note(step, state, plan),
        )
    return table


def _note(step: SweepStep, state: DedupState, plan: DedupPlan) -> str:
    if replace(plan.thresholds, jaccard=step.threshold) in state.thresholds:
        return "the hub"
    return "next run" if _is_near(plan.thresholds.jaccard, step.threshold) else ""


def _print_closest(console: Console, step: SweepStep, *, has_all_pairs: bool) -> None:
    nobody = "None: nobody is removed."
    if step.removed:
        nobody = "None: those removed have the same words, or are alike in spelling or meaning."
    unknown = "None is known. Pairs that are much less alike are neither stored nor searched."
    if not has_all_pairs:
        unknown = "Not known: there are too many similar pairs to search for them."
    for title, pairs, nothing in (
        ("removed, the least alike", step.closest_removed, nobody),
        ("both kept, the most alike", step.closest_kept, unknown),
    ):
        console.print(f"\n[bold]At {step.threshold:g}: {title}[/]", highlight=False)
        console.print(_pairs(pairs) if len(pairs) else nothing)


def _pairs(pairs: pl.DataFrame) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True, justify="right")
    table.add_column(overflow="fold")
    for row in pairs.iter_rows(named=True):
        differences = compare_words(plain(row["persona"]), plain(row["other_persona"]))
        similarity = f"{row['similarity']:.4f}"
        table.add_row(similarity, cut_text(mark_pieces(differences.first, *ONLY_FIRST)))
        table.add_row("", cut_text(mark_pieces(differences.second, *ONLY_SECOND)))
    return table


def _names(show: str, threshold: float) -> bool:
    try:
        return _is_near(float(show), threshold)
    except ValueError:
        return False


def _is_near(one: float, other: float) -> bool:
    return abs(one - other) < TOLERANCE
