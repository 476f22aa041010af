"""Errors that a user can act on: a full disk, whoever finds it."""

import errno
import sqlite3
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest

from persona_pipeline.cli import main
from persona_pipeline.errors import StoreError, explain_full_disk


def full_file() -> None:
    raise OSError(errno.ENOSPC, "No space left on device", "data/shards/s1.parquet")


def full_sqlite() -> None:
    connection = sqlite3.connect(":memory:")
    connection.execute("pragma max_page_count = 1")
    connection.execute("create table t (x)")


def wrapped() -> None:
    try:
        full_sqlite()
    except sqlite3.Error as error:
        message = "the step failed"
        raise RuntimeError(message) from error


@pytest.mark.parametrize("write", [full_file, full_sqlite, wrapped])
def test_a_full_disk_is_one_sentence_whoever_finds_it(
    write: Callable[[], None], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def command(*, standalone_mode: bool) -> None:
        assert not standalone_mode
        write()

    monkeypatch.setattr(import_module("persona_pipeline.cli.main"), "cli", command)
    with pytest.raises(SystemExit) as ended:
        main()

    assert ended.value.code == 1
    said = " ".join(capsys.readouterr().err.split())
    assert said.startswith("error: the disk of the data directory")
    assert said.endswith("free some space, run the same command again")


def test_other_errors_say_nothing_of_the_disk(tmp_path: Path) -> None:
    with pytest.raises(sqlite3.OperationalError) as raised:
        sqlite3.connect(tmp_path / "none" / "x.db")
    assert explain_full_disk(raised.value) is None
    assert explain_full_disk(StoreError("the database is held")) is None
