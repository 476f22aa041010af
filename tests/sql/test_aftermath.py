"""What a run says of shards that were not its own, from tables written out by hand."""

from datetime import timedelta
from io import StringIO

import pytest
from rich.console import Console

from persona_pipeline.cli.aftermath import hub_sizes, print_aftermath
from persona_pipeline.settings import load_settings
from tests.sql.conftest import MOMENT, Tables

LATER = MOMENT + timedelta(hours=1)


def aftermath(tables: Tables, before: dict[str, int], **settings: object) -> str:
    """What is said after a run of s1."""
    output = StringIO()
    chosen = load_settings(selections={"few": {"count": 1}}, **settings)
    print_aftermath(Console(file=output, width=1000), tables.connection, chosen, ["s1"], before)
    return output.getvalue()


def keep(tables: Tables, **personas: str) -> None:
    """Put personas into the hub: id to shard."""
    rows = ({"persona_id": name, "shard": shard} for name, shard in personas.items())
    tables.add("personas.hub", *rows)


def test_a_run_that_changed_its_own_shard_only_says_nothing(tables: Tables) -> None:
    keep(tables, a="s1", b="s1", c="s2")
    assert hub_sizes(tables.connection) == {"s1": 2, "s2": 1}
    assert aftermath(tables, {"s2": 1}) == ""


def test_other_shards_whose_hub_has_changed_are_named_with_both_counts(tables: Tables) -> None:
    keep(tables, a="s1", b="s2", c="s4", d="s4")
    said = aftermath(tables, {"s1": 5, "s2": 1, "s3": 1200, "s4": 1})
    assert said == (
        "All shards are deduplicated together, and the hub of others has changed, too: personas of "
        "s3 0 (was 1,200), s4 2 (was 1).\n"
    )
    many = aftermath(tables, {f"t{number}": 1 for number in range(9)} | {"s2": 1, "s4": 2})
    assert "t3 0 (was 1), t4 0 (was 1) and 4 more." in many


def test_records_whose_personas_left_the_hub_are_counted_by_shard(tables: Tables) -> None:
    keep(tables, a="s2", b="s1")
    records = [("r1", "a", "s2"), ("r2", "gone", "s2"), ("r3", "b", "s2"), ("r4", "x", "s3")]
    tables.add(
        "synthetic.riddle",
        *({"record_id": r, "persona_id": p, "shard": shard} for r, p, shard in records),
    )
    said = aftermath(tables, hub_sizes(tables.connection))
    assert "Records of personas that are not in the hub any more: 2 of s2, 1 of s3. Run" in said
    assert "--example shards_behind" in said


@pytest.mark.parametrize(
    ("asked_at", "domains", "is_said"),
    [(LATER, [], True), (MOMENT, [], False), (LATER, ["npc"], False)],
)
def test_a_selection_older_than_the_personas_of_a_shard_is_named(
    tables: Tables, asked_at: object, domains: list[str], *, is_said: bool
) -> None:
    tables.add("personas.selections", {"name": "few", "persona_id": "a", "shard": "s0"})
    asked = {"stage": "text_to_persona", "created_at": asked_at}
    tables.add("llm.calls", asked, {**asked, "shard": "s9"}, {**asked, "stage": "synthetic.math"})
    said = aftermath(tables, {}, persona_sources={"math": "few"}, domains=domains)
    assert ("Selection 'few' is older than personas of s1, so math was" in said) == is_said
    assert ("'persona-pipeline select few' makes it again" in said) == is_said
