"""Report what a run did.

A baseline is captured when a run begins. The report is read once, when the run ends, and printed.
"""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import polars as pl
from rich import box
from rich.console import Console, JustifyMethod
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table

from persona_pipeline.cli.options import data_dir_typed
from persona_pipeline.cli.terminal import count_of, some_of, warn
from persona_pipeline.corpus.addresses import redact
from persona_pipeline.hub.plan import DedupPlan
from persona_pipeline.hub.selection import changes_since, selected_count
from persona_pipeline.hub.state import DedupState, read_dedup_state
from persona_pipeline.project import Project
from persona_pipeline.settings import Settings
from persona_pipeline.sql import fetch, open_duckdb, read_sql
from persona_pipeline.store.store import Store

SHOWN_RECORDS = 3
UNTYPED = {"documents", "shards", "data_dir", "api_key"}


@dataclass(frozen=True, slots=True)
class Hub:
    """The personas of one shard in the hub."""

    persona_count: int
    members: int
    """Hash of the ids of the personas."""


@dataclass(frozen=True, slots=True)
class RunBaseline:
    """What the tables held when a run of `shards` began."""

    shards: Sequence[str]
    hubs: Mapping[str, Hub]
    """The hub of every shard by name, in the order of deduplication."""
    records: Mapping[str, int]
    """Number of records of the run's shards, by domain."""
    unmade: Sequence[str]
    """Selections that the run's domains draw from and that held no persona."""


@dataclass(frozen=True, slots=True)
class RunReport:
    """What the tables hold after a run of some shards, and what it changed in other shards."""

    funnel: pl.DataFrame
    """One row is one stage: rows in, kept, rejected, duplicate, failed; whether they balance."""
    reasons: pl.DataFrame
    """One row is one reason of one stage, with the number of rows rejected for it."""
    skipped: pl.DataFrame
    """One row is one reason for which records of a web archive hold no page, with their number."""
    records: pl.DataFrame
    """One row is one sampled record, with the personas and the page it comes from."""
    spending: Mapping[str, int | float | None]
    """Calls, tokens and USD of the shards so far, in all runs."""
    new_selections: Sequence[str]
    """A sentence for each selection that the run made."""
    notes: Sequence[str]
    """A sentence for each thing that needs the user's attention."""


def capture_baseline(project: Project, shards: Sequence[str]) -> RunBaseline:
    """Read what a run of these shards may change."""
    store = project.store
    unmade = project.unmade_selections()
    return RunBaseline(shards, _hubs(store), _records(store, shards), unmade)


def read_run_report(project: Project, baseline: RunBaseline) -> RunReport:
    """Read the report of the run that has just ended. Its tables are read from the snapshot."""
    store, shards = project.store, {"shards": list(baseline.shards)}
    with open_duckdb(project.settings.snapshot, read_only=True) as connection:
        sampled = {**shards, "count": SHOWN_RECORDS}
        funnel = fetch(connection, read_sql("cli/funnel_totals"), shards)
        reasons = fetch(connection, read_sql("cli/reasons"), shards)
        skipped = fetch(connection, read_sql("corpus/skipped_by_reason"), shards)
        spending = fetch(connection, read_sql("cli/spending"), shards).row(0, named=True)
        records = fetch(connection, read_sql("cli/sample_records"), sampled)
    plan = project.dedup_plan
    return RunReport(
        funnel=funnel,
        reasons=reasons,
        skipped=skipped,
        records=records,
        spending=spending,
        new_selections=list(_made_selections(store, baseline.unmade)),
        notes=[
            *_changed_hubs(baseline, _hubs(store)),
            *_fewer_records(baseline.records, _records(store, baseline.shards)),
            *_old_selections(project, baseline.shards),
            *left_behind_notes(store),
            *outdated_notes(read_dedup_state(store, plan), plan),
        ],
    )


def may_have_more(report: RunReport, documents: int | None) -> bool:
    """Tell whether the source may have more documents: the run kept as many as were asked for."""
    kept = report.funnel.filter(pl.col("stage") == "corpus")["rows_kept"].sum()
    return documents is not None and kept >= documents


def print_summary(console: Console, report: RunReport, seconds: float) -> None:
    """Print where every row ended, three records with their lineage, and what was spent."""
    console.print(_funnel_table(report.funnel))
    if len(report.reasons):
        console.print(f"[bold]Turned away:[/] {_reasons(report.reasons)}")
    if len(report.skipped):
        counts = ", ".join(f"{reason} {count:,}" for reason, count in report.skipped.iter_rows())
        console.print(f"[bold]Records of the source without a page[/] (corpus.skipped): {counts}")
    _print_records(console, report.records)
    _print_spending(console, report.spending, seconds)


