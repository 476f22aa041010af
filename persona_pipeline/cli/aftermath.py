"""What a run has changed beyond its own shards, and what it left undone: nothing, mostly."""

from collections.abc import Iterator, Mapping, Sequence

from rich.console import Console
from rich.markup import escape

from persona_pipeline.cli.texts import some_of
from persona_pipeline.personas.selection import shards_changed_since
from persona_pipeline.settings import Settings
from persona_pipeline.sql_files import read_sql
from persona_pipeline.store import Store


def hub_sizes(store: Store) -> dict[str, int]:
    """Of every shard, in line, how many of its personas are in the hub."""
    return dict(store.query(read_sql("personas/hub_sizes")).iter_rows())


def print_aftermath(
    console: Console,
    store: Store,
    settings: Settings,
    shards: Sequence[str],
    before: Mapping[str, int],
) -> None:
    """`before`: the hub's sizes when the run of `shards` began."""
    for line in (
        *_changed_hubs(shards, before, hub_sizes(store)),
        *_records_without_persona(store),
        *_changed_since_selection(store, settings, shards),
    ):
        console.print(f"[yellow]{escape(line)}[/]", highlight=False)


def _changed_hubs(
    shards: Sequence[str], before: Mapping[str, int], now: Mapping[str, int]
) -> Iterator[str]:
    changed = [
        f"{shard} {now.get(shard, 0):,} (was {count:,})"
        for shard, count in before.items()  # not those that another run has added meanwhile
        if shard not in shards and now.get(shard) != count
    ]
    if changed:
        yield (
            "All shards are deduplicated together, and the hub of others has changed, too: "
            f"personas of {some_of(changed)}."
        )


def _records_without_persona(store: Store) -> Iterator[str]:
    outdated = store.query(read_sql("cli/shards_to_write_again"))["shard"].to_list()
    if not outdated:
        return
    rows = store.query(read_sql("cli/records_without_persona"), {"shards": outdated})
    if len(rows):
        listed = [f"{count:,} of {shard}" for shard, count in rows.iter_rows()]
        yield (
            f"Records of personas that are not in the hub any more: {some_of(listed)}. Run these "
            "shards again, in all their domains, and others take their place; 'persona-pipeline "
            "sql --example shards_behind' lists what is to be run again."
        )


def _changed_since_selection(
    store: Store, settings: Settings, shards: Sequence[str]
) -> Iterator[str]:
    for name, domains in settings.drawn_selections().items():
        if changed := [shard for shard in shards_changed_since(store, name) if shard in shards]:
            yield (
                f"Selection {name!r} ({', '.join(domains)}) was made from another hub of "
                f"{some_of(changed)} than there is now, and stays as it is. 'persona-pipeline "
                f"select {name}' makes it again; then run again."
            )
