"""Candidates to the personas that are kept: compare, decide, select, explain."""
