"""Deduplication by words: tokenizer, exact Jaccard join, MinHash, fuzzy ratio, word diff."""
