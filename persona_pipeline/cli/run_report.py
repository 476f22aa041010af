"""The end of a run: what is in the tables, three records with lineage, and what is next."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl
from rich import box
from rich.console import Console, JustifyMethod
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table

from persona_pipeline.cli.options import data_dir_typed
from persona_pipeline.cli.sweep_tables import print_outdated
from persona_pipeline.cli.terminal import count_of, some_of, warn
from persona_pipeline.corpus.addresses import redact
from persona_pipeline.hub.selection import changes_since, selected_count
from persona_pipeline.hub.state import read_dedup_state
from persona_pipeline.project import dedup_plan, unmade_selections
from persona_pipeline.settings import Settings
from persona_pipeline.sql import open_duckdb, read_sql
from persona_pipeline.store.store import Store

SHOWN_RECORDS = 3
UNTYPED = {"documents", "shards", "data_dir", "api_key"}


def print_summary(
    console: Console, settings: Settings, shards: Sequence[str], seconds: float
) -> None:
    """Read everything from the published snapshot, as a user would."""
    with open_duckdb(settings.snapshot, read_only=True) as connection:
        funnel = connection.sql(read_sql("cli/funnel_totals"), params={"shards": shards}).pl()
        reasons = connection.sql(read_sql("cli/reasons"), params={"shards": shards}).pl()
        spending = connection.sql(read_sql("cli/spending"), params={"shards": shards}).pl()
        records = connection.sql(
            read_sql("cli/sample_records"), params={"shards": shards, "count": SHOWN_RECORDS}
        ).pl()
    console.print(_funnel_table(funnel))
    if len(reasons):
        console.print(f"[bold]Turned away:[/] {_reasons(reasons)}")
    _print_records(console, records)
    _print_spending(console, spending, seconds)


def print_next(console: Console, settings: Settings, arguments: Mapping[str, object]) -> None:
    """What one would type now, and where the results are; `arguments`: the options of the run."""
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
    if settings.documents is not None and typed is not None:
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


def _print_spending(console: Console, spending: pl.DataFrame, seconds: float) -> None:
    row = spending.row(0, named=True)
    cost = "price unknown" if row["cost_usd"] is None else f"{row['cost_usd']:.4f} USD"
    console.print(
        f"{count_of(row['calls'], 'call')} for these shards so far "
        f"({row['tokens_in']:,} tokens in, {row['tokens_out']:,} out, {cost}); "
        f"this run took {seconds:.0f} s.",
        highlight=False,
    )


def _as_options(arguments: Mapping[str, object]) -> str | None:
    """The options of a run as they were typed, but for its extent; None: one may hold a secret."""
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


@dataclass(frozen=True, slots=True)
class Hub:
    """A shard's personas in the hub."""

    persona_count: int
    members: int
    """A hash of which ones they are."""


@dataclass(frozen=True, slots=True)
class RunBaseline:
    """What was there when a run of `shards` began."""

    shards: Sequence[str]
    hubs: Mapping[str, Hub]
    """Of every shard, in rank order."""
    records: Mapping[str, int]
    """Of the run's shards, by domain."""
    unmade: Sequence[str]
    """Selections that its domains draw from and that had nobody."""


def capture_baseline(store: Store, settings: Settings, shards: Sequence[str]) -> RunBaseline:
    """What a run of these shards may change."""
    return RunBaseline(
        shards, _hubs(store), _records(store, shards), unmade_selections(store, settings)
    )


def print_side_effects(
    console: Console, store: Store, settings: Settings, before: RunBaseline
) -> None:
    """A line for each that a user would want to know."""
    for name in before.unmade:
        if result := selected_count(store, name):
            console.print(f"Selection {name!r} was made: {count_of(result, 'persona')} of the hub.")
    for line in (
        *_changed_hubs(before, _hubs(store)),
        *_fewer_records(before.records, _records(store, before.shards)),
        *_old_selections(store, settings, before.shards),
    ):
        warn(console, line)
    print_left_behind(console, store)
    plan = dedup_plan(settings)
    print_outdated(console, read_dedup_state(store, plan), plan)


def _hubs(store: Store) -> dict[str, Hub]:
    rows = store.query(read_sql("personas/hub_sizes")).iter_rows()
    return {shard: Hub(count, members) for shard, count, members in rows}


def _records(store: Store, shards: Sequence[str]) -> dict[str, int]:
    return dict(store.query(read_sql("cli/record_counts"), {"shards": list(shards)}).iter_rows())


def _changed_hubs(before: RunBaseline, now: Mapping[str, Hub]) -> Iterator[str]:
    changed = []
    for shard, was in before.hubs.items():  # not those that another run has added meanwhile
        hub = now.get(shard, Hub(0, 0))
        if shard not in before.shards and hub != was:
            same = hub.persona_count == was.persona_count
            messages = "as many, others" if same else f"was {was.persona_count:,}"
            changed.append(f"{shard} {hub.persona_count:,} ({messages})")
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


def print_left_behind(console: Console, store: Store) -> None:
    """How many records are of personas that are not, or no longer chosen, in the hub."""
    behind = store.query(read_sql("examples/shards_behind"))
    counts = behind.select("shard", "records_without_persona").iter_rows()
    if listed := [f"{count:,} of {shard}" for shard, count in counts if count]:
        warn(
            console,
            "Records of personas that are not in the hub, or in their domain's selection, any "
            f"more: {some_of(listed)}. Run these shards again, in all their domains, and others "
            "take their place; 'persona-pipeline sql --example shards_behind' lists what is to be "
            "run again.",
        )


def _old_selections(store: Store, settings: Settings, shards: Sequence[str]) -> Iterator[str]:
    for name, domains in settings.drawn_selections().items():
        since = changes_since(store, name, settings.selections[name])
        changed = [shard for shard in since.shards if shard in shards]
        if since.has_other_rules or changed:
            than = [f"from another hub of {some_of(changed)} than there is now"] if changed else []
            than += ["by other rules than those of now"] if since.has_other_rules else []
            yield (
                f"Selection {name!r} ({', '.join(domains)}) was made {', and '.join(than)}, and "
                f"stays as it is. 'persona-pipeline select {name}' makes it again; then run again."
            )
