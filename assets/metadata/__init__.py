"""Build what an asset shows in the catalog: counts, columns, lineage, plots."""
