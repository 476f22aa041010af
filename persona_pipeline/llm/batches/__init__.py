"""Buy answers through a provider's batch API: submit, wait, collect."""
