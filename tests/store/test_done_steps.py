"""Test what counts as done: the versions, the rows that were read, and the rows that were left."""

from collections.abc import Mapping

import duckdb
import pytest

from persona_pipeline.errors import StoreError
from persona_pipeline.store.done_steps import (
    OUTPUT_VERSIONS,
    DoneStep,
    Part,
    Reason,
    Step,
    Undone,
    mark_done,
    why_undone,
)
from persona_pipeline.store.stage_rows import OUTDATED
from persona_pipeline.store.store import Store

REJECTED = Part("personas.rejected", "quality_rules")
STEP = Step(
    "quality_rules",
    version="1",
    reads=(Part("personas.extracted"),),
    writes=(Part("personas.candidates"), REJECTED),
)
SHARDS = ["a-00000", "a-00001"]


def execute(store: Store, *statements: str) -> None:
    with store.transaction() as connection:
        for statement in statements:
            connection.execute(statement)


def insert(store: Store, table: str, shard: str, **columns: str) -> None:
    names = ", ".join(["shard", "created_at", *columns])
    values = ", ".join(f"'{value}'" for value in (shard, *columns.values()))
    first, *rest = values.split(", ")
    execute(store, f"insert into {table} ({names}) values ({', '.join([first, 'now()', *rest])})")


def finish(store: Store, *shards: str, step: Step = STEP) -> None:
    """Mark the step as done for these shards, from what they hold now."""
    inputs = store.inputs_of(step, shards)
    with store.transaction() as connection:
        mark_done(connection, DoneStep(step, inputs, frozenset(shards)), "run")


def why(store: Store, step: Step = STEP) -> Mapping[str, Undone | None]:
    with store.connect(read_only=True) as connection:
        undone = why_undone(connection, [step], SHARDS)
    return {shard: undone[shard].get(step.name) for shard in SHARDS}


@pytest.fixture
def done(store: Store) -> Store:
    """Two shards, each with one row that was read and one that was left."""
    for shard in SHARDS:
        insert(store, "personas.extracted", shard)
        insert(store, "personas.candidates", shard)
    finish(store, *SHARDS)
    return store


def test_a_step_that_never_ended_is_to_do_and_one_that_did_is_not(store: Store) -> None:
    assert why(store) == dict.fromkeys(SHARDS, Undone(Reason.NEVER_DONE))
    finish(store, SHARDS[0])
    assert why(store) == {SHARDS[0]: None, SHARDS[1]: Undone(Reason.NEVER_DONE)}


def test_another_version_is_a_reason_for_every_shard(done: Store) -> None:
    other = Step(STEP.name, "2", STEP.reads, STEP.writes)
    assert why(done, other) == dict.fromkeys(SHARDS, Undone(Reason.SETTINGS))


@pytest.mark.parametrize(
    ("table", "reason"),
    [("personas.extracted", Reason.INPUT), ("personas.candidates", Reason.OUTPUT)],
)
def test_one_row_more_or_less_or_written_again_is_a_reason_for_its_shard(
    done: Store, table: str, reason: Reason
) -> None:
    one = f"where shard = '{SHARDS[0]}'"
    for statement in (
        f"insert into {table} (shard, created_at) select shard, created_at from {table} {one}",
        f"delete from {table} {one}",
        f"insert into {table} (shard, created_at) values ('{SHARDS[0]}', now())",
    ):
        execute(done, statement)
        changed = Undone(reason, table, is_damaged=reason is Reason.OUTPUT)
        assert why(done) == {SHARDS[0]: changed, SHARDS[1]: None}
        assert str(changed) == f"{reason}: {table}"


def test_damage_is_told_whatever_the_first_reason_is(done: Store) -> None:
    execute(done, "delete from personas.candidates", "delete from personas.extracted")
    damaged = Undone(Reason.INPUT, "personas.extracted", is_damaged=True)
    assert why(done) == dict.fromkeys(SHARDS, damaged)
    other = Step(STEP.name, "2", STEP.reads, STEP.writes)
    assert why(done, other) == dict.fromkeys(SHARDS, Undone(Reason.SETTINGS, is_damaged=True))


def test_rows_of_another_stage_are_no_reason(done: Store) -> None:
    insert(done, "personas.rejected", SHARDS[0], stage="text_to_persona", reason="call_failed")
    assert set(why(done).values()) == {None}
    insert(done, "personas.rejected", SHARDS[0], stage="quality_rules", reason="too_short")
    changed = Undone(Reason.OUTPUT, "personas.rejected (quality_rules)", is_damaged=True)
    assert why(done) == {SHARDS[0]: changed, SHARDS[1]: None}


def test_a_failed_call_keeps_a_step_to_do_however_often_it_ends(done: Store) -> None:
    insert(done, "personas.rejected", SHARDS[1], stage="quality_rules", reason="call_failed")
    for _ in range(2):
        finish(done, *SHARDS)
        assert why(done) == {SHARDS[0]: None, SHARDS[1]: Undone(Reason.UNFINISHED)}