def print_side_effects(console: Console, report: RunReport) -> None:
    """Print a sentence for each thing that the run changed or left undone in other shards."""
    for sentence in report.new_selections:
        console.print(sentence)
    for note in report.notes:
        warn(console, note)


def print_next(
    console: Console, settings: Settings, arguments: Mapping[str, object], *, has_more: bool
) -> None:
    """Print the commands that a user may run next, and where the results are.

    Args:
        console: the console to print on.
        settings: the settings of the run.
        arguments: the options that the run was given, by name.
        has_more: whether the source may have more documents than the run took.
    """
    snapshot = _shown(settings.snapshot)
    console.print("\n[bold]What to type next[/]")
    elsewhere = data_dir_typed(settings)
    commands = [
        (f"uv run persona-pipeline sql{elsewhere}", "a SQL shell on the results"),
        (
            f'uv run persona-pipeline sql "from marts.lineage limit 5"{elsewhere}',
            "every record's way back",
        ),
    ]
    typed = _as_options(arguments)
    if has_more and settings.documents is not None and typed is not None:
        more = f"{typed} --documents {2 * settings.documents}{elsewhere}"
        commands.append((f"uv run persona-pipeline run{more}", "more; no answer is bought twice"))
    if not elsewhere:
        commands.insert(2, ("uv run dagster dev", "the asset graph, at http://localhost:3000"))
    for command, meaning in commands:
        line = f"  {escape(command)}  [dim]# {meaning}[/]"
        console.print(line, highlight=False, soft_wrap=True)
    console.print(
        f"Results: {snapshot} (a read-only copy of {_shown(settings.database)})",
        highlight=False,
        soft_wrap=True,
    )


