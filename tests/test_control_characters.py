"""Test that control characters are removed from what is kept, and escaped in what is printed."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.markup import escape
from rich.table import Table

from persona_pipeline.cli.terminal import open_console
from persona_pipeline.control_characters import clean_text, clean_value, escape_control, escape_json
from persona_pipeline.corpus.normalize import normalize_text

CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
SIGNS = st.text() | st.text("a\x1b[]0;1m\x07\\\x9b\x9d\x9c\x00\x7f\r\n\t\ufeff\ud800 ")


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("A \x1b[31mred\x1b[0m door", "A red door"),
        ("A \x9b1;31mred\x9bm door", "A red door"),
        ("\x1b]0;title\x07A door", "A door"),
        ("\x1b]8;;http://a.b\x1b\\A door\x1b]8;;\x1b\\", "A door"),
        ("\x1b(BA door", "A door"),
        ("\x1bA door", "A door"),
        ("\x1b]0;no end of a title", "]0;no end of a title"),
        ("NUL\x00 and DEL\x7f", "NUL and DEL"),
        ("one\r\ntwo\rthree\x85four\u2028five", "one\ntwo\nthree\nfour\nfive"),
        ("  def f():\n\n\n\treturn 1  ", "  def f():\n\n\n\treturn 1  "),
        ("e\u0301", "\u00e9"),
        ("half \ud800", "half \ufffd"),
    ],
)
def test_a_text_is_cleaned_and_its_words_and_spaces_stay(text: str, cleaned: str) -> None:
    assert clean_text(text) == cleaned


@given(SIGNS)
def test_what_is_cleaned_is_clean_and_stays_as_it_is(text: str) -> None:
    cleaned = clean_text(text)
    assert not CONTROL.search(cleaned)
    assert clean_text(cleaned) == cleaned
    assert normalize_text(cleaned) == normalize_text(normalize_text(cleaned))


def test_all_texts_of_a_value_are_cleaned() -> None:
    cleaned = clean_value({"a\x00": ["\x1b[1mb", {"c": "d\r\n"}], "n": 1, "none": None})
    assert cleaned == {"a": ["b", {"c": "d\n"}], "n": 1, "none": None}


@given(SIGNS)
def test_printed_text_has_escapes_for_control_characters(text: str) -> None:
    printable = text.encode("utf-8", "replace").decode()
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", escape_control(printable))
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", escape_json(printable))


def test_an_escape_shows_which_character_it_was() -> None:
    assert escape_control("a\x1b[31m\x00\n\tb\x9b\r") == r"a\x1b[31m\x00" + "\n\tb" + r"\x9b\r"
    assert escape_json('"a\x7f\x9b"') == r'"a\u007f\u009b"'


def test_a_console_prints_no_control_character_of_a_text(
    capsys: pytest.CaptureFixture[str],
) -> None:
    console = open_console()
    table = Table("title\x1b[1m")
    table.add_row("cell\x9b2J")
    console.print(escape("an answer \x1b[31mred\x07"))
    console.print(table)
    console.rule("role\x1b]0;x")
    printed = capsys.readouterr().out
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", printed)
    assert r"an answer \x1b[31mred" in printed


def test_a_console_keeps_its_own_colours(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in {"FORCE_COLOR": "1", "TERM": "xterm"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("NO_COLOR", raising=False)
    open_console().print("[red]red[/] \x1b[5m", highlight=False)
    assert capsys.readouterr().out == "\x1b[31mred\x1b[0m \\x1b[5m\n"
