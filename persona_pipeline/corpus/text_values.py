"""Take the text out of a value of a record: a string, bytes, a list, a struct, or a chat."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from persona_pipeline.corpus.options import MAX_DEPTH
from persona_pipeline.reasons import DocumentReason

CHAT_FIELDS = ("messages", "conversations")
"""Fields of chat lists: the names of OpenAI's and of ShareGPT's format."""

_ROLES = {"human": "user", "gpt": "assistant"}
_ROLE_KEYS = ("role", "from")
_CONTENT_KEYS = ("content", "value", "text")

Decode: TypeAlias = Callable[[bytes], str]


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Stand for a value that a file holds but that cannot be read, with the reason."""

    reason: DocumentReason
    detail: str


def describe_invalid_utf8(error: UnicodeDecodeError) -> str:
    """Say which byte is wrong, where it is, and what to do."""
    byte = error.object[error.start]
    return f"byte 0x{byte:02x} at position {error.start + 1} is not UTF-8; convert it to UTF-8"


def invalid_utf8(error: UnicodeDecodeError) -> Unreadable:
    """Return the value that stands for bytes that are not UTF-8."""
    return Unreadable(DocumentReason.INVALID_UTF8, describe_invalid_utf8(error))


def extract_text(value: object, field: str) -> str | Unreadable:
    """Return the text in a value that is no string: its strings, joined by blank lines."""
    texts = extract_texts(value, field)
    return texts if isinstance(texts, Unreadable) else "\n\n".join(texts)


def decode_utf8(content: bytes) -> str:
    """Decode a text. A byte order mark is left out.

    Raises:
        UnicodeDecodeError: it is in another encoding.
    """
    return content.decode("utf-8-sig")


def extract_texts(
    value: object, field: str, decode: Decode = decode_utf8
) -> list[str] | Unreadable:
    """Return the strings in a value that is no string.

    Bytes are decoded. A list or struct has several. The turns of a chat begin with the role.
    """
    if isinstance(value, Unreadable):
        return value
    try:
        if isinstance(value, bytes):
            return [decode(value)]
        if isinstance(value, list | dict):
            if texts := list(_find_texts(value, MAX_DEPTH, decode)):
                return texts
            if not value:
                return Unreadable(DocumentReason.EMPTY, f"{field!r} is empty")
    except UnicodeDecodeError as error:
        return invalid_utf8(error)
    detail = f"{field!r} holds {type(value).__name__}, not a string"
    return Unreadable(DocumentReason.WRONG_TYPE, detail)


def _find_texts(value: object, depth: int, decode: Decode) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, bytes):
        yield decode(value)
    elif depth == 0:
        return
    elif isinstance(value, Mapping):
        yield from _find_in_struct(value, depth, decode)
    elif isinstance(value, Sequence):
        for item in value:
            yield from _find_texts(item, depth - 1, decode)


def _find_in_struct(value: Mapping[str, object], depth: int, decode: Decode) -> Iterator[str]:
    """Yield a turn of a chat, the content of a part of one, or all strings of another struct."""
    role = next((value[key] for key in _ROLE_KEYS if isinstance(value.get(key), str)), None)
    keys = [key for key in _CONTENT_KEYS if key in value]
    if role is not None and keys:
        text = "\n".join(_find_texts(value[keys[0]], depth - 1, decode))
        if text.strip():
            yield f"{_ROLES.get(str(role), role)}: {text}"
    elif "type" in value:  # of a content: a text, or an image or a call of a tool without text
        yield from _find_texts(value.get("text"), depth - 1, decode)
    else:
        for item in value.values():
            yield from _find_texts(item, depth - 1, decode)
