"""Extract the main text of an HTML page in any encoding."""

import re
from collections import Counter
from dataclasses import dataclass

from resiliparse.extract.html2text import extract_plain_text
from resiliparse.parse.encoding import bytes_to_str, detect_encoding, map_encoding_to_html5
from resiliparse.parse.html import HTMLTree

from persona_pipeline.control_characters import SURROGATE
from persona_pipeline.corpus.normalize import normalize_language

# As in browsers: a byte order mark beats the header, and the header beats the page.
_BOMS = {b"\xef\xbb\xbf": "utf-8", b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be"}

# Finding the main text takes more than quadratic time in the nesting (measured: 1,000 elements
# 0.03 s, 5,000 0.9 s, 10,000 4.9 s); browsers stop nesting at 512. All text takes linear time.
_MAX_DEPTH = 1000
_TAG = re.compile(r"<(/?)([A-Za-z][^\s/>]*)")
# Comments and values of attributes: tags in them are none.
_NO_TAGS = re.compile(r"""<!--.*?(?:-->|\Z)|=\s*(?:"[^"]*"|'[^']*')""", re.DOTALL)
# What parsing takes more than linear time for in long pages, and no text is in.
_LONG, _MOST_OPTIONS = 100_000, 5000
_LONG_TAG = re.compile(rf"<([A-Za-z][^\s<>/]*)[^<>]{{{_LONG},}}>")
_OPTION = re.compile(r"<option\b[^<>]*>", re.IGNORECASE)
# Void elements, and those that the next of their kind closes.
_NEVER_NESTED = {
    "area", "base", "br", "col", "dd", "dt", "embed", "hr", "img", "input", "li", "link", "meta",
    "option", "p", "param", "source", "td", "th", "tr", "wbr",
}  # fmt: skip

_SNIFFED = 1024
# Possessive, so that each comment ends at the first "-->": tried in all ways, 30 take for ever.
_PROLOGUE = r"\ufeff?\s*+(?:<!--.*?-->\s*+|<\?xml.*?\?>\s*+)*+"
# The tags by which browsers know HTML (WHATWG, MIME sniffing), also behind other markup.
_HTML_START = re.compile(
    _PROLOGUE + r"<(?:!doctype\s+html|html|head|body|title|script|style|link|meta"
    r"|iframe|table|div|font|h1|br|a|b|p)[\s/>]",
    re.IGNORECASE | re.DOTALL,
)
# What a whole document begins with, and what it has behind that. A sentence about HTML may begin
# with any tag.
_DOCUMENT_START = re.compile(
    _PROLOGUE + r"<(?:!doctype\s+html|html)[\s>]", re.IGNORECASE | re.DOTALL
)
_DOCUMENT_PART = re.compile(r"<(?:head|body|/\w+)[\s>]", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class WebPage:
    """Hold the text of one page. It is empty if there are only navigation, forms and scripts.

    A text that is no page has no title and no language.
    """

    text: str
    title: str | None
    language: str | None


def decode_page(body: bytes, charset: str | None = None) -> str:
    """Decode by byte order mark, then HTTP charset, then meta tag, then guess. This never fails."""
    for mark, encoding in _BOMS.items():
        if body.startswith(mark):
            return bytes_to_str(body, encoding)
    known = map_encoding_to_html5(charset.strip("\"' "), fallback_utf8=False) if charset else None
    encoding = known or detect_encoding(body, from_html_meta=True) or "utf-8"
    if encoding.startswith("utf-16") and b"<" in body and b"\0" not in body:
        encoding = "utf-8"  # as in browsers: tags that can be read are not in UTF-16
    return bytes_to_str(body, encoding)


def looks_like_html(body: bytes) -> bool:
    """Return whether the body begins as HTML pages do."""
    return _HTML_START.match(decode_page(body[:_SNIFFED])) is not None


def is_document(text: str) -> bool:
    """Return whether the text begins as a whole HTML document does, and has its parts."""
    start = _DOCUMENT_START.match(text, 0, _SNIFFED)
    return start is not None and _DOCUMENT_PART.search(text, start.end()) is not None


def extract_page(html: str) -> WebPage:
    """Extract the main text by Resiliparse's rules, or all text if the nesting is too deep."""
    html = _without_costly_tags(html.removeprefix("\ufeff"))  # a mark is text, and ends the head
    try:
        tree = HTMLTree.parse(html)
    except UnicodeEncodeError:  # JSON may hold half of a character
        tree = HTMLTree.parse(SURROGATE.sub("\ufffd", html))
    root = tree.document.query_selector("html") if tree.document else None
    return WebPage(
        text=extract_plain_text(tree, main_content=not _is_too_deep(html)),
        title=tree.title,
        language=normalize_language(root.getattr("lang") if root else None),
    )


def _without_costly_tags(html: str) -> str:
    """Take out of a long page what parsing takes more than linear time for."""
    if len(html) < _LONG:
        return html
    html = _LONG_TAG.sub(r"<\1>", html)
    return _OPTION.sub("", html) if len(_OPTION.findall(html)) > _MOST_OPTIONS else html


def _is_too_deep(html: str) -> bool:
    """Count the tags left open, kind by kind: a stray end tag of another kind closes nothing."""
    if html.count("<") <= _MAX_DEPTH:
        return False
    html = _NO_TAGS.sub("", html)
    depth = 0
    is_open: Counter[str] = Counter()
    for slash, name in _TAG.findall(html):
        tag = name.lower()
        if tag in _NEVER_NESTED:
            continue
        if not slash:
            is_open[tag] += 1
            depth += 1
        elif is_open[tag]:
            is_open[tag] -= 1
            depth -= 1
        if depth > _MAX_DEPTH:
            return True
    return False
