"""Turn Arrow columns into Python values, one by one where a text is not UTF-8."""

from typing import Any

import pyarrow as pa
from pyarrow import types

from persona_pipeline.corpus.text_values import Unreadable, invalid_utf8
from persona_pipeline.reasons import DocumentReason

_TEXTS = (
    types.is_string,
    types.is_large_string,
    types.is_string_view,
    types.is_binary,
    types.is_large_binary,
    types.is_binary_view,
    types.is_fixed_size_binary,
)
_NESTED = (
    types.is_list,
    types.is_large_list,
    types.is_fixed_size_list,
    types.is_list_view,
    types.is_large_list_view,
    types.is_struct,
    types.is_map,
)

_BYTES = {
    pa.string(): pa.binary(),
    pa.large_string(): pa.large_binary(),
    pa.string_view(): pa.binary_view(),
}


def read_values(array: pa.Array) -> list[Any]:
    """Return the values. What is not UTF-8, or of a type without texts, is `Unreadable`."""
    array = _as_stored(array)
    if not _holds_texts(array.type):
        unreadable = Unreadable(DocumentReason.WRONG_TYPE, f"the column holds {array.type}")
        return [unreadable if valid else None for valid in array.is_valid().to_pylist()]
    try:
        return list(array.to_pylist())
    except (ValueError, OverflowError, pa.ArrowException):  # not UTF-8, or no date of Python's
        return [_read_value(value) for value in array]


def validate(array: pa.Array) -> None:
    """Check that all offsets are inside of the data, but not whether texts are UTF-8.

    Raises:
        pa.ArrowException: they are not.
    """
    try:
        array.validate(full=True)
    except pa.ArrowInvalid:
        array.view(_without_encoding(array.type)).validate(full=True)


DAMAGES = (pa.ArrowException, OSError, UnicodeDecodeError, MemoryError)
"""What pyarrow raises where a file is damaged. A damaged length may ask for any memory."""


def describe_arrow_error(error: Exception) -> str:
    """Return the first line of Arrow's message."""
    if isinstance(error, UnicodeDecodeError):
        return f"the name of a column is not UTF-8: {error.reason} at byte {error.start}"
    if isinstance(error, MemoryError):
        return "a length in it asks for more memory than there is"
    return str(error).split("\n", 1)[0] or type(error).__name__


def _without_encoding(kind: pa.DataType) -> pa.DataType:
    """Return the type with bytes in the place of texts."""
    if types.is_struct(kind):
        return pa.struct([field.with_type(_without_encoding(field.type)) for field in kind])
    if types.is_list(kind):
        return pa.list_(kind.value_field.with_type(_without_encoding(kind.value_type)))
    return _BYTES.get(kind, kind)


def _as_stored(array: pa.Array) -> pa.Array:
    if isinstance(array.type, pa.BaseExtensionType):  # such as JSON
        return _as_stored(array.storage)
    return array.dictionary_decode() if types.is_dictionary(array.type) else array


def _holds_texts(kind: pa.DataType) -> bool:
    if isinstance(kind, pa.BaseExtensionType):
        return _holds_texts(kind.storage_type)
    if types.is_dictionary(kind):
        return _holds_texts(kind.value_type)
    if any(is_nested(kind) for is_nested in _NESTED):
        return any(_holds_texts(kind.field(i).type) for i in range(kind.num_fields))
    return any(is_text(kind) for is_text in _TEXTS)


def _read_value(value: pa.Scalar) -> object:
    try:
        return _read_texts(value)
    except UnicodeDecodeError as error:
        return invalid_utf8(error)


def _read_texts(value: pa.Scalar) -> object:
    """Return the value with those of its parts that hold texts."""
    if not value.is_valid or not _holds_texts(value.type):
        return None
    if types.is_struct(value.type):
        return {name: _read_texts(part) for name, part in value.items()}
    if any(is_nested(value.type) for is_nested in _NESTED):
        return [_read_texts(part) for part in value.values]
    return value.as_py()