def test_input_that_changed_while_a_stage_ran_keeps_it_to_do(store: Store) -> None:
    step = Step("synthetic.math", "1", (), (Part("runs.stages", "synthetic.math"),))
    versions = ("ok", OUTDATED)
    for shard, version in zip(SHARDS, versions, strict=True):
        insert(store, "runs.stages", shard, stage="synthetic.math", input_version=version)
    finish(store, *SHARDS, step=step)
    assert why(store, step) == {SHARDS[0]: None, SHARDS[1]: Undone(Reason.UNFINISHED)}


def test_a_stage_before_counts_by_its_version_and_not_by_when_it_ran(store: Store) -> None:
    step = Step("hub", "1", (Part(OUTPUT_VERSIONS, "deduplication"),), ())
    for shard in SHARDS:
        insert(store, "runs.stages", shard, stage="deduplication", output_version="1")
    finish(store, *SHARDS, step=step)
    execute(store, "update runs.stages set created_at = now() + interval 1 day")
    assert set(why(store, step).values()) == {None}
    execute(store, "update runs.stages set output_version = '2'")
    changed = Undone(Reason.INPUT, "output versions (deduplication)")
    assert why(store, step) == dict.fromkeys(SHARDS, changed)


def test_a_shard_is_told_from_its_texts_and_not_from_the_run_that_registered_it(
    store: Store,
) -> None:
    step = Step("corpus", "1", (Part("corpus.shards"),), ())
    for shard in SHARDS:
        insert(store, "corpus.shards", shard, staged_file="f.parquet", content_hash="1")
    finish(store, *SHARDS, step=step)
    execute(store, "update corpus.shards set created_at = now() + interval 1 day, run_id = 'b'")
    assert set(why(store, step).values()) == {None}
    execute(store, f"update corpus.shards set content_hash = '2' where shard = '{SHARDS[0]}'")
    assert why(store, step) == {SHARDS[0]: Undone(Reason.INPUT, "corpus.shards"), SHARDS[1]: None}


def test_calls_count_by_their_stage_and_failed_ones_not_at_all(store: Store) -> None:
    step = Step("text_to_persona", "1", (), (Part("llm.calls", "text_to_persona"),))
    finish(store, *SHARDS, step=step)
    insert(store, "llm.calls", SHARDS[0], stage="text_to_persona", status="failed")
    insert(store, "llm.calls", SHARDS[0], stage="embeddings", status="ok")
    assert set(why(store, step).values()) == {None}
    insert(store, "llm.calls", SHARDS[0], stage="text_to_persona", status="invalid")
    changed = Undone(Reason.OUTPUT, "llm.calls (text_to_persona)", is_damaged=True)
    assert why(store, step)[SHARDS[0]] == changed


def test_a_domain_whose_table_is_not_there_yet_has_no_rows(store: Store) -> None:
    step = Step("synthetic.riddle", "1", (), (Part("synthetic.riddle"),))
    finish(store, *SHARDS, step=step)
    assert set(why(store, step).values()) == {None}
    execute(store, "create table synthetic.riddle (shard varchar, created_at timestamp)")
    assert set(why(store, step).values()) == {None}
    insert(store, "synthetic.riddle", SHARDS[0])
    changed = Undone(Reason.OUTPUT, "synthetic.riddle", is_damaged=True)
    assert why(store, step)[SHARDS[0]] == changed


def test_a_domain_may_have_a_field_of_any_name(store: Store) -> None:
    columns = "shard varchar, created_at timestamp, owner varchar"
    execute(store, f"create table synthetic.riddle ({columns})")
    for owner in ("a miller", "a smith"):
        insert(store, "synthetic.riddle", SHARDS[0], owner=owner)
    step = Step("synthetic.riddle", "1", (), (Part("synthetic.riddle"),))
    finish(store, *SHARDS, step=step)
    assert set(why(store, step).values()) == {None}
    execute(store, "delete from synthetic.riddle where owner = 'a miller'")
    assert why(store, step)[SHARDS[0]] is not None


def test_a_step_that_writes_other_shards_notes_what_it_reads_of_all(done: Store) -> None:
    for shard in SHARDS:
        insert(done, "corpus.shards", shard)
    of_all = Step("hub", "1", STEP.reads, STEP.writes, is_of_all=True)
    assert set(done.inputs_of(of_all, SHARDS[:1])) == set(SHARDS)
    assert set(done.inputs_of(STEP, SHARDS[:1])) == set(SHARDS[:1])


def test_while_a_thread_reads_it_has_one_connection_and_others_wait(done: Store) -> None:
    with done.reading():
        with done.connect(read_only=True) as one, done.connect(read_only=True) as other:
            assert one is other
        with done.reading():
            assert done.query("select count(*) from runs.steps").item() == 2
        assert done.query("select count(*) from runs.steps").item() == 2
        with pytest.raises(StoreError, match=r"nothing can be written to .* while this thread"):
            execute(done, "delete from runs.steps")
    with done.connect(read_only=True) as connection:
        assert connection is not one
    with pytest.raises(duckdb.Error):
        one.execute("select 1")
