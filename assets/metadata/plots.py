"""Build the plots in the metadata of assets."""

from base64 import b64encode

import dagster as dg

from assets.metadata.svg import bar_plot
from persona_pipeline.sql import read_sql
from persona_pipeline.store.store import Store


def plot_metadata(name: str, svg: str) -> dg.MarkdownMetadataValue:
    """Return Markdown with the picture as a data address, which the UI shows.

    Dagster 1.13 shows Markdown of 1,000 characters and more in a dialog behind a link.
    """
    encoded = b64encode(svg.encode()).decode()
    return dg.MetadataValue.md(f"![{name}](data:image/svg+xml;base64,{encoded})")


def lengths_of_hub(store: Store) -> dg.MarkdownMetadataValue:
    """Plot how many personas of the hub have how many words."""
    rows = [
        (label, [count])
        for _, label, count in store.query(read_sql("plots/lengths_of_hub")).iter_rows()
    ]
    return plot_metadata("lengths", bar_plot(rows, title="Length of personas", series=["personas"]))


def topics(store: Store) -> dg.MarkdownMetadataValue:
    """Plot the share of each topic in the documents and in the hub."""
    rows = [
        (topic, [100 * documents, 100 * hub])
        for topic, documents, hub in store.query(read_sql("plots/topics")).iter_rows()
    ]
    series = ["% of documents", "% of the hub"]
    return plot_metadata("topics", bar_plot(rows, title="Topics", series=series))