def _funnel_table(funnel: pl.DataFrame) -> Table:
    table = Table(
        title="What went in, and where every row ended",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    for name in ("stage", "in", "kept", "rejected", "duplicate", "failed", "ok"):
        justify: JustifyMethod = "left" if name == "stage" else "right"
        table.add_column(name, justify=justify, no_wrap=True)
    for row in funnel.iter_rows(named=True):
        counts = [
            f"{row[name]:,}"
            for name in ("rows_in", "rows_kept", "rows_rejected", "rows_duplicate", "rows_failed")
        ]
        balanced = "[green]yes[/]" if row["is_balanced"] else "[red]NO[/]"
        table.add_row(row["stage"], *counts, balanced)
    return table


def _reasons(reasons: pl.DataFrame) -> str:
    return ", ".join(
        f"{row['stage']}: {row['reason']} {row['rows']}" for row in reasons.iter_rows(named=True)
    )


def _print_records(console: Console, records: pl.DataFrame) -> None:
    for row in records.iter_rows(named=True):
        way = [f"[cyan]{escape(row['url'] or 'no page')}[/]"]
        way += [f"[dim]{escape(persona)}[/]" for persona in row["persona_path"] or []]
        lineage = "\n  -> ".join(way)
        body = f"{escape(row['text'])}\n\n[bold]from[/] {lineage}"
        console.print(Panel(body, title=f"synthetic.{row['domain']}", title_align="left"))


def _print_spending(
    console: Console, row: Mapping[str, int | float | None], seconds: float
) -> None:
    cost = "price unknown" if row["cost_usd"] is None else f"{row['cost_usd']:.4f} USD"
    console.print(
        f"{count_of(int(row['calls'] or 0), 'call')} for these shards in all runs "
        f"({row['tokens_in']:,} tokens in, {row['tokens_out']:,} out, {cost}); "
        f"this run took {seconds:.0f} s.",
        highlight=False,
    )


def _as_options(arguments: Mapping[str, object]) -> str | None:
    """Return the options of a run as they were typed, without those of its extent.

    None means that an option may hold a secret.
    """
    typed = {
        name: value
        for name, value in arguments.items()
        if value is not None and name not in UNTYPED
    }
    if any(redact(str(value)) != str(value) for value in typed.values()):
        return None
    return "".join(
        f" --{name.replace('_', '-')}" + ("" if value is True else f" {shlex.quote(str(value))}")
        for name, value in typed.items()
    )


def _shown(path: Path) -> str:
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


def _made_selections(store: Store, names: Sequence[str]) -> Iterator[str]:
    for name in names:
        if count := selected_count(store, name):
            yield f"Selection {name!r} was made: {count_of(count, 'persona')} of the hub."


def _hubs(store: Store) -> dict[str, Hub]:
    rows = store.query(read_sql("personas/hub_sizes")).iter_rows()
    return {shard: Hub(count, members) for shard, count, members in rows}


RECORD_COUNTS_SQL: Final = """
-- One row per domain: how many records it has of these shards.
-- reads: synthetic.records   params: $shards
select domain, count(*) as record_count
from synthetic.records
where shard in (select unnest($shards))
group by domain
order by domain
"""


def _records(store: Store, shards: Sequence[str]) -> dict[str, int]:
    return dict(store.query(RECORD_COUNTS_SQL, {"shards": list(shards)}).iter_rows())


def _changed_hubs(before: RunBaseline, now: Mapping[str, Hub]) -> Iterator[str]:
    changed = []
    for shard, was in before.hubs.items():  # leaves out shards that another run added meanwhile
        hub = now.get(shard, Hub(0, 0))
        if shard not in before.shards and hub != was:
            same = hub.persona_count == was.persona_count
            change = "as many, others" if same else f"was {was.persona_count:,}"
            changed.append(f"{shard} {hub.persona_count:,} ({change})")
    if changed:
        yield (
            "All shards are deduplicated together, and the hub of others has changed, too: "
            f"personas of {some_of(changed)}."
        )


def _fewer_records(before: Mapping[str, int], now: Mapping[str, int]) -> Iterator[str]:
    fewer = [
        f"{domain} {now.get(domain, 0):,} (was {count:,})"
        for domain, count in before.items()
        if now.get(domain, 0) < count
    ]
    if fewer:
        yield (
            f"Fewer records of these shards than before: {some_of(fewer)}. What was bought stays: "
            "a run that asks for them again pays for none."
        )


def left_behind_notes(store: Store) -> Iterator[str]:
    """Say how many records have a persona that has left the hub or its domain's selection."""
    behind = store.query(read_sql("examples/shards_behind"))
    counts = behind.select("shard", "records_without_persona").iter_rows()
    if listed := [f"{count:,} of {shard}" for shard, count in counts if count]:
        yield (
            "Records of personas that are not in the hub, or in their domain's selection, any "
            f"more: {some_of(listed)}. Run these shards again, in all their domains, and others "
            "take their place; 'persona-pipeline sql --example shards_behind' lists what is to be "
            "run again."
        )


def _old_selections(project: Project, shards: Sequence[str]) -> Iterator[str]:
    settings = project.settings
    for name, domains in settings.drawn_selections().items():
        since = changes_since(project.store, name, settings.selections[name])
        changed = [shard for shard in since.shards if shard in shards]
        if since.has_other_rules or changed:
            than = [f"from another hub of {some_of(changed)} than there is now"] if changed else []
            than += ["by other rules than those of now"] if since.has_other_rules else []
            yield (
                f"Selection {name!r} ({', '.join(domains)}) was made {', and '.join(than)}, and "
                f"stays as it is. 'persona-pipeline select {name}' makes it again; then run again."
            )


def outdated_notes(state: DedupState, plan: DedupPlan) -> Iterator[str]:
    """Name the shards whose pairs, duplicates or vectors are not made with the present settings."""
    if shards := some_of(state.uncompared):
        yield (
            f"Not compared yet with the settings of now: {shards}. Run 'persona-pipeline run', or "
            "materialize personas/pairs."
        )
    if shards := some_of(state.with_few_pairs):
        yield (
            f"Too many similar pairs for a dedup_memory of {plan.resources.memory_bytes / 1e9:g} "
            f"GB: {shards}. Most come from a few templates. What is kept is the same; stored are "
            "only the pairs of a removed persona and its keeper, so 'dedup explain' names no other "
            "neighbours, and 'dedup sweep' compares all personas again for each threshold."
        )
    if shards := some_of(state.undecided):
        yield (
            f"Decided {_otherwise(state, plan)}: {shards}. The next run, of any shard, decides "
            "them again."
        )
    if shards := some_of(state.without_vectors):
        yield (
            f"Without vectors of {plan.embedding_model}, and so not compared by meaning: {shards}. "
            "Run these shards again, or materialize personas/embeddings for them."
        )


def _otherwise(state: DedupState, plan: DedupPlan) -> str:
    """Say in which thresholds the shards' decisions differ from the settings."""
    changed = [
        f"{name}_threshold {_threshold(getattr(former, name))} "
        f"(now {_threshold(getattr(plan.thresholds, name))})"
        for former in state.thresholds
        for name in ("jaccard", "cosine", "fuzzy")
        if getattr(former, name) != getattr(plan.thresholds, name)
    ]
    return f"with {', '.join(changed) or 'other pairs than there are now'}"


def _threshold(threshold: float | None) -> str:
    return "none" if threshold is None else f"{threshold:g}"
