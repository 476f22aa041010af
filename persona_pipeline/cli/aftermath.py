"""What a run has changed beyond what was asked for, and what it left undone: nothing, mostly."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console

from persona_pipeline.cli.sweeping import print_outdated
from persona_pipeline.cli.texts import count_of, some_of, warn
from persona_pipeline.personas.applied import read_applied
from persona_pipeline.personas.comparison import dedup_plan
from persona_pipeline.personas.selection import changes_since
from persona_pipeline.settings import Settings
from persona_pipeline.sql_files import read_sql
from persona_pipeline.store import Store
from persona_pipeline.synthesis import selected_count, unmade_selections


@dataclass(frozen=True, slots=True)
class Hub:
    """A shard's personas in the hub."""

    persona_count: int
    members: int
    """A hash of which ones they are."""


@dataclass(frozen=True, slots=True)
class Before:
    """What was there when a run of `shards` began."""

    shards: Sequence[str]
    hubs: Mapping[str, Hub]
    """Of every shard, in line."""
    records: Mapping[str, int]
    """Of the run's shards, by domain."""
    unmade: Sequence[str]
    """Selections that its domains draw from and that had nobody."""


def look_before(store: Store, settings: Settings, shards: Sequence[str]) -> Before:
    """What a run of these shards may change."""
    return Before(shards, _hubs(store), _records(store, shards), unmade_selections(store, settings))


def print_aftermath(console: Console, store: Store, settings: Settings, before: Before) -> None:
    """A line for each that a user would want to know."""
    for name in before.unmade:
        if made := selected_count(store, name):
            console.print(f"Selection {name!r} was made: {count_of(made, 'persona')} of the hub.")
    for line in (
        *_changed_hubs(before, _hubs(store)),
        *_fewer_records(before.records, _records(store, before.shards)),
        *_old_selections(store, settings, before.shards),
    ):
        warn(console, line)
    print_left_behind(console, store)
    plan = dedup_plan(settings)
    print_outdated(console, read_applied(store, plan), plan)


def _hubs(store: Store) -> dict[str, Hub]:
    rows = store.query(read_sql("personas/hub_sizes")).iter_rows()
    return {shard: Hub(count, members) for shard, count, members in rows}


def _records(store: Store, shards: Sequence[str]) -> dict[str, int]:
    return dict(store.query(read_sql("cli/record_counts"), {"shards": list(shards)}).iter_rows())


def _changed_hubs(before: Before, now: Mapping[str, Hub]) -> Iterator[str]:
    changed = []
    for shard, was in before.hubs.items():  # not those that another run has added meanwhile
        hub = now.get(shard, Hub(0, 0))
        if shard not in before.shards and hub != was:
            same = hub.persona_count == was.persona_count
            told = "as many, others" if same else f"was {was.persona_count:,}"
            changed.append(f"{shard} {hub.persona_count:,} ({told})")
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
