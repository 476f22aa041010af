"""The embedded models and the packaged corpus: fetched once, verified, kept in the user cache."""
