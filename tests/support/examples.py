"""How many examples a law gets: the number of the profile, or a quarter of it."""

from hypothesis import settings

FEWER = settings(max_examples=settings().max_examples // 4)
"""For a law of which one example takes long: the reason stands beside its use."""
