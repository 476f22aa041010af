"""Hold the built-in domains: one folder each, with data and at most a check."""
