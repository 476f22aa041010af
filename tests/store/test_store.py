"""The database: what one stage replaces, who may read meanwhile, and how old files are renewed."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from persona_pipeline.errors import StoreError
from persona_pipeline.sql import content_query, read_sql
from persona_pipeline.store.stage_rows import FunnelCounts, StageRows
from persona_pipeline.store.store import Store
from persona_pipeline.synthesis.domain import Domain
from persona_pipeline.synthesis.tables import table_columns, table_name
from tests.support.examples import FEWER
from tests.support.stored_rows import (
    ROOT,
    commit_without_room,
    held,
    hub,
    interrupt,
    kill_after_commit,
    rejected,
    rows_of,
    snapshot_rows,
)


def test_a_stage_replaces_only_its_own_shard(store: Store) -> None:
    store.replace([hub("s1", "a", "b"), hub("s2", "c")], [], run_id="r1")
    store.replace([hub("s1", "d")], [], run_id="r2")
    matches = rows_of(store, "select shard, persona_id, run_id from personas.hub order by all")
    assert matches == [("s1", "d", "r2"), ("s2", "c", "r1")]


def candidates(shard: str, *rows: tuple[str, str | None, int | None]) -> StageRows:
    schema = {"persona_id": pl.String, "persona": pl.String, "word_count": pl.Int64}
    frame = pl.DataFrame(rows, schema=schema, orient="row")
    return StageRows(shard, "quality_rules", {"personas.candidates": frame})


def vectors(shard: str, rows: list[tuple[str, list[float]]]) -> StageRows:
    frame = pl.DataFrame(rows, schema=["persona_id", "embedding"], orient="row")
    return StageRows(shard, "embeddings", {"personas.embeddings": frame})


def test_candidates_and_vectors_that_are_as_they_were_keep_the_time_that_wrote_them(
    store: Store,
) -> None:
    written = (
        "select persona_id, run_id, created_at from personas.candidates"
        " union all select persona_id, run_id, created_at from personas.embeddings order by all"
    )
    a, b = ("a", "A baker.", 2), ("b", None, None)
    store.replace([candidates("s1", a, b), vectors("s1", [("a", [1.0, 0.5])])], [], run_id="r1")
    before = rows_of(store, written)

    store.replace([candidates("s1", b, a), vectors("s1", [("a", [1.0, 0.5])])], [], run_id="r2")
    assert rows_of(store, written) == before  # in any order

    other = ("a", "A miller.", 2)
    store.replace(
        [candidates("s1", other, b), vectors("s1", [("a", [1.0, 0.25])])], [], run_id="r3"
    )
    assert {run for _, run, _ in rows_of(store, written)} == {"r3"}


@given(
    stored=st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from(["x", None])), max_size=3),
    new=st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from(["x", None])), max_size=3),
)
@settings(FEWER, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_rows_are_written_again_exactly_where_they_differ(
    store: Store, stored: list[tuple[str, str | None]], new: list[tuple[str, str | None]]
) -> None:
    for run, rows in (("r0", [("z", None)]), ("r1", stored), ("r2", new)):
        store.replace([candidates("s1", *((*row, 1) for row in rows))], [], run_id=run)
    stored_now = rows_of(store, "select persona_id, persona, run_id from personas.candidates")
    assert sorted(map(str, (row[:2] for row in stored_now))) == sorted(map(str, new))
    are_same = sorted(stored, key=str) == sorted(new, key=str)
    assert {run for *_, run in stored_now} <= {"r1" if are_same else "r2"}


def test_a_column_of_any_name_tells_rows_apart(store: Store) -> None:
    with store.connect(read_only=True) as connection:
        (first,), (second,), (third,) = (
            connection.execute(content_query(f"select 'x' as content, {value} as answer"))
            .pl()
            .rows()
            for value in (1, 1, 2)
        )
    assert first == second != third


def test_in_a_shared_table_a_stage_replaces_only_its_own_rows(store: Store) -> None:
    first = [rejected("s1", "one", "a"), rejected("s1", "two", "b"), rejected("s2", "one", "c")]
    store.replace(first, [], run_id="r1")
    store.replace([rejected("s1", "one", rows_in=4)], [], run_id="r2")
    matches = rows_of(store, "select shard, stage, persona_id from personas.rejected order by all")
    assert matches == [("s1", "two", "b"), ("s2", "one", "c")]
    counts = rows_of(store, "select shard, stage, rows_in, run_id from runs.stages order by all")
    assert counts == [("s1", "one", 4, "r2"), ("s1", "two", 9, "r1"), ("s2", "one", 9, "r1")]


def test_the_same_rows_twice_are_there_once(store: Store, journal: Path) -> None:
    for _ in range(2):
        store.replace([hub("s1", "a"), rejected("s1", "one", "b")], [journal], run_id="r")
    for table, count in (("personas.hub", 1), ("runs.stages", 1), ("llm.calls", 2)):
        assert rows_of(store, f"select count(*) from {table}") == [(count,)]


def test_columns_that_a_stage_does_not_fill_are_null_and_every_row_says_when(store: Store) -> None:
    store.replace([hub("s1", "a")], [], run_id="r")
    sql = "select persona, hop, created_at > now() - interval 1 minute from personas.hub"
    assert rows_of(store, sql) == [(None, None, True)]


def test_a_failed_commit_leaves_database_and_snapshot_as_they_were(
    store: Store, journal: Path
) -> None:
    store.replace([hub("s1", "a")], [], run_id="r1")
    before = store.snapshot.read_bytes()
    wrong = StageRows("s1", "hub", {"personas.hub": pl.DataFrame({"no_such_column": [1]})})
    with pytest.raises(duckdb.Error, match="no_such_column"):
        store.replace([hub("s1", "b"), wrong], [journal], run_id="r2")
    assert rows_of(store, "select persona_id from personas.hub") == [("a",)]
    assert rows_of(store, "select count(*) from llm.calls") == [(0,)]
    assert store.snapshot.read_bytes() == before
    assert {path.name for path in store.path.parent.iterdir()} == {
        "pipeline.duckdb",
        "published.duckdb",
        journal.name,
    }


def test_an_interrupted_transaction_writes_nothing_and_lets_go(store: Store) -> None:
    with pytest.raises(KeyboardInterrupt):
        interrupt(store)
    assert rows_of(store, "select count(*) from corpus.shards") == [(0,)]


def test_what_is_committed_is_published_with_its_views(store: Store) -> None:
    store.replace([rejected("s1", "text_to_persona", "a")], [], run_id="r")
    store.publish()
    assert snapshot_rows(store, "select persona_id from personas.rejected") == [("a",)]
    assert snapshot_rows(store, "select stage from marts.funnel") == [("text_to_persona",)]


def test_commits_are_published_seldom_enough_and_the_last_one_when_asked(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.publish()
    monkeypatch.setattr(store, "_publishing_s", 60.0)
    for name in "abc":
        store.replace([hub("s1", name)], [], run_id="r")
    assert not store.is_published()
    assert snapshot_rows(store, "select count(*) from personas.hub") == [(0,)]
    store.publish()
    assert store.is_published()
    assert snapshot_rows(store, "select persona_id from personas.hub") == [("c",)]


def test_publishing_twice_copies_once(store: Store) -> None:
    store.replace([hub("s1", "a")], [], run_id="r")
    store.publish()
    first = store.snapshot.stat()
    store.publish()
    assert store.snapshot.stat() == first


def test_what_a_killed_writer_committed_is_published(store: Store) -> None:
    kill_after_commit(store)
    assert store.path.with_name("pipeline.duckdb.wal").is_file()
    store.publish()
    assert snapshot_rows(store, "select shard from corpus.shards") == [("committed",)]


def test_a_commit_that_the_file_has_no_room_for_stays_in_its_log(store: Store) -> None:
    assert "cannot be merged into" in commit_without_room(store, rows=2)
    assert store.path.with_name("pipeline.duckdb.wal").is_file()
    store.publish()
    assert snapshot_rows(store, "select count(*) from corpus.shards") == [(2,)]


@pytest.mark.parametrize("rows", [3000, 100_000])
def test_a_commit_without_any_room_is_refused_whole(store: Store, rows: int) -> None:
    assert "cannot be written: Trans" in commit_without_room(store, rows)
    assert rows_of(store, "select count(*) from corpus.shards") == [(0,)]


def test_a_file_that_this_process_has_open_elsewhere_is_waited_for(store: Store) -> None:
    impatient = Store(store.path, store.snapshot, lock_timeout=0.2)
    with duckdb.connect(str(store.path)), pytest.raises(StoreError, match="another connection"):
        impatient.query("select 1")
    assert impatient.query("select 1 as one").rows() == [(1,)]


def test_what_was_not_committed_when_the_connection_ends_is_undone(store: Store) -> None:
    with store.connect() as connection:
        connection.begin()
        connection.execute("insert into corpus.shards (shard) values ('s')")
    assert rows_of(store, "select count(*) from corpus.shards") == [(0,)]


def test_a_snapshot_that_cannot_be_written_is_named(store: Store, tmp_path: Path) -> None:
    elsewhere = Store(store.path, tmp_path / "none" / "published.duckdb")
    with pytest.raises(StoreError, match=r"none/published\.duckdb cannot be written: .*No such"):
        elsewhere.publish()


def test_whoever_waits_for_the_file_says_who_holds_it(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("persona_pipeline.store.store.WARN_AFTER", 0.2)
    impatient = Store(store.path, store.snapshot, lock_timeout=1)
    with held(store) as process, pytest.raises(StoreError):
        impatient.query("select 1")
    assert [record.getMessage() for record in caplog.records] == [
        f"waiting for {store.path}, which process {process.pid} holds"
    ]
    assert 0.5 < impatient.waited_s < 3


def test_threads_of_a_process_have_the_file_in_turn(store: Store) -> None:
    other = Store(store.path, store.snapshot)

    def add(number: int) -> None:
        with (store, other)[number % 2].transaction() as connection:
            connection.execute("insert into corpus.shards (shard) values (?)", [str(number)])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add, range(40)))
    assert rows_of(store, "select count(distinct shard) from corpus.shards") == [(40,)]


def test_a_thread_that_waits_too_long_is_told_why(store: Store) -> None:
    impatient = Store(store.path, store.snapshot, lock_timeout=0.2)
    with (
        store.connect(read_only=True),
        ThreadPoolExecutor(1) as pool,
        pytest.raises(StoreError, match="is held by another connection of this process"),
    ):
        pool.submit(impatient.query, "select 1").result()
    assert impatient.query("select 1 as one").rows() == [(1,)]


def test_an_interrupt_at_any_moment_lets_go_of_the_file(store: Store) -> None:
    times = str(FEWER.max_examples * 2)  # of four kinds of work each
    command = [sys.executable, "-m", "tests.support.interrupted_store", str(store.path), times]
    matches = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    assert json.loads(matches.stdout) == []


def test_a_file_that_was_opened_through_a_link_is_the_same_file(store: Store) -> None:
    link = store.path.with_name("link.duckdb")
    link.symlink_to(store.path)
    linked = Store(link, store.snapshot, lock_timeout=0.2)
    with store.connect(read_only=True), pytest.raises(StoreError, match="another connection"):
        linked.query("select 1")


def test_results_too_large_for_memory_are_spilled_beside_the_database(store: Store) -> None:
    [(folder,)] = rows_of(store, "select current_setting('temp_directory')")
    assert folder == f"{store.path}.tmp"
    assert not Path(folder).exists()


def test_a_reader_keeps_the_snapshot_it_opened(store: Store) -> None:
    with duckdb.connect(str(store.snapshot), read_only=True) as reader:
        store.replace([hub("s1", "a")], [], run_id="r")
        store.publish()
        assert reader.execute("select count(*) from personas.hub").fetchall() == [(0,)]
    assert snapshot_rows(store, "select count(*) from personas.hub") == [(1,)]


def test_while_a_run_writes_people_read_the_snapshot_and_others_learn_who_holds_the_file(
    store: Store,
) -> None:
    impatient = Store(store.path, store.snapshot, lock_timeout=0.1)
    with held(store) as process:
        assert snapshot_rows(store, "select count(*) from corpus.shards") == [(0,)]
        message = f"pipeline.duckdb is held by process {process.pid}: close .*snapshot instead"
        with pytest.raises(StoreError, match=message):
            impatient.query("select 1")


def test_a_writer_waits_until_the_other_lets_go(store: Store) -> None:
    with held(store) as process:
        assert process.stdin is not None
        process.stdin.write("go on\n")
        process.stdin.flush()
        store.replace([hub("s1", "a")], [], run_id="r")
    assert rows_of(store, "select shard from corpus.shards") == [("held",)]


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    path = tmp_path / "pipeline.duckdb"
    path.write_text("hello" * 1000)
    with pytest.raises(StoreError, match=r"pipeline\.duckdb cannot be opened: .*not a valid"):
        Store(path, tmp_path / "published.duckdb").query("select 1")


def test_a_database_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"none\.duckdb cannot be opened"):
        Store(tmp_path / "none.duckdb", tmp_path / "published.duckdb").query("select 1")


def test_migrating_twice_changes_nothing(store: Store) -> None:
    store.replace([hub("s1", "a")], [], run_id="r")
    before = (store.path.read_bytes(), store.snapshot.read_bytes())
    store.migrate()
    assert (store.path.read_bytes(), store.snapshot.read_bytes()) == before


def test_the_folder_of_a_new_database_is_made(tmp_path: Path) -> None:
    result = Store(tmp_path / "a" / "b" / "pipeline.duckdb", tmp_path / "a" / "b" / "p.duckdb")
    result.migrate()
    assert result.snapshot.is_file()


def test_a_file_with_older_views_gets_the_new_ones_and_keeps_its_rows(
    store: Store, journal: Path
) -> None:
    store.replace([hub("s1", "a")], [journal], run_id="r")
    with store.transaction() as connection:
        connection.execute("create or replace view marts.cost as select 1 as old")
        connection.execute("insert into schema_views values ('old', now())")
    store.migrate()
    assert rows_of(store, "select calls from marts.cost") == [(2,)]
    assert snapshot_rows(store, "select calls from marts.cost") == [(2,)]
    assert rows_of(store, "select persona_id from personas.hub") == [("a",)]


def test_a_database_of_a_newer_program_is_left_alone(store: Store) -> None:
    with store.transaction() as connection:
        connection.execute("insert into schema_migrations values (999, now())")
    message = r"pipeline\.duckdb has schema version 999, this program knows \d+: upgrade"
    with pytest.raises(StoreError, match=message):
        store.migrate()


def test_a_table_gets_the_columns_that_it_lacks_and_keeps_its_rows(
    store: Store, riddle: Domain
) -> None:
    columns = table_columns(riddle)
    store.add_table("synthetic.riddle", columns)
    with store.transaction() as connection:
        connection.execute("insert into synthetic.riddle (record_id) values ('r1')")
    store.add_table("synthetic.riddle", {**columns, "select": "integer[]"})
    assert rows_of(store, 'select record_id, "select" from synthetic.riddle') == [("r1", None)]
    assert rows_of(store, "select domain, record_id from synthetic.records") == [("riddle", "r1")]
    before = store.path.read_bytes()
    store.add_table("synthetic.riddle", columns)
    assert store.path.read_bytes() == before


def test_a_table_that_is_there_gets_other_descriptions(store: Store, riddle: Domain) -> None:
    columns, comments = table_columns(riddle), read_sql("store/comments")
    store.add_table("synthetic.riddle", columns, {"": "One row is one riddle.", "answer": "Old."})
    store.add_table("synthetic.riddle", columns, {"answer": "Its answer."})
    matches = {
        column: comment
        for table, column, _, comment in rows_of(store, comments)
        if table == "synthetic.riddle" and comment
    }
    assert matches == {"": "One row is one riddle.", "answer": "Its answer."}
    before = store.path.read_bytes()
    store.add_table("synthetic.riddle", columns, {"answer": "Its answer."})
    assert store.path.read_bytes() == before


def test_records_are_one_view_over_the_tables_of_all_domains(store: Store, riddle: Domain) -> None:
    assert rows_of(store, "select * from synthetic.records") == []
    store.add_table(table_name(riddle), table_columns(riddle))
    store.add_table("synthetic.poem", {**table_columns(riddle), "lines": "bigint"})
    for name in ("riddle", "poem"):
        frame = pl.DataFrame({"record_id": [f"{name}-1"], "text": [name]})
        rows = StageRows("s1", f"synthetic.{name}", {f"synthetic.{name}": frame})
        store.replace([rows], [], run_id="r")
    expected = [("poem", "poem-1", "poem", "s1"), ("riddle", "riddle-1", "riddle", "s1")]
    sql = "select domain, record_id, text, shard from synthetic.records order by all"
    assert rows_of(store, sql) == expected
    store.publish()
    assert snapshot_rows(store, sql) == expected


def stage_of(stage: str, table: str, *ids: str) -> StageRows:
    column = "document_id" if table == "corpus.documents" else "persona_id"
    frame = pl.DataFrame({column: list(ids)}, schema={column: pl.String})
    return StageRows("s1", stage, {table: frame}, FunnelCounts(2, 2))


def current_stages(store: Store) -> dict[str, bool]:
    return dict(store.query("select stage, is_current from marts.funnel").iter_rows())


def test_a_stage_is_behind_when_as_many_but_other_rows_came_before_it(store: Store) -> None:
    store.replace([stage_of("corpus", "corpus.documents", "a", "b")], [], run_id="r")
    store.replace([stage_of("text_to_persona", "personas.extracted", "p", "q")], [], run_id="r")
    assert current_stages(store)["text_to_persona"]
    store.replace([stage_of("corpus", "corpus.documents", "b", "a")], [], run_id="r")
    assert current_stages(store)["text_to_persona"]
    store.replace([stage_of("corpus", "corpus.documents", "a", "c")], [], run_id="r")
    assert not current_stages(store)["text_to_persona"]
    store.replace([stage_of("text_to_persona", "personas.extracted", "p", "q")], [], run_id="r")
    assert current_stages(store)["text_to_persona"]


def test_a_stage_is_behind_when_its_input_was_written_while_it_worked(store: Store) -> None:
    began = datetime.now(UTC).replace(tzinfo=None)
    store.replace([stage_of("corpus", "corpus.documents", "a", "b")], [], run_id="r")
    late = [stage_of("text_to_persona", "personas.extracted", "p", "q")]
    store.replace(late, [], run_id="r", read_at=began)
    assert not current_stages(store)["text_to_persona"]


def test_stages_of_before_there_were_versions_are_judged_by_their_counts(store: Store) -> None:
    store.replace([stage_of("corpus", "corpus.documents", "a", "b")], [], run_id="r")
    store.replace([stage_of("text_to_persona", "personas.extracted", "p", "q")], [], run_id="r")
    with store.transaction() as connection:
        connection.execute("update runs.stages set input_version = null, output_version = null")
    assert current_stages(store)["text_to_persona"]
    store.replace([stage_of("corpus", "corpus.documents", "a")], [], run_id="r")
    assert not current_stages(store)["text_to_persona"]


def test_a_clock_that_was_set_back_hides_no_commit(store: Store) -> None:
    os.utime(store.snapshot, (4e9, 4e9))
    assert not store.is_published()
    store.replace([hub("s1", "a")], [], run_id="r")
    store.publish()
    assert snapshot_rows(store, "select persona_id from personas.hub") == [("a",)]


def test_parts_of_copies_that_nobody_ends_are_removed(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = store.snapshot.with_name("published.duckdb.1.tmp")
    part.write_bytes(b"half")
    monkeypatch.setattr("persona_pipeline.store.snapshot.LEFT_BEHIND_S", -1)
    store.replace([hub("s1", "a")], [], run_id="r")
    store.publish()
    assert not part.exists()


def test_a_commit_stands_although_it_cannot_be_published(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    elsewhere = Store(store.path, store.path.parent / "none" / "published.duckdb")
    elsewhere.replace([hub("s1", "a")], [], run_id="r")
    assert rows_of(store, "select persona_id from personas.hub") == [("a",)]
    assert "published.duckdb cannot be written" in caplog.text
