"""What a run has changed beyond its own shards, and what it left undone: nothing, mostly."""

from collections.abc import Mapping, Sequence

import duckdb
from rich.console import Console
from rich.markup import escape

from persona_pipeline.cli.texts import some_of
from persona_pipeline.settings import Settings
from persona_pipeline.sql_files import fetch, read_sql


def hub_sizes(connection: duckdb.DuckDBPyConnection) -> dict[str, int]:
    """Personas in the hub, by shard."""
    return dict(fetch(connection, read_sql("personas/hub_sizes")).iter_rows())


def print_aftermath(
    console: Console,
    connection: duckdb.DuckDBPyConnection,
    settings: Settings,
    shards: Sequence[str],
    before: Mapping[str, int],
) -> None:
    """Read from the snapshot; `before`: the hub's sizes when the run of `shards` began."""
    for line in (
        _changed_hubs(shards, before, hub_sizes(connection)),
        _records_without_persona(connection),
        *_shards_after_selection(connection, settings, shards),
    ):
        if line:
            console.print(f"[yellow]{escape(line)}[/]", highlight=False)


def _changed_hubs(
    shards: Sequence[str], before: Mapping[str, int], now: Mapping[str, int]
) -> str | None:
    changed = [
        f"{shard} {now.get(shard, 0):,} (was {before.get(shard, 0):,})"
        for shard in sorted({*before, *now} - set(shards))
        if before.get(shard) != now.get(shard)
    ]
    if not changed:
        return None
    return (
        "All shards are deduplicated together, and the hub of others has changed, too: personas of "
        f"{some_of(changed)}."
    )


def _records_without_persona(connection: duckdb.DuckDBPyConnection) -> str | None:
    rows = fetch(connection, read_sql("cli/records_without_persona"))
    if rows.is_empty():
        return None
    listed = [f"{count:,} of {shard}" for shard, count in rows.iter_rows()]
    return (
        "Records of personas that are not in the hub any more: "
        f"{some_of(listed)}. Run these shards again, in all their domains, and others take their "
        "place; 'persona-pipeline sql --example shards_behind' lists what is to be run again."
    )


def _shards_after_selection(
    connection: duckdb.DuckDBPyConnection, settings: Settings, shards: Sequence[str]
) -> list[str]:
    names = {
        selection: domain
        for domain, selection in settings.persona_sources.items()
        if not settings.domains or domain in settings.domains
    }
    parameters = {"names": list(names), "shards": list(shards)}
    rows = fetch(connection, read_sql("cli/shards_after_selection"), parameters)
    return [
        f"Selection {name!r} is older than personas of {some_of(late['shard'].to_list())}, so "
        f"{names[name]} was written for none of these. 'persona-pipeline select {name}' makes it "
        "again, from the whole hub; then run again."
        for (name,), late in rows.partition_by("name", as_dict=True).items()
    ]
