"""The ways to a model: each is a `ChatClient`, or an embedder."""
