"""Damage the bytes of a file: flip one, cut some out, or double them."""

from dataclasses import dataclass
from enum import StrEnum

from hypothesis import strategies as st


class Kind(StrEnum):
    FLIP = "flip"
    CUT = "cut"
    DOUBLE = "double"


@dataclass(frozen=True, slots=True)
class Damage:
    """Say what happens where. `place` is a share of the file, so that it fits any."""

    kind: Kind
    place: float
    size: int
    byte: int

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Return which bytes between `start` and `end` are touched."""
        first = start + int(self.place * (end - start))
        return first, min(end, first + (1 if self.kind == Kind.FLIP else self.size))

    def apply(self, data: bytes, start: int = 0, end: int | None = None) -> bytes:
        """Return the data, damaged between `start` and `end`."""
        first, last = self.span(start, len(data) if end is None else end)
        middle = {
            Kind.FLIP: bytes([self.byte]),
            Kind.CUT: b"",
            Kind.DOUBLE: data[first:last] * 2,
        }[self.kind]
        return data[:first] + middle + data[last:]


def damages(*kinds: Kind) -> st.SearchStrategy[Damage]:
    return st.builds(
        Damage,
        st.sampled_from(kinds or list(Kind)),
        st.floats(0, 1, exclude_max=True),
        st.integers(1, 40),
        st.integers(0, 255) | st.sampled_from(list(b'"\n\r,{}[]\\\t \x00\xff')),
    )
