"""Which of the similar personas stay: greedy keep-first, by rounds of joins."""

import polars as pl

from persona_pipeline.dedup.scratch import Scratch


def resolve_pairs(scratch: Scratch) -> pl.DataFrame:
    """One row per persona that `pairs` removes: later, earlier (its keeper) and similarity.

    The kept ones are the lexicographically first maximal independent set: walking down the
    priorities, a persona stays unless one that stayed is similar to it. So no two kept ones are
    similar, and each removed one is similar to a kept one before it; connected components promise
    neither. A round decides everyone whom no undecided persona precedes; a few rounds do.

    The keeper is the most similar kept persona *before* the removed one, the first among equals.
    A later persona is never a keeper, however similar: a new shard must not rewrite an old one.
    """
    scratch.run("create or replace table undecided as select earlier, later from pairs")
    scratch.run("create or replace table removed (later bigint)")
    while not scratch.is_empty("undecided"):
        scratch.create("beaten")
        scratch.run("insert into removed select later from beaten")
        scratch.create("undecided")
    scratch.create("keepers")
    return scratch.fetch("select later, earlier, similarity from keepers")
