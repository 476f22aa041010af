"""Test what a run reports about other shards, from tables written by hand."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from persona_pipeline.cli.run_report import (
    Hub,
    RunBaseline,
    capture_baseline,
    print_side_effects,
    read_run_report,
)
from persona_pipeline.hub.selection_rules import Selection
from persona_pipeline.project import open_project
from persona_pipeline.store.store import Store
from tests.sql.conftest import RECORDS, Tables

SHARDS = ("s2", "s1", "s3")
"""In the order of their numbers."""


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Make a store with three shards and no persona."""
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


def was(store: Store, **counts: int) -> RunBaseline:
    """Capture a baseline in which the hub had so many other personas of some shards."""
    now = capture_baseline(open_project(data_dir=store.path.parent), ["s1"])
    hubs = {**now.hubs, **{shard: Hub(count, members=1) for shard, count in counts.items()}}
    return replace(now, hubs=hubs)


def side_effects(store: Store, before: RunBaseline | None = None, **settings: object) -> str:
    """Return what is printed after a run of s1."""
    output = StringIO()
    project = open_project(data_dir=store.path.parent, selections={"few": {"count": 1}}, **settings)
    report = read_run_report(project, before or was(store))
    print_side_effects(Console(file=output, width=1000), report)
    return output.getvalue()


def test_a_run_that_changed_its_own_shard_only_says_nothing(store: Store) -> None:
    keep(store, a="s1", b="s1", c="s2")
    before = was(store, s1=9)
    counts = [(shard, hub.persona_count) for shard, hub in before.hubs.items()]
    assert counts == [("s2", 1), ("s1", 9), ("s3", 0)]
    assert side_effects(store, before) == ""


def test_other_shards_whose_hub_has_changed_are_named_with_both_counts(store: Store) -> None:
    keep(store, a="s1", b="s2", c="new by another run", d="s2")
    before = was(store, s2=1, s3=1200)
    assert side_effects(store, before) == (
        "All shards are deduplicated together, and the hub of others has changed, too: personas of "
        "s2 2 (was 1), s3 0 (was 1,200).\n"
    )
    assert "personas of s2 2 (as many, others)." in side_effects(store, was(store, s2=2))
    many = side_effects(store, was(store, **{f"t{number}": 1 for number in range(9)}))
    assert "t3 0 (was 1), t4 0 (was 1) and 4 more." in many


def test_records_that_are_not_asked_for_any_more_are_counted_by_domain(store: Store) -> None:
    with writing(store) as tables:
        tables.add("personas.hub", {"persona_id": "p"})
        tables.add("synthetic.riddle", {"record_id": "r", "persona_id": "p"})
    before = replace(was(store), records={"riddle": 3, "toast": 2})
    assert side_effects(store, before).startswith(
        "Fewer records of these shards than before: riddle 1 (was 3), toast 0 (was 2). What was"
    )
    assert side_effects(store, replace(before, records={"riddle": 1})) == ""


def test_a_selection_that_the_run_has_made_is_reported(store: Store) -> None:
    with writing(store) as tables:
        for persona in ("p", "gone"):
            tables.add("personas.selections", {"name": "few", "persona_id": persona})
        tables.add("personas.hub", {"persona_id": "p"})
    before = replace(was(store), unmade=["few", "none"])
    assert side_effects(store, before) == "Selection 'few' was made: 1 persona of the hub.\n"


def test_records_of_personas_that_a_selection_lost_are_counted(store: Store) -> None:
    keep(store, a="s2", b="s2")
    asked = {"stage": "synthetic.riddle", "input_count": 1, "rows_in": 1, "source": "few"}
    with writing(store) as tables:
        tables.add("runs.stages", {**asked, "shard": "s2"})
        tables.add("personas.selections", {"name": "few", "persona_id": "a", "shard": "s2"})
        for persona in ("a", "b"):
            record = {"record_id": persona, "persona_id": persona, "shard": "s2"}
            tables.add("synthetic.riddle", record)
    assert "in their domain's selection, any more: 1 of s2." in side_effects(store)


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
    said = side_effects(store)
    assert "not in the hub, or in their domain's selection, any more: 2 of s2, 1 of s3." in said
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
    rules = Selection(count=1).model_dump_json()
    hubs = [{"shard": "s1", "hub_version": made_from}] if made_from else []
    with writing(store) as tables:
        tables.add("runs.stages", *decided, *({**row, "shard": "s3"} for row in decided))
        hubs.append({"shard": "s2", "hub_version": "q d"})
        tables.add("runs.selected", *hubs, name="few", rules=rules)
    drawn = {"math": "few", "npc": "few"}
    said = side_effects(store, persona_sources=drawn, domains=domains)
    assert ("Selection 'few' (math, npc) was made from another hub of s1 than" in said) == is_said
    assert ("'persona-pipeline select few' makes it again" in said) == is_said


def test_a_selection_made_by_other_rules_is_named(store: Store) -> None:
    with writing(store) as tables:
        tables.add("runs.selected", {"name": "few", "hub_version": "d", "rules": '{"count":2}'})
    said = side_effects(store, persona_sources={"math": "few"})
    assert "Selection 'few' (math) was made by other rules than those of now, and stays" in said


def test_nothing_is_said_of_a_selection_that_was_not_noted(store: Store) -> None:
    with writing(store) as tables:
        tables.add("runs.stages", {"stage": "deduplication", "output_version": "d1"})
    assert side_effects(store, persona_sources={"math": "few"}) == ""
