"""Who stands in line before whom, of the candidates that are like each other."""

from collections.abc import Mapping, Sequence

import duckdb
import polars as pl

from persona_pipeline.sql_files import fetch, read_sql

NUMBERS = {"shard": pl.String, "shard_number": pl.Int64}


def read_line(
    connection: duckdb.DuckDBPyConnection, shards: Sequence[str], numbers: Mapping[str, int]
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The fingerprints and the pairs that may decide about these shards.

    Of other shards only those that were kept; `numbers` has the place of every shard.
    """
    parameters = {"shards": list(shards)}
    pairs = fetch(connection, read_sql("personas/pairs_of_line"), parameters).unique()
    connection.register("pairs_of_line", pairs)
    line = fetch(connection, read_sql("personas/line"), parameters).unique(["shard", "persona_id"])
    # not in SQL: a join on strings takes four times as long there
    places = pl.DataFrame(list(numbers.items()), NUMBERS, orient="row")
    return line.join(places, on="shard"), pairs
