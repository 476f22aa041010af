"""Deduplication by vectors: exact cosine search, IVF index, farthest points."""
