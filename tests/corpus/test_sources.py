"""Test what a spec may be, and the names of sources."""

import json
import re
from pathlib import Path

import pytest

from persona_pipeline.corpus.document import Document, RejectedDocument
from persona_pipeline.corpus.options import CorpusOptions
from persona_pipeline.corpus.sources import read_source, source_name
from persona_pipeline.corpus.wikipedia import read_leads
from persona_pipeline.errors import SourceError
from persona_pipeline.reasons import DocumentReason as Reason

OPTIONS = CorpusOptions(min_chars=5)


@pytest.mark.parametrize("spec", ["no/such/file.jsonl", "", "  ", "~/no/such", "x" * 5000])
def test_a_spec_that_is_nothing_lists_what_is_accepted(spec: str) -> None:
    message = "there is no file or folder .*; accepted: wikipedia.*a folder.*s3://.*read_parquet"
    with pytest.raises(SourceError, match=message):
        read_source(spec, OPTIONS)


def test_a_glob_that_matches_nothing_says_so(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"no file matches .*none\*"):
        read_source(str(tmp_path / "none*.jsonl"), OPTIONS)


def test_a_single_file_of_unknown_type_is_no_source(tmp_path: Path) -> None:
    (tmp_path / "a.docx").write_bytes(b"PK")
    with pytest.raises(SourceError, match=r"no reader for the file .*a\.docx'; accepted"):
        read_source(str(tmp_path / "a.docx"), OPTIONS)


def test_an_unknown_wikipedia_is_no_source() -> None:
    with pytest.raises(SourceError, match="leads 'de'; known: en, es, fr"):
        read_source("wikipedia:de", OPTIONS)


def test_a_file_uri_is_a_path(tmp_path: Path) -> None:
    (tmp_path / "a b.txt").write_bytes(b"some text")
    (row,) = read_source((tmp_path / "a b.txt").as_uri(), OPTIONS)
    assert (row.file, row.source) == ("a b.txt", "a b.txt")


def test_a_home_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "a.txt").write_bytes(b"some text")
    assert [row.file for row in read_source("~/a.txt", OPTIONS)] == ["a.txt"]


def test_wikipedia_leads_carry_their_article_and_license(tmp_path: Path) -> None:
    file = tmp_path / "leads.json"
    leads = {
        "AC/DC": {"title": "AC/DC", "extract": "A band.", "description": "", "topic": "Arts"},
        "Rumi": {"title": "Djalâl ad-Dîn Rûmî", "extract": "Un poète."},
        "Short": {"title": "Short", "extract": "No."},
        "Nothing": {"title": "Nothing"},
    }
    file.write_text(json.dumps(leads), encoding="utf-8")
    rows = sorted(read_leads(file, "fr", OPTIONS), key=lambda row: row.line or 0)
    wiki = "https://fr.wikipedia.org/wiki/"
    assert rows[0] == Document(
        text="A band.",
        source="wikipedia:fr",
        url=wiki + "AC/DC",
        language="fr",
        license="CC BY-SA 4.0",
        title="AC/DC",
        file="leads.json",
        line=1,
        topic="Arts",
    )
    assert isinstance(rows[1], Document)
    assert (rows[1].url, rows[1].title, rows[1].topic) == (
        wiki + "Djal%C3%A2l_ad-D%C3%AEn_R%C3%BBm%C3%AE",
        "Djalâl ad-Dîn Rûmî",
        None,
    )
    assert [(row.reason, row.line) for row in rows if isinstance(row, RejectedDocument)] == [
        (Reason.TOO_SHORT, 3),
        (Reason.MISSING_TEXT, 4),
    ]


def test_wikipedia_leads_come_in_an_order_that_mixes_topics(tmp_path: Path) -> None:
    titles = [f"{topic} {number:02}" for topic in "ABCDE" for number in range(20)]
    leads = {title: {"title": title, "extract": "Some text."} for title in titles}
    file = tmp_path / "leads.json"
    file.write_text(json.dumps(leads), encoding="utf-8")
    first = [row.title for row in read_leads(file, "en", OPTIONS) if isinstance(row, Document)]
    assert sorted(first) == titles  # type: ignore[type-var]  # every lead has a title
    assert {str(title)[0] for title in first[:20]} == set("ABCDE")
    file.write_text(json.dumps(dict(reversed(leads.items()))), encoding="utf-8")
    again = [row.title for row in read_leads(file, "en", OPTIONS) if isinstance(row, Document)]
    assert again == first


def test_broken_wikipedia_leads_say_what_to_remove(tmp_path: Path) -> None:
    (tmp_path / "leads.json").write_bytes(b"{")
    with pytest.raises(SourceError, match="remove it and run again"):
        list(read_leads(tmp_path / "leads.json", "en", OPTIONS))


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        ("wikipedia", "wikipedia"),
        ("wikipedia:en", "wikipedia"),
        ("wikipedia:fr", "wikipedia-fr"),
        ("data/CC-MAIN-2024-00001.warc.wet.gz", "CC-MAIN-2024-00001-"),
        ("data/my pages.v2.jsonl", "my-pages-v2-"),
        ("data/*.jsonl.gz", "data-"),
        ("/srv/données/", "donnees-"),
        ("s3://bucket/x/part_1.parquet?signature=secret", "part_1-"),
        ("https://me:secret@ex.org/*.json", "ex-org-"),
        ("read_parquet('s3://bucket/pages/*.parquet')", "pages-"),
        (".", "corpus-"),
        ("文章", "corpus-"),
        ("x" * 200, "x" * 40 + "-"),
    ],
)
def test_a_source_name_is_short_and_recognizable(spec: str, name: str) -> None:
    pattern = re.escape(name) + ("[0-9a-f]{6}" if name.endswith("-") else "")
    assert re.fullmatch(pattern, source_name(spec))


def test_a_source_name_is_the_same_for_the_same_spec_only() -> None:
    assert source_name("data/a.jsonl") == "a-f6461e"
    assert source_name("data/") == source_name("data")
    assert source_name("data/a.jsonl") != source_name("other/a.jsonl")
    with pytest.raises(SourceError, match="unknown language"):
        source_name("wikipedia:xx")
