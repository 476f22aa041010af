"""Reach models: each client is a `ChatClient` or an embedder."""
