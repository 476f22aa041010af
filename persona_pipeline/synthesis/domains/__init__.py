"""The built-in domains: a folder each, data and no code but for checks."""
