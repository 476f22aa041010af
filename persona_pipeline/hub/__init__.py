"""Turn candidates into the personas that are kept: compare, decide, select, explain."""
