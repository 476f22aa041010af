"""Remove control characters from texts of others, and show those that must stay as escapes."""

import re
import unicodedata
from collections.abc import Mapping

from pydantic import JsonValue

LINE_BREAK = re.compile(r"\r\n?|\x85|\u2028|\u2029")
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ufeff]")
"""Control characters of C0 and C1 except newline and tab, and the byte order mark."""
SURROGATE = re.compile(r"[\ud800-\udfff]")
_REMOVED_BYTES = bytes([*range(0x09), *range(0x0B, 0x20), 0x7F])
_C1_BYTES = re.compile(rb"\xc2[\x80-\x9f]")
_LONGER_BYTES = tuple(character.encode() for character in "\ufeff\u2028\u2029")
_SEQUENCE = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x80-\x9f]*(?:\x07|\x1b\\|\x9c)"
    r"|\x1b[ -/]+[0-~]"
)
"""Matches an escape sequence as a terminal reads it (ECMA-48): colours and moves of the cursor,
titles and links, character sets. Sequences of one letter are left out: the letter may be text."""


def is_clean(text: str) -> bool:
    """Tell whether a text has no control character, no other line break and no lone surrogate.

    It looks at UTF-8 bytes, which takes a tenth of the time of three expressions over the text.
    """
    try:
        data = text.encode()
    except UnicodeEncodeError:
        return False
    if len(data.translate(None, _REMOVED_BYTES)) < len(data):
        return False
    if len(data) == len(text):  # ASCII
        return True
    mark, line_separator, paragraph_separator = _LONGER_BYTES
    return not (
        _C1_BYTES.search(data)
        or mark in data
        or line_separator in data
        or paragraph_separator in data
    )


def remove_control(text: str) -> str:
    """Return the text without control characters. A lone surrogate becomes U+FFFD."""
    if is_clean(text):
        return text
    return SURROGATE.sub("\ufffd", CONTROL.sub("", text))


def clean_text(text: str) -> str:
    """Return a text of a model or a server as documents are: in NFC, without control characters.

    Escape sequences go whole. Spaces and blank lines stay: an answer may hold code.
    """
    if not is_clean(text):
        text = remove_control(LINE_BREAK.sub("\n", _SEQUENCE.sub("", text)))
    return unicodedata.normalize("NFC", text)


def clean_value(value: JsonValue) -> JsonValue:
    """Return a JSON value with each of its texts cleaned, names of fields included."""
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, Mapping):
        return {clean_text(name): clean_value(item) for name, item in value.items()}
    return [clean_value(item) for item in value] if isinstance(value, list) else value


def escape_control(text: str) -> str:
    r"""Return the text with `\x1b` and the like in place of control characters, to be printed."""
    return CONTROL.sub(lambda match: repr(match[0])[1:-1], text)


def escape_json(text: str) -> str:
    r"""Return JSON text with `\u009b` and the like: JSON's writers leave DEL and C1 as they are."""
    return CONTROL.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
