"""Give every text that enters the pipeline one form, whatever it was read from."""

import re
import unicodedata

from persona_pipeline.control_characters import LINE_BREAK, is_clean, remove_control

LONGEST_LABEL = 1000
"""Characters of a title, topic, language or license."""

_BLANK_LINES = re.compile(r"\n{3,}")
_LANGUAGE_CODE = re.compile(r"\s*([A-Za-z]{2,3})(?![A-Za-z])")

# What CLD2 writes into WARC-Identified-Content-Language (ISO 639-3), for the languages that make
# up most of Common Crawl; a code that is not here stays as it is.
_TWO_LETTERS = {
    "ara": "ar", "bul": "bg", "cat": "ca", "ces": "cs", "dan": "da", "deu": "de", "ell": "el",
    "eng": "en", "est": "et", "fas": "fa", "fin": "fi", "fra": "fr", "heb": "he", "hin": "hi",
    "hrv": "hr", "hun": "hu", "ind": "id", "ita": "it", "jpn": "ja", "kor": "ko", "lav": "lv",
    "lit": "lt", "nld": "nl", "nor": "no", "pol": "pl", "por": "pt", "ron": "ro", "rus": "ru",
    "slk": "sk", "slv": "sl", "spa": "es", "srp": "sr", "swe": "sv", "tha": "th", "tur": "tr",
    "ukr": "uk", "vie": "vi", "zho": "zh",
}  # fmt: skip


def normalize_text(text: str) -> str:
    """Return the text in NFC, without trailing spaces and with at most one blank line in a row.

    Control characters are removed, except newline and tab. A lone surrogate becomes U+FFFD: JSON
    may contain one, but no database can store it.
    """
    cleaned = text if is_clean(text) else remove_control(LINE_BREAK.sub("\n", text))
    composed = unicodedata.normalize("NFC", cleaned)
    # Not a regular expression: " +\n" takes quadratic time on a long run of spaces.
    lines = "\n".join([line.rstrip() for line in composed.split("\n")])
    return (_BLANK_LINES.sub("\n\n", lines) if "\n\n\n" in lines else lines).strip()


def normalize_label(text: str | None) -> str | None:
    """Return a title, topic, language or license on one line, or None if nothing is left of it.

    It has at most `LONGEST_LABEL` characters: a page may call its whole text its title.
    """
    return " ".join(normalize_text(text).split())[:LONGEST_LABEL].rstrip() or None if text else None


def normalize_url(url: str | None) -> str | None:
    """Return the address without control characters and outer spaces, otherwise unchanged."""
    return remove_control(url or "").strip() or None


def normalize_language(code: str | None) -> str | None:
    """Return the first language of a page as a short code.

    It comes from an HTML `lang` attribute ('en-US') or a WET header ('eng,fra').
    """
    match = _LANGUAGE_CODE.match(code or "")
    if match is None:
        return None
    primary = match[1].lower()
    return _TWO_LETTERS.get(primary, primary)
