"""Test how web pages are decoded, and how their main text is found."""

import pytest

from persona_pipeline.corpus import web_pages
from persona_pipeline.corpus.web_pages import (
    decode_page,
    extract_page,
    is_document,
    looks_like_html,
)


@pytest.mark.parametrize(
    ("body", "charset"),
    [
        ("été".encode("latin-1"), "iso-8859-1"),
        ("été".encode("latin-1"), "utf-8"),
        ("été".encode(), "no-such-charset"),
        ("été".encode("utf-8-sig"), "iso-8859-1"),
        ("été".encode("utf-16"), None),
        (b"<meta charset=windows-1252><p>\xe9t\xe9", None),
        (("forêt d'été, à côté " * 20).encode("latin-1"), None),
    ],
)
def test_a_page_is_decoded_by_the_most_reliable_sign(body: bytes, charset: str | None) -> None:
    assert "été" in decode_page(body, charset)


@pytest.mark.parametrize("nested", ["<div>", "<div></b>", "<x-y>"])
def test_a_page_nested_to_exhaust_us_yields_its_text_at_once(nested: str) -> None:
    # The search for the main text would take many minutes.
    assert extract_page(nested * 60_000 + "the text").text == "the text"


def test_a_long_page_of_unclosed_paragraphs_still_loses_its_menu() -> None:
    page = extract_page(
        "<nav><a href=/>Menu</a></nav><main>"
        + "<p>Line<br>by <b>line</b>, <img src=x>with text." * 2000
        + "</main>"
    )
    assert "Menu" not in page.text
    assert page.text.count("with text") == 2000


@pytest.mark.parametrize(
    ("body", "is_html"),
    [
        (b"<!DOCTYPE html><title>x", True),
        (b"\n\n<HTML lang=en>", True),
        (b"\xef\xbb\xbf<html>", True),
        ("<html>".encode("utf-16"), True),
        (b"<?xml version='1.0'?>\n<html xmlns='x'>", True),
        (b"<!-- saved from x -->\n<body>", True),
        (b"<p>A text.", True),
        (b"<?xml version='1.0'?><rss>", False),
        (b"<parameters>", False),
        (b"A text with <p>", False),
        (b"\x89PNG\r\n\x1a\n", False),
        (b"", False),
    ],
)
def test_a_page_is_known_by_its_beginning(body: bytes, *, is_html: bool) -> None:
    assert looks_like_html(body) == is_html


def test_a_page_whose_tags_can_be_read_is_not_in_utf_16_whatever_it_says() -> None:
    page = "<html><head><meta charset='utf-16'></head><p>Salt and rye: café.</p>"
    assert decode_page(page.encode()) == page
    assert decode_page(page.encode(), "utf-16le") == page
    assert "café" in decode_page(page.encode("utf-16"))
    assert "café" in decode_page(page.encode("utf-16-le"), "utf-16le")


@pytest.mark.parametrize(
    ("costly", "parsed"),
    [
        ("<select>" + "<option value=one>a" * 6000 + "</select>", "<select>" + "a" * 6000),
        (f"<p title='{'a' * 120_000}'>", "<p><p>Salt"),
    ],
)
def test_what_is_costly_to_parse_is_taken_out_of_long_pages(
    monkeypatch: pytest.MonkeyPatch, costly: str, parsed: str
) -> None:
    pages = list[str]()
    monkeypatch.setattr(web_pages, "_is_too_deep", pages.append)
    page = extract_page(f"<!doctype html><title>T</title><body>{costly}<p>Salt and rye.</p>")
    assert (page.title, "Salt and rye." in page.text) == ("T", True)
    assert parsed in pages[0]
    assert len(pages[0]) < len(costly)


@pytest.mark.parametrize("nested", ['<div title="</div>">', "<div><!-- </div> -->"])
def test_tags_in_attributes_and_comments_end_no_nesting(nested: str) -> None:
    page = f"{nested * 1500}<nav>Home</nav><p>Salt and rye.</p>"
    assert "Home" in extract_page(page).text  # all text is taken, since it is nested too deep


@pytest.mark.parametrize("start", ["<!-- a -->", "<!-- a -->\n", "<?xml a?>", "<!--", " "])
def test_what_stands_before_a_page_is_looked_through_once(start: str) -> None:
    assert not is_document(start * 300 + "text")
    assert not looks_like_html(start.encode() * 300 + b"text")
    assert is_document(start * 3 + "<html></html>") == (start != "<!--")
