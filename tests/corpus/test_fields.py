"""Test where a record's text, URL and other fields are found: plain names, paths, corpora."""

import json
from collections import Counter
from pathlib import Path

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue

from persona_pipeline.corpus.document import Document, RejectedDocument
from persona_pipeline.corpus.options import CorpusOptions, find_value, list_paths
from persona_pipeline.corpus.registration import SourcePlan, stage_source
from persona_pipeline.corpus.sources import read_source
from persona_pipeline.errors import SourceError
from persona_pipeline.reasons import DocumentReason
from tests.support.source_rows import read, summarize

RECORDS: dict[str, dict[str, JsonValue]] = {
    "plain": {"text": "Of salt.", "url": "http://e.org/1", "language": "en", "license": "CC0"},
    "dolma": {
        "id": "1",
        "text": "Of salt.",
        "source": "cc",
        "metadata": {"url": "http://e.org/1", "language": "en", "license": "CC0"},
    },
    "redpajama 1": {
        "text": "Of salt.",
        "meta": {"url": "http://e.org/1", "language": "en", "license": "CC0"},
    },
    "redpajama 2": {
        "raw_content": "Of salt.",
        "url": "http://e.org/1",
        "language": "en",
        "license": "CC0",
    },
    "oscar": {
        "content": "Of salt.",
        "warc_headers": {"warc-target-uri": "http://e.org/1"},
        "metadata": {"identification": {"label": "en", "prob": 0.9}},
        "license": "CC0",
    },
}


def write_lines(path: Path, *records: dict[str, JsonValue]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def write_parquet(path: Path, lines: Path) -> Path:
    duckdb.sql(f"copy (from read_json('{lines}')) to '{path}'")
    return path


@pytest.mark.parametrize("corpus", RECORDS)
@pytest.mark.parametrize("is_parquet", [False, True])
def test_the_layouts_of_well_known_corpora_are_known(
    tmp_path: Path, corpus: str, *, is_parquet: bool
) -> None:
    file = write_lines(tmp_path / "a.jsonl", RECORDS[corpus])
    file = write_parquet(tmp_path / "a.parquet", file) if is_parquet else file
    [row] = read_source(str(file), CorpusOptions(min_chars=1))
    assert isinstance(row, Document)
    assert (row.text, row.url) == ("Of salt.", "http://e.org/1")
    assert (row.language, row.license) == ("en", "CC0")


@pytest.mark.parametrize("is_parquet", [False, True])
def test_a_field_may_be_a_path_to_a_nested_one(tmp_path: Path, *, is_parquet: bool) -> None:
    record: dict[str, JsonValue] = {
        "text": "not this one",
        "page": {"body": "Of salt.", "at": {"link": "http://e.org/1"}, "head.line": "Salt"},
        "page.rights": "CC0",
    }
    options = CorpusOptions(
        text_field="page.body",
        url_field="page.at.link",
        title_field="page.head.line",
        license_field="page.rights",
        min_chars=1,
    )
    file = write_lines(tmp_path / "a.jsonl", record)
    file = write_parquet(tmp_path / "a.parquet", file) if is_parquet else file
    [row] = read_source(str(file), options)
    assert isinstance(row, Document)
    assert (row.text, row.url, row.title) == ("Of salt.", "http://e.org/1", "Salt")
    assert row.license == "CC0"


def test_a_named_field_stands_for_itself_alone(tmp_path: Path) -> None:
    file = write_lines(tmp_path / "a.jsonl", {"text": "Of salt.", "link": None, "url": "http://x"})
    [row] = read_source(str(file), CorpusOptions(url_field="link", min_chars=1))
    assert isinstance(row, Document)
    assert row.url == f"{file.as_uri()}#L1"


@pytest.mark.parametrize("is_parquet", [False, True])
def test_a_named_field_that_no_row_has_is_refused_before_anything_is_staged(
    tmp_path: Path, *, is_parquet: bool
) -> None:
    lines = write_lines(tmp_path / "a.jsonl", RECORDS["dolma"], RECORDS["dolma"])
    file = write_parquet(tmp_path / "a.parquet", lines) if is_parquet else lines
    plan = SourcePlan(str(file), CorpusOptions(url_field="meta.link", min_chars=1), 10, None)
    with pytest.raises(SourceError, match=r"no field 'meta.link' in the first 2 rows .*'source', "):
        stage_source(plan, tmp_path / "shards", Counter())
    assert not (tmp_path / "shards").exists()


def test_a_text_field_that_no_row_has_is_named_before_the_others(tmp_path: Path) -> None:
    chat: dict[str, JsonValue] = {"messages": [{"role": "user", "content": "one"}]}
    lines = write_lines(tmp_path / "a.jsonl", RECORDS["dolma"], chat)
    options = CorpusOptions(text_field="doc.body", url_field="meta.link", min_chars=1)
    with pytest.raises(SourceError, match=r"no field 'doc.body' in the first 2 rows"):
        stage_source(SourcePlan(str(lines), options, 10, None), tmp_path / "shards", Counter())


def test_no_more_is_read_than_is_asked_for_unless_a_field_is_named(tmp_path: Path) -> None:
    records: list[dict[str, JsonValue]] = [{"text": f"Of salt {i}."} for i in range(50)]
    lines = write_lines(tmp_path / "a.jsonl", *records)
    options = CorpusOptions(min_chars=1)
    plan = SourcePlan(str(lines), options, 10, limit=3)
    stage_source(plan, tmp_path / "shards", Counter())
    last = options.fields_met.last
    assert last == {"text": "Of salt 3."}  # one more than asked for shows that there are more


def test_a_named_field_that_some_rows_have_is_no_mistake(tmp_path: Path) -> None:
    file = write_lines(tmp_path / "a.jsonl", {"text": "Of salt."}, {"text": "Of rye.", "link": "x"})
    plan = SourcePlan(str(file), CorpusOptions(url_field="link", min_chars=1), 10, None)
    [shard] = stage_source(plan, tmp_path / "shards", Counter())
    assert shard.document_count == 2


NAMES = st.text("ab.", min_size=1, max_size=3)
NESTED = st.recursive(
    st.integers(), lambda inner: st.dictionaries(NAMES, inner, min_size=1, max_size=3), max_leaves=6
)


@given(st.dictionaries(NAMES, NESTED, max_size=4))
def test_every_path_that_is_listed_leads_to_a_value(record: dict[str, object]) -> None:
    for path in list_paths(record):
        assert find_value(record, path) is not None


@pytest.mark.parametrize(
    ("record", "detail"),
    [
        ({"doc": {"body": None, "id": 1}}, "'doc.body' is null"),
        ({"doc": {}}, "the object is empty"),
        ({"doc": {"text": "x"}}, "no field 'doc.body'; set text_field to one of: 'doc.text'"),
    ],
)
def test_a_nested_text_that_is_missing_is_described(
    tmp_path: Path, record: dict[str, JsonValue], detail: str
) -> None:
    file = write_lines(tmp_path / "a.jsonl", record)
    [row] = read_source(str(file), CorpusOptions(text_field="doc.body"))
    assert isinstance(row, RejectedDocument)
    assert row.detail == detail


def test_an_object_that_is_nested_too_deep_to_list_its_fields_costs_its_row(tmp_path: Path) -> None:
    deep = '{"a":' * 900 + "1" + "}" * 900
    (tmp_path / "a.jsonl").write_text(f'{{"text": "one"}}\n{deep}\n{{"text": "two"}}\n')
    rows = read(tmp_path / "a.jsonl")
    assert summarize(rows) == [(1, "one"), (2, DocumentReason.MISSING_TEXT), (3, "two")]
