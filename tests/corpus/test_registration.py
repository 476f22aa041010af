"""Test what the registration of web archives counts besides their pages."""

from pathlib import Path

import pytest

from persona_pipeline.corpus.registration import register_source
from persona_pipeline.errors import SourceError
from persona_pipeline.project import Project
from persona_pipeline.settings import load_settings
from persona_pipeline.store.store import Store
from tests.support.web_archives import make_page, make_record


def register(store: Store, source: Path) -> None:
    settings = load_settings(source=str(source), data_dir=store.path.parent, min_chars=5)
    register_source(Project(settings).source_plan, settings, store, run_id="r")


def write_archive(path: Path, *records: bytes) -> None:
    path.write_bytes(b"".join(records))


def skipped_rows(store: Store) -> list[tuple[object, ...]]:
    query = "select file, reason, record_count from corpus.skipped order by file, reason"
    return store.query(query).rows()


PAGE = make_record(make_page().encode(), "Content-Type: text/html", kind="resource")
REQUEST = make_record(b"GET / HTTP/1.1\r\n\r\n", kind="request")
IMAGE = make_record(b"", "Content-Type: image/png", kind="resource")


def test_records_without_a_page_are_counted_by_file_and_reason(
    store: Store, tmp_path: Path
) -> None:
    crawl = tmp_path / "crawl"
    crawl.mkdir()
    write_archive(crawl / "a.warc", REQUEST, PAGE, IMAGE, REQUEST)
    write_archive(crawl / "b.warc", REQUEST)
    register(store, crawl)
    expected = [("a.warc", "content_type", 1), ("a.warc", "request", 2), ("b.warc", "request", 1)]
    assert skipped_rows(store) == expected
    register(store, crawl)
    assert skipped_rows(store) == expected
    write_archive(crawl / "a.warc", PAGE)
    register(store, crawl)
    assert skipped_rows(store) == [("b.warc", "request", 1)]


def test_an_archive_without_a_page_says_what_it_holds(store: Store, tmp_path: Path) -> None:
    write_archive(tmp_path / "a.warc", REQUEST, IMAGE, REQUEST)
    expected = r"no documents, only records without a page: request 2, content_type 1"
    with pytest.raises(SourceError, match=expected):
        register(store, tmp_path / "a.warc")
