"""Watched places: what a new, grown, changed, deleted or broken file does, and what stays."""

import json
import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from persona_pipeline.corpus.options import CorpusOptions
from persona_pipeline.corpus.rows import Skipped
from persona_pipeline.corpus.shards import Row, load_shard
from persona_pipeline.corpus.sources import read_files
from persona_pipeline.corpus.watching import ScanResult, ingest, scan
from persona_pipeline.errors import SourceError
from persona_pipeline.project import Project
from persona_pipeline.settings import Settings, load_settings
from persona_pipeline.store.store import Store
from tests.support.web_archives import make_page, make_record

LATER = datetime.now(UTC).replace(tzinfo=None) + timedelta(days=1)
TEXTS = {name: f"This is the text called {name}, long enough to be read." for name in "abcdefg"}


class Inbox:
    """A watched folder and the store that knows it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "inbox"
        self.folder.mkdir()
        self.settings: Settings = load_settings(
            data_dir=folder / "data", watch=str(self.folder), min_chars=10, shard_size=2
        )
        self.store = Store(self.settings.database, self.settings.snapshot)
        self.store.migrate()

    @property
    def place(self) -> str:
        return self.settings.watch[0]

    def write(self, name: str, *texts: str) -> Path:
        """A file of these texts, by their letters, last changed some time ago."""
        path = self.folder / name
        lines = [json.dumps({"text": TEXTS.get(text, text)}) for text in texts]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return path

    def scan(self) -> list[str]:
        """Ingest what is new; the new shards."""
        seen = scan(self.store, self.place, now=LATER)
        return [] if seen.is_idle else self.ingest(seen)

    def ingest(self, seen: ScanResult) -> list[str]:
        """Ingest what a scan has seen, as these settings say; the new shards."""
        return ingest(
            self.store,
            seen,
            self.settings,
            options=Project(self.settings).corpus_options,
            shard_size=self.settings.shard_size,
            run_id="r",
        )

    def states(self) -> dict[str, str]:
        return dict(self.store.query("select file, state from corpus.files").iter_rows())

    def counts(self, file: str) -> tuple[int, ...]:
        query = (
            "select document_count, new_count, rejected_count from corpus.files where file = $file"
        )
        return self.store.query(query, {"file": file}).row(0)

    def texts(self, shard: str) -> str:
        """The letters of the documents of a shard."""
        names = {text: name for name, text in TEXTS.items()}
        documents = self._rows(shard, "corpus.documents")["text"]
        return "".join(names[text] for text in documents)

    def rejected(self, shard: str) -> list[tuple[str, str]]:
        return self._rows(shard, "corpus.rejected").select("file", "reason").rows()

    def _rows(self, shard: str, table: str) -> pl.DataFrame:
        return load_shard(shard, self.settings.staging_dir / f"{shard}.parquet").tables[table]


@pytest.fixture
def inbox(tmp_path: Path) -> Inbox:
    return Inbox(tmp_path)


def test_new_files_become_shards_of_their_own_and_older_ones_stay(inbox: Inbox) -> None:
    inbox.write("one.jsonl", "a")
    [first] = inbox.scan()
    before = (inbox.settings.staging_dir / f"{first}.parquet").read_bytes()
    inbox.write("two.jsonl", "b", "c", "d")
    second, third = inbox.scan()

    assert [inbox.texts(shard) for shard in (first, second, third)] == ["a", "bc", "d"]
    assert (inbox.settings.staging_dir / f"{first}.parquet").read_bytes() == before
    assert inbox.states() == {"one.jsonl": "new", "two.jsonl": "new"}
    numbers = inbox.store.query("select shard_number from corpus.shards order by shard")
    assert numbers["shard_number"].to_list() == [0, 1, 2]


def test_nothing_new_is_nothing_to_do(inbox: Inbox) -> None:
    inbox.write("one.jsonl", "a")
    inbox.scan()
    assert scan(inbox.store, inbox.place, now=LATER).is_idle
    assert inbox.scan() == []


def test_an_empty_folder_has_nothing_to_read(inbox: Inbox) -> None:
    assert scan(inbox.store, inbox.place).is_idle


def test_a_grown_file_brings_only_what_was_added(inbox: Inbox) -> None:
    inbox.write("log.jsonl", "a", "b")
    inbox.scan()
    inbox.write("log.jsonl", "a", "b", "c")
    [second] = inbox.scan()
    assert inbox.texts(second) == "c"
    assert inbox.states() == {"log.jsonl": "grown"}
    assert inbox.counts("log.jsonl") == (3, 1, 0)


def test_a_changed_file_brings_its_new_texts_and_the_old_ones_stay(inbox: Inbox) -> None:
    inbox.write("page.jsonl", "a", "b")
    [first] = inbox.scan()
    inbox.write("page.jsonl", "a", "c")
    [second] = inbox.scan()
    assert inbox.texts(first) == "ab"
    assert inbox.texts(second) == "c"
    assert inbox.states() == {"page.jsonl": "changed"}


def test_a_file_that_was_only_touched_brings_nothing(inbox: Inbox) -> None:
    path = inbox.write("page.jsonl", "a")
    inbox.scan()
    os.utime(path, (1_000_000_000, 1_000_000_000))
    assert inbox.scan() == []
    assert inbox.states() == {"page.jsonl": "same"}


def test_a_deleted_file_is_gone_and_its_documents_stay(inbox: Inbox) -> None:
    path = inbox.write("page.jsonl", "a")
    [first] = inbox.scan()
    path.unlink()
    assert inbox.scan() == []
    assert inbox.states() == {"page.jsonl": "gone"}
    assert inbox.texts(first) == "a"
    assert scan(inbox.store, inbox.place, now=LATER).is_idle


def test_a_file_that_comes_back_is_read_again_and_brings_nothing_twice(inbox: Inbox) -> None:
    path = inbox.write("page.jsonl", "a")
    inbox.scan()
    path.unlink()
    inbox.scan()
    inbox.write("page.jsonl", "a", "b")
    [second] = inbox.scan()
    assert inbox.texts(second) == "b"
    assert inbox.states() == {"page.jsonl": "grown"}


@pytest.mark.parametrize(
    ("name", "spoil", "reason"),
    [
        ("page.parquet", lambda path: path.write_bytes(b"PAR1 and no more"), "broken_file"),
        ("page.jsonl", lambda path: path.write_bytes(b'{"text": '), "broken_json"),
        ("page.doc", lambda path: path.write_bytes(b"\xd0\xcf\x11\xe0"), "unsupported_file"),
    ],
)
def test_a_broken_file_is_rejected_with_its_reason_once(
    inbox: Inbox, name: str, spoil: Callable[[Path], object], reason: str
) -> None:
    spoil(inbox.folder / name)
    [shard] = inbox.scan()
    assert inbox.rejected(shard) == [(name, reason)]
    assert inbox.states() == {name: "rejected"}
    os.utime(inbox.folder / name, (1_000_000_000, 1_000_000_000))
    assert inbox.scan() == []


def test_a_broken_file_that_is_repaired_brings_its_texts(inbox: Inbox) -> None:
    (inbox.folder / "page.jsonl").write_text('{"text": ')
    inbox.scan()
    inbox.write("page.jsonl", "a")
    [second] = inbox.scan()
    assert inbox.texts(second) == "a"
    assert inbox.states() == {"page.jsonl": "grown"}


def test_a_text_that_another_file_brought_is_rejected_as_its_duplicate(inbox: Inbox) -> None:
    inbox.write("one.jsonl", "a", "b")
    inbox.scan()
    inbox.write("two.jsonl", "b", "c", "c")
    [second] = inbox.scan()
    assert inbox.texts(second) == "c"
    assert inbox.rejected(second) == [("two.jsonl", "duplicate")] * 2
    assert inbox.counts("two.jsonl") == (2, 1, 0)


def test_a_file_that_is_being_written_waits_for_the_next_scan(inbox: Inbox) -> None:
    inbox.write("page.jsonl", "a")
    seen = scan(inbox.store, inbox.place)
    assert (seen.to_read, seen.waiting) == ([], ["page.jsonl"])
    assert seen.is_idle


def test_a_file_that_grows_while_it_is_read_is_read_again(
    inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_grown(
        place: str, wanted: set[str], options: CorpusOptions, skipped: Skipped
    ) -> Iterator[Row]:
        inbox.write("page.jsonl", "a", "b")
        return read_files(place, wanted, options, skipped)

    inbox.write("page.jsonl", "a")
    with monkeypatch.context() as patched:
        patched.setattr("persona_pipeline.corpus.watching.read_files", read_grown)
        [first] = inbox.scan()
    assert inbox.texts(first) == "ab"
    assert not scan(inbox.store, inbox.place, now=LATER).is_idle
    assert inbox.scan() == []
    assert inbox.states() == {"page.jsonl": "same"}


def test_a_file_that_another_process_ingested_since_the_scan_is_not_read_again(
    inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    inbox.write("one.jsonl", "a")
    gone = inbox.write("two.jsonl", "b")
    inbox.scan()
    gone.unlink()
    inbox.write("one.jsonl", "a", "c")
    seen = scan(inbox.store, inbox.place, now=LATER)
    [shard] = inbox.ingest(seen)
    files = inbox.store.query("from corpus.files order by file")
    monkeypatch.setattr("persona_pipeline.corpus.watching.read_files", pytest.fail)
    assert inbox.ingest(seen) == []
    assert inbox.store.query("from corpus.files order by file").equals(files)
    assert inbox.texts(shard) == "c"


def test_an_old_scan_does_not_undo_a_newer_one(inbox: Inbox) -> None:
    path = inbox.write("one.jsonl", "a")
    inbox.scan()
    inbox.write("one.jsonl", "a", "b")
    grown = scan(inbox.store, inbox.place, now=LATER)
    path.unlink()
    gone = scan(inbox.store, inbox.place, now=LATER)
    inbox.write("one.jsonl", "a", "b", "c")
    inbox.scan()
    for old in (grown, gone):
        assert inbox.ingest(old) == []
    assert inbox.states() == {"one.jsonl": "grown"}
    assert scan(inbox.store, inbox.place, now=LATER).is_idle


def test_shards_that_a_killed_process_staged_are_registered_by_the_next_scan(
    inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    inbox.write("one.jsonl", "a")
    with monkeypatch.context() as patch:
        patch.setattr("persona_pipeline.corpus.watching._enter", _killed)
        with pytest.raises(KeyboardInterrupt):
            inbox.scan()
    assert len(list(inbox.settings.staging_dir.iterdir())) == 1
    [first] = inbox.scan()
    assert inbox.texts(first) == "a"


def _killed(*_: object) -> list[str]:
    raise KeyboardInterrupt


def test_a_folder_that_is_not_there_is_named_and_nothing_counts_as_gone(inbox: Inbox) -> None:
    inbox.write("one.jsonl", "a")
    inbox.scan()
    inbox.folder.rename(inbox.folder.with_name("away"))
    with pytest.raises(SourceError, match=r"there is no file or folder .*inbox"):
        inbox.scan()
    assert inbox.states() == {"one.jsonl": "new"}


def test_a_packaged_corpus_cannot_be_watched(inbox: Inbox) -> None:
    with pytest.raises(SourceError, match="wikipedia never changes"):
        scan(inbox.store, "wikipedia")


def test_a_pattern_and_a_table_function_can_be_watched(inbox: Inbox) -> None:
    inbox.write("one.jsonl", "a")
    inbox.write("two.json", "b")
    [file] = scan(inbox.store, f"{inbox.folder}/*.jsonl", now=LATER).to_read
    assert file.file == "one.jsonl"
    remote = scan(inbox.store, f"read_json('{inbox.folder}/*.json*')", now=LATER)
    assert [file.file for file in remote.to_read] == ["one.jsonl", "two.json"]
    assert inbox.ingest(remote)
    assert scan(inbox.store, remote.place, now=LATER).is_idle


def test_files_of_one_name_in_several_folders_are_distinguished(inbox: Inbox) -> None:
    for name in "ab":
        (inbox.folder / name).mkdir()
        inbox.write(f"{name}/part-0.json", name)
    place = f"read_json('{inbox.folder}/*/part-0.json')"
    first = scan(inbox.store, place, now=LATER)
    assert [file.file for file in first.to_read] == ["a/part-0.json", "b/part-0.json"]
    inbox.ingest(first)
    assert scan(inbox.store, place, now=LATER).is_idle


def test_the_last_file_of_a_pattern_may_go(inbox: Inbox) -> None:
    path = inbox.write("only.json", "a")
    place = f"read_json('{inbox.folder}/*.json')"
    inbox.ingest(scan(inbox.store, place, now=LATER))
    path.unlink()
    inbox.ingest(scan(inbox.store, place, now=LATER))
    assert inbox.states() == {"only.json": "gone"}
    assert scan(inbox.store, place, now=LATER).is_idle


def test_a_file_that_changed_once_is_not_changed_for_ever(inbox: Inbox) -> None:
    inbox.write("page.jsonl", "a", "b")
    inbox.scan()
    inbox.write("page.jsonl", "a", "c")
    inbox.scan()
    inbox.write("page.jsonl", "a", "c", "d")
    inbox.scan()
    assert inbox.states() == {"page.jsonl": "grown"}


def test_a_file_from_the_future_is_read(inbox: Inbox) -> None:
    path = inbox.write("page.jsonl", "a")
    os.utime(path, (4e9, 4e9))
    assert len(scan(inbox.store, inbox.place).to_read) == 1


def test_records_without_a_page_are_counted_anew_when_their_file_is_read(inbox: Inbox) -> None:
    page = make_record(make_page().encode(), "Content-Type: text/html", kind="resource")
    request = make_record(b"", kind="request")
    query = "select file, reason, record_count from corpus.skipped order by file"
    (inbox.folder / "a.warc").write_bytes(page + request)
    (inbox.folder / "b.warc").write_bytes(request * 2)
    inbox.scan()
    assert inbox.store.query(query).rows() == [("a.warc", "request", 1), ("b.warc", "request", 2)]
    (inbox.folder / "a.warc").write_bytes(page + request * 3)
    (inbox.folder / "b.warc").unlink()
    inbox.scan()
    assert inbox.store.query(query).rows() == [("a.warc", "request", 3), ("b.warc", "request", 2)]
