"""Pairs on their way from a kernel to the caller."""

from collections.abc import Callable, Iterable
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from persona_pipeline.dedup import kernels

_Number = TypeVar("_Number", np.int64, np.float64)
Pairs = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]
"""Earlier rows, later rows, cosines."""


def accept(_count: int) -> None:
    """However many pairs there are."""


def make_room(pairs: int) -> "kernels.exact.PairBuffer":
    """Room for as many pairs as a kernel may find before it comes back."""
    return kernels.exact.PairBuffer(
        np.empty(pairs, np.int64), np.empty(pairs, np.int64), np.empty(pairs)
    )


def take_pairs(matches: "kernels.exact.PairBuffer", count: int) -> Pairs:
    """The first of these, copied: the room is used again."""
    return (
        matches.earlier[:count].copy(),
        matches.later[:count].copy(),
        matches.cosines[:count].copy(),
    )


def sort_pairs(pairs: Pairs, count: int) -> Pairs:
    """By earlier row, then later row; of so many rows."""
    earlier, later, cosines = pairs
    order = np.argsort(earlier * count + later)
    return earlier[order], later[order], cosines[order]


def join_pairs(parts: Iterable[Pairs], check: Callable[[int], None] = accept) -> Pairs:
    """A column at a time, so that no more than one is in memory twice.

    `check` is called with how many there are so far, and may object.
    """
    earlier, later, cosines = [np.empty(0, np.int64)], [np.empty(0, np.int64)], [np.empty(0)]
    count = 0
    for part in parts:
        count += len(part[0])
        check(count)
        earlier.append(part[0])
        later.append(part[1])
        cosines.append(part[2])
    return _concatenate(earlier), _concatenate(later), _concatenate(cosines)


def _concatenate(parts: list[NDArray[_Number]]) -> NDArray[_Number]:
    joined = np.concatenate(parts)
    parts.clear()
    return joined
