"""The synthesis domains: each subfolder is one, as data."""
