"""What a run says of shards that were not its own, from tables written out by hand."""

from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from persona_pipeline.cli.aftermath import hub_sizes, print_aftermath
from persona_pipeline.settings import load_settings
from persona_pipeline.store import Store
from tests.sql.conftest import RECORDS, Tables

SHARDS = ("s2", "s1", "s3")
"""In line."""


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Three shards, and no persona."""
    store = Store(tmp_path / "pipeline.duckdb", tmp_path / "published.duckdb")
    store.migrate()
    columns = {**dict.fromkeys(RECORDS, "varchar"), "created_at": "timestamptz"}
    store.add_table("synthetic.riddle", columns)
    with writing(store) as tables:
        for number, shard in enumerate(SHARDS):
            tables.add("corpus.shards", {"shard": shard, "shard_number": number})
    return store


@contextmanager
def writing(store: Store) -> Iterator[Tables]:
    with store.transaction() as connection:
        yield Tables(connection)


def keep(store: Store, **personas: str) -> None:
    """Put personas into the hub: id to shard."""
    rows = ({"persona_id": name, "shard": shard} for name, shard in personas.items())
    with writing(store) as tables:
        tables.add("personas.hub", *rows)


def aftermath(store: Store, before: dict[str, int], **settings: object) -> str:
    """What is said after a run of s1."""
    output = StringIO()
    chosen = load_settings(selections={"few": {"count": 1}}, **settings)
    print_aftermath(Console(file=output, width=1000), store, chosen, ["s1"], before)
    return output.getvalue()


def test_a_run_that_changed_its_own_shard_only_says_nothing(store: Store) -> None:
    keep(store, a="s1", b="s1", c="s2")
    assert list(hub_sizes(store).items()) == [("s2", 1), ("s1", 2), ("s3", 0)]
    assert aftermath(store, {"s2": 1, "s1": 9, "s3": 0}) == ""


def test_other_shards_whose_hub_has_changed_are_named_with_both_counts(store: Store) -> None:
    keep(store, a="s1", b="s2", c="new by another run", d="s2")
    assert aftermath(store, {"s3": 1200, "s2": 1, "s1": 5}) == (
        "All shards are deduplicated together, and the hub of others has changed, too: personas of "
        "s3 0 (was 1,200), s2 2 (was 1).\n"
    )
    many = aftermath(store, {f"t{number}": 1 for number in range(9)})
    assert "t3 0 (was 1), t4 0 (was 1) and 4 more." in many


def test_records_whose_personas_left_the_hub_are_counted_by_shard(store: Store) -> None:
    keep(store, a="s2", b="s1")
    asked = {"stage": "synthetic.riddle", "input_count": 5, "rows_in": 5}
    records = [("r1", "a", "s2"), ("r2", "gone", "s2"), ("r3", "b", "s2"), ("r4", "x", "s3")]
    with writing(store) as tables:
        tables.add("runs.stages", {**asked, "shard": "s2"}, {**asked, "shard": "s3"})
        tables.add(
            "synthetic.riddle",
            *({"record_id": r, "persona_id": p, "shard": shard} for r, p, shard in records),
        )
    said = aftermath(store, hub_sizes(store))
    assert "Records of personas that are not in the hub any more: 2 of s2, 1 of s3. Run" in said
    assert "--example shards_behind" in said


@pytest.mark.parametrize(
    ("made_from", "domains", "is_said"),
    [("d1 q1", [], False), ("d0 q1", [], True), (None, [], True), ("d0 q1", ["tool"], False)],
)
def test_a_selection_made_from_another_hub_is_named(
    store: Store,
    made_from: str | None,
    domains: list[str],
    is_said: bool,  # noqa: FBT001
) -> None:
    stages = {"quality_rules": "q1", "deduplication": "d1"}
    decided = [{"stage": name, "output_version": version} for name, version in stages.items()]
    hubs = [{"shard": "s1", "hub_version": made_from}] if made_from else []
    with writing(store) as tables:
        tables.add("runs.stages", *decided, *({**row, "shard": "s3"} for row in decided))
        tables.add("runs.selected", *hubs, {"shard": "s2", "hub_version": "q d"}, name="few")
    drawn = {"math": "few", "npc": "few"}
    said = aftermath(store, hub_sizes(store), persona_sources=drawn, domains=domains)
    assert ("Selection 'few' (math, npc) was made from another hub of s1 than" in said) == is_said
    assert ("'persona-pipeline select few' makes it again" in said) == is_said


def test_nothing_is_said_of_a_selection_that_was_not_noted(store: Store) -> None:
    with writing(store) as tables:
        tables.add("runs.stages", {"stage": "deduplication", "output_version": "d1"})
    assert aftermath(store, hub_sizes(store), persona_sources={"math": "few"}) == ""
