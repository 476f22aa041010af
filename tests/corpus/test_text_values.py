"""Test which text a value of a record holds."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from persona_pipeline.corpus.document import Document
from persona_pipeline.corpus.options import CorpusOptions
from persona_pipeline.corpus.text_values import Unreadable, extract_text
from persona_pipeline.reasons import DocumentReason as Reason
from tests.support.source_rows import Rows, get_rejected, get_texts, read, read_bytes, summarize


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (["one", 2, None, "three"], "one\n\nthree"),
        ({"head": "one", "count": 2, "parts": ["two", "three"]}, "one\n\ntwo\n\nthree"),
        (
            [{"role": "user", "content": "Hello."}, {"role": "assistant", "content": "Hi!"}],
            "user: Hello.\n\nassistant: Hi!",
        ),
        (
            [{"from": "human", "value": "Hello."}, {"from": "gpt", "value": "Hi!", "weight": "1"}],
            "user: Hello.\n\nassistant: Hi!",
        ),
        (
            [
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "What is this?"},
                        {"type": "image_url", "image_url": {"url": "data:..."}},
                    ],
                },
                {"role": "assistant", "content": None, "tool_calls": [{"name": "look"}]},
            ],
            "user: What is this?",
        ),
        (b"caf\xc3\xa9", "café"),
    ],
)
def test_the_text_of_a_value_is_its_strings_or_its_turns(value: object, text: str) -> None:
    assert extract_text(value, "text") == text


@pytest.mark.parametrize("value", [[], {}])
def test_a_value_without_parts_is_empty(value: object) -> None:
    assert extract_text(value, "body") == Unreadable(Reason.EMPTY, "'body' is empty")


@pytest.mark.parametrize("value", [3, True, [1, None], {"a": {"b": 1}}])
def test_a_value_without_strings_has_a_wrong_type(value: object) -> None:
    detail = f"'body' holds {type(value).__name__}, not a string"
    assert extract_text(value, "body") == Unreadable(Reason.WRONG_TYPE, detail)


def test_bytes_in_a_list_are_decoded_as_others_are(tmp_path: Path) -> None:
    pages = pa.array([["<p>Café</p>".encode("latin-1")]], pa.list_(pa.binary()))
    pq.write_table(pa.table({"html": pages}), tmp_path / "pages.parquet")
    assert get_texts(read(tmp_path / "pages.parquet")) == ["Café"]
    pq.write_table(pa.table({"text": pages}), tmp_path / "texts.parquet")
    assert summarize(read(tmp_path / "texts.parquet")) == [(1, Reason.INVALID_UTF8)]


def test_texts_are_looked_for_to_a_depth_that_python_bears() -> None:
    value: object = "deep"
    for _ in range(5000):
        value = [value]
    assert extract_text(["here", value], "text") == "here"


@pytest.mark.parametrize("field", ["messages", "conversations"])
def test_a_chat_is_the_text_of_a_record_that_has_no_other(tmp_path: Path, field: str) -> None:
    chat = [{"role": "user", "content": "Hello."}]
    record = json.dumps({"id": 1, field: chat}).encode()
    assert get_texts(read_bytes(tmp_path, "a.jsonl", record)) == ["user: Hello."]
    record = json.dumps({"text": "a text", field: chat}).encode()
    assert get_texts(read_bytes(tmp_path, "a.jsonl", record)) == ["a text"]
    record = json.dumps({"text": None, field: chat}).encode()
    assert summarize(read_bytes(tmp_path, "a.jsonl", record)) == [(1, Reason.MISSING_TEXT)]
    options = CorpusOptions(min_chars=1, text_field=field)
    record = json.dumps({"text": "a text", field: chat}).encode()
    assert get_texts(read_bytes(tmp_path, "a.jsonl", record, options)) == ["user: Hello."]


def test_the_rejection_of_a_value_names_its_field(tmp_path: Path) -> None:
    (row,) = get_rejected(read_bytes(tmp_path, "a.jsonl", b'{"messages": [1]}'))
    assert (row.reason, row.detail) == (
        Reason.WRONG_TYPE,
        "'messages' holds list, not a string",
    )


PAGE = (
    '<!doctype html><html lang="de"><head><title>Salt</title></head><body>'
    "<nav><a href='/'>Home</a></nav><article><p>Of salt &amp; rye.</p></article></body></html>"
)


@pytest.mark.parametrize(
    "record",
    [
        {"html": PAGE},
        {"raw_html": PAGE, "id": 3},
        {"text": PAGE},
        {"content": f"\ufeff <!-- saved --> {PAGE}"},
    ],
)
def test_the_text_of_a_page_in_a_record_is_its_main_text(
    tmp_path: Path, record: dict[str, object]
) -> None:
    lines = json.dumps(record).encode() + b"\n" + json.dumps({"title": "Mine", **record}).encode()
    first, second = read_bytes(tmp_path, "a.jsonl", lines)
    assert isinstance(first, Document)
    assert isinstance(second, Document)
    assert (first.text, first.title, first.language) == ("Of salt & rye.", "Salt", "de")
    assert second.title == "Mine"


def test_a_field_named_html_may_hold_a_part_of_a_page_in_any_encoding(tmp_path: Path) -> None:
    table = pa.table({"bodyHtml": [b"<p>Caf\xe9 <b>noir</b></p>", b"<script>1</script>", None]})
    pq.write_table(table, tmp_path / "a.parquet")
    rows = read(tmp_path / "a.parquet", CorpusOptions(min_chars=1, text_field="bodyHtml"))
    assert summarize(rows) == [
        (1, "Café noir"),
        (2, Reason.NO_MAIN_TEXT),
        (3, Reason.MISSING_TEXT),
    ]


@pytest.mark.parametrize(
    ("value", "row"),
    [
        ("<p>Half a \ud800 character, &amp; more.</p>", "Half a \ufffd character, & more."),
        (["<p>one</p>", "<p>two</p>"], "one\n\ntwo"),
        ([f"{PAGE}", f"<title>T</title>{PAGE}"], "Of salt & rye.\n\nOf salt & rye."),
        (["", "<p>two</p>"], "two"),
        ({"body": "<p>one</p>"}, "one"),
        ("<div>" * 5000 + "deep", "deep"),
        ("no tags", "no tags"),
        ("", Reason.NO_MAIN_TEXT),
        (3, Reason.WRONG_TYPE),
        (None, Reason.MISSING_TEXT),
    ],
)
def test_whatever_a_field_named_html_holds_is_read_or_rejected(
    tmp_path: Path, value: object, row: str
) -> None:
    record = json.dumps({"html": value}).encode()
    assert summarize(read_bytes(tmp_path, "a.jsonl", record)) == [(1, row)]


@pytest.mark.parametrize(
    "text",
    [
        "<p> begins a paragraph.",
        "Write <html> first.",
        "<htmlx> is none.",
        "a < b",
        "<html> is the root of a page.",
        "<!doctype html> says which HTML the page is in. <p> follows.",
        "<!-- a note -->" * 60 + "text",
    ],
)
def test_a_text_about_html_is_no_page(tmp_path: Path, text: str) -> None:
    assert get_texts(read_bytes(tmp_path, "a.jsonl", json.dumps({"text": text}).encode())) == [text]


CHAT = [{"role": "user", "content": "Hello."}]


@pytest.mark.parametrize("kind", ["jsonl", "parquet", "arrow"])
def test_of_the_fields_that_stand_in_for_a_text_each_row_takes_the_first_that_it_has(
    tmp_path: Path, kind: str
) -> None:
    records: list[dict[str, object]] = [
        {"messages": CHAT, "html": PAGE, "raw_html": None},
        {"messages": None, "html": PAGE, "raw_html": "<p>other</p>"},
        {"messages": [], "html": "", "raw_html": "<p>other</p>"},
        {"messages": None, "html": None, "raw_html": "<p>other</p>"},
        {"messages": None, "html": None, "raw_html": None},
    ]
    assert summarize(read_records(tmp_path, records, kind)) == [
        (1, "user: Hello."),
        (2, "Of salt & rye."),
        (3, "other"),
        (4, "other"),
        (5, Reason.MISSING_TEXT),
    ]


@pytest.mark.parametrize("kind", ["jsonl", "parquet", "arrow", "csv"])
def test_a_count_of_messages_hides_no_page(tmp_path: Path, kind: str) -> None:
    records: list[dict[str, object]] = [{"messages": count, "html": PAGE} for count in (12, 3)]
    assert get_texts(read_records(tmp_path, records, kind)) == ["Of salt & rye."] * 2


def read_records(folder: Path, records: Sequence[Mapping[str, object]], kind: str) -> Rows:
    """Read a file of these records in one of the formats."""
    path, table = folder / f"records.{kind}", pl.DataFrame(records)
    if kind == "jsonl":
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
    elif kind == "parquet":
        table.write_parquet(path)
    elif kind == "arrow":
        table.write_ipc(path)
    else:
        table.write_csv(path)
    return read(path)


def test_a_page_beside_a_text_is_not_read(tmp_path: Path) -> None:
    record = json.dumps({"text": "a text", "html": PAGE}).encode()
    assert get_texts(read_bytes(tmp_path, "a.jsonl", record)) == ["a text"]
