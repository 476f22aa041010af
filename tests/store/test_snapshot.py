"""The snapshot: what is published, when, and what its readers see."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import pytest

from persona_pipeline.errors import StoreError
from persona_pipeline.store.snapshot import new_copy
from persona_pipeline.store.store import Store
from tests.support.stored_rows import hub, kill_after_commit, rejected, snapshot_rows


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


def test_a_snapshot_that_cannot_be_written_is_named(store: Store, tmp_path: Path) -> None:
    elsewhere = Store(store.path, tmp_path / "none" / "published.duckdb")
    with pytest.raises(StoreError, match=r"none/published\.duckdb cannot be written: .*No such"):
        elsewhere.publish()


def test_a_reader_keeps_the_snapshot_it_opened(store: Store) -> None:
    with duckdb.connect(str(store.snapshot), read_only=True) as reader:
        store.replace([hub("s1", "a")], [], run_id="r")
        store.publish()
        assert reader.execute("select count(*) from personas.hub").fetchall() == [(0,)]
    assert snapshot_rows(store, "select count(*) from personas.hub") == [(1,)]


def while_copying(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> list[Path]:
    """Count files as large, and act behind the first copy. Return the copies that are made."""
    copies = list[Path]()

    @contextmanager
    def copied(source: Path, target: Path) -> Iterator[Path]:
        with new_copy(source, target) as copy:
            copies.append(copy)
            if len(copies) == 1:
                act()
            yield copy

    monkeypatch.setattr("persona_pipeline.store.store.LARGE", 0)
    monkeypatch.setattr("persona_pipeline.store.store.new_copy", copied)
    return copies


def commit(store: Store, name: str) -> None:
    """Commit as another process: its log is merged into the file."""
    Store(store.path, store.snapshot).replace([hub("s1", name)], [], run_id="r")


def test_others_may_commit_while_a_large_file_is_copied(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies = while_copying(monkeypatch, lambda: commit(store, "b"))
    commit(store, "a")
    store.publish()
    assert len(copies) == 2  # it had changed, so it was copied again while nobody could write
    assert snapshot_rows(store, "select persona_id from personas.hub") == [("b",)]
    assert store.is_published()


def test_a_large_file_that_nobody_changes_is_copied_once_when_the_run_ends(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies = while_copying(monkeypatch, lambda: None)
    for name in "abc":
        commit(store, name)
    assert copies == []
    store.publish()
    assert len(copies) == 1
    assert snapshot_rows(store, "select persona_id from personas.hub") == [("c",)]


def test_a_copy_has_the_time_of_the_file_whatever_the_system_keeps_of_it(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "bin" / "cp"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\n{shutil.which("cp")} "$@" && touch -d @1 "$3"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)
    store.replace([hub("s1", "a")], [], run_id="r")
    store.publish()
    assert store.is_published()
    assert snapshot_rows(store, "select persona_id from personas.hub") == [("a",)]


@pytest.mark.parametrize("large", [0, 1 << 40])
def test_a_database_that_is_gone_is_named_when_it_is_to_be_published(
    store: Store, monkeypatch: pytest.MonkeyPatch, large: int
) -> None:
    monkeypatch.setattr("persona_pipeline.store.store.LARGE", large)
    store.path.unlink()
    with pytest.raises(StoreError, match=r"pipeline\.duckdb cannot be opened: .*does not exist"):
        store.publish()


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
