"""Buying answers: each once, within a budget, as fast as the provider lets us."""
