"""Test the one form that every text gets."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from persona_pipeline.corpus.normalize import (
    normalize_label,
    normalize_language,
    normalize_text,
    normalize_url,
)

any_text = st.text(st.characters())  # lone surrogates too


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("\ufeffa\x00b\x07c\x9fd", "abcd"),
        ("a\r\nb\rc\x85d\u2028e", "a\nb\nc\nd\ne"),
        ("tab\tstays\t \nnext", "tab\tstays\nnext"),
        ("a\n\n\n \n\t\nb\n\n", "a\n\nb"),
        ("  e\u0301te\u0301  ", "été"),
        ("a\ud800b", "a\ufffdb"),
        (" \n\ufeff\x00 ", ""),
    ],
)
def test_text_gets_one_form(raw: str, expected: str) -> None:
    assert normalize_text(raw) == expected


@given(any_text)
def test_normalizing_twice_is_normalizing_once(raw: str) -> None:
    once = normalize_text(raw)
    assert normalize_text(once) == once


@given(any_text)
def test_normalized_text_can_be_stored_and_printed(raw: str) -> None:
    text = normalize_text(raw)
    text.encode("utf-8")
    assert unicodedata.is_normalized("NFC", text)
    assert not [char for char in text if unicodedata.category(char) == "Cc" and char not in "\n\t"]


def test_a_label_is_one_line_or_nothing() -> None:
    assert normalize_label(" A\n title\x00 ") == "A title"
    assert normalize_label("\ufeff \n") is None
    assert normalize_label(None) is None


def test_a_url_only_loses_what_no_url_has() -> None:
    assert normalize_url(" https://ex.org/e\u0301?q=a b\x00\n") == "https://ex.org/e\u0301?q=a b"
    assert normalize_url("  ") is None


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("en-US", "en"),
        ("FR", "fr"),
        ("eng,fra", "en"),
        ("xho", "xho"),
        ("english", None),
        ("", None),
        (None, None),
    ],
)
def test_the_first_language_of_a_page_is_its_language(
    code: str | None, expected: str | None
) -> None:
    assert normalize_language(code) == expected
