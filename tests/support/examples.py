"""How many examples a law gets: the number of the profile, or a quarter of it."""

from hypothesis import settings
from hypothesis import strategies as st

from persona_pipeline.control_characters import clean_text

FEWER = settings(max_examples=settings().max_examples // 4)
"""For a law of which one example takes long: the reason stands beside its use."""

CLEAN_TEXTS = st.text(min_size=3).map(clean_text).filter(lambda text: len(text) >= 3)
"""Texts that a table can hold as they are: in NFC, without control characters."""
