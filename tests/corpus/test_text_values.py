"""Test which text a value of a record holds."""

import json
from pathlib import Path

import pytest

from persona_pipeline.corpus.options import CorpusOptions
from persona_pipeline.corpus.text_values import Unreadable, extract_text
from persona_pipeline.reasons import DocumentReason as Reason
from tests.support.source_rows import get_rejected, get_texts, read_bytes, summarize


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


@pytest.mark.parametrize("value", [3, True, [], {}, [1, None], {"a": {"b": 1}}])
def test_a_value_without_strings_has_a_wrong_type(value: object) -> None:
    detail = f"'body' holds {type(value).__name__}, not a string"
    assert extract_text(value, "body") == Unreadable(Reason.WRONG_TYPE, detail)


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
