"""Buy answers: each once, within a budget, as fast as the provider allows."""
