"""Sums of amounts, some of which nobody knows."""

from collections.abc import Iterable


def known_sum(amounts: Iterable[float | None]) -> float | None:
    """The sum; None when one of the amounts is unknown."""
    total = 0.0
    for amount in amounts:
        if amount is None:
            return None
        total += amount
    return total
