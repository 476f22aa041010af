"""Collect the pairs that kernels find."""

from collections.abc import Callable, Iterable
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from persona_pipeline.dedup import kernels

_Number = TypeVar("_Number", np.int64, np.float64)
Pairs = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]
"""Earlier rows, later rows, cosines: one of each per pair."""


def no_limit(_count: int) -> None:
    """Allow any number of pairs."""


def make_room(pairs: int) -> "kernels.exact.PairBuffer":
    """Allocate room for as many pairs as a kernel may find before it returns."""
    return kernels.exact.PairBuffer(
        np.empty(pairs, np.int64), np.empty(pairs, np.int64), np.empty(pairs)
    )


def take_pairs(matches: "kernels.exact.PairBuffer", count: int) -> Pairs:
    """Copy the first `count` pairs: the room is used again."""
    return (
        matches.earlier[:count].copy(),
        matches.later[:count].copy(),
        matches.cosines[:count].copy(),
    )


def sort_pairs(pairs: Pairs, count: int) -> Pairs:
    """Sort by earlier row, then later row; `count` is the number of rows."""
    earlier, later, cosines = pairs
    order = np.argsort(earlier * count + later)
    return earlier[order], later[order], cosines[order]


def join_pairs(parts: Iterable[Pairs], check: Callable[[int], None] = no_limit) -> Pairs:
    """Join parts column by column, so that no more than one column is in memory twice.

    `check` is called with the number of pairs so far, and may raise an error.
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
