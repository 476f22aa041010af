"""Write a vector as the text of a bought answer, and tell whether such a text holds a vector."""

import base64
import json
import math
import struct
from collections.abc import Sequence

_STORED = '{"embedding": "'
"""How the text of a stored vector begins: JSON with base64 of little-endian float32."""
_BYTES = 4


def encode_vector(vector: object) -> str:
    """Return the text that is stored for a vector: numbers, or base64, which some servers send.

    Raises:
        ValueError: it is null, empty or not finite. The message says which.
    """
    data = base64.b64decode(vector, validate=True) if isinstance(vector, str) else _packed(vector)
    if not _is_finite(data):
        msg = "a vector that is empty, or has NaN or infinity"
        raise ValueError(msg)
    return json.dumps({"embedding": base64.b64encode(data).decode("ascii")})


def vector_bytes(text: str) -> bytes:
    """Return the little-endian float32 numbers in a stored text."""
    return base64.b64decode(json.loads(text)["embedding"])


def is_broken_vector(text: str | None) -> bool:
    """Return whether a stored text is a vector that is not finite.

    An earlier version stored null as NaN. Such an answer counts as not bought.
    """
    if text is None or not text.startswith(_STORED):
        return False
    try:
        return not _is_finite(vector_bytes(text))
    except (ValueError, KeyError, TypeError):
        return False


def _packed(vector: object) -> bytes:
    if not isinstance(vector, Sequence) or None in vector:
        msg = "null in place of a vector or of its numbers"
        raise ValueError(msg)
    try:
        return struct.pack(f"<{len(vector)}f", *vector)
    except (struct.error, OverflowError) as error:
        msg = f"a vector of something else than small numbers ({error})"
        raise ValueError(msg) from error


def _is_finite(data: bytes) -> bool:
    """Return whether these are finite numbers, and at least one. 1,536 of them take 40 us."""
    count, rest = divmod(len(data), _BYTES)
    return count > 0 and not rest and all(map(math.isfinite, struct.unpack(f"<{count}f", data)))
