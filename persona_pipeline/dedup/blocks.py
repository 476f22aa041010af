"""Decide which rows stay where all pairs are too many: block by block, in their ranking.

Templates have more similar pairs than a memory holds: 5,000 texts that differ in one word have 12.5
million. A removed row keeps nobody out, so no later row needs to be compared with it. So a block of
rows is compared with itself and with the rows kept so far, and decided; its removed rows are
forgotten. That is what happens shard by shard, with shards as small as the memory demands, and
gives what comparing every pair gives, keepers included (docs/decisions/0044).
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import polars as pl

from persona_pipeline.dedup.block_search import BlockSearch
from persona_pipeline.dedup.comparison import PreparedTexts, conflicting
from persona_pipeline.dedup.resolve import PAIRS, Resolver, rank_rows
from persona_pipeline.dedup.resources import Resources, no_report
from persona_pipeline.dedup.rules import Comparison, Thresholds
from persona_pipeline.dedup.scratch import Scratch, open_scratch
from persona_pipeline.errors import MemoryLimitError

FIRST_BLOCK = 512
"""Rows of the first block."""
SHARE = 4
"""The pairs of a block may take one in so many bytes of the memory."""
FEW_PAIRS, MANY_PAIRS = 50_000, 200_000
"""Pairs of a block: after fewer the next block is twice as large, after more half as large."""

logger = logging.getLogger(__name__)


class Decided(NamedTuple):
    """What is removed, and the pairs that decided it."""

    removed: pl.DataFrame
    """As `Resolver.resolve` returns it."""
    pairs: pl.DataFrame
    """id (of a removed row) and `PAIRS` with its keeper: they decide this again, nothing else."""


def resolve_in_blocks(  # noqa: PLR0913 - two have defaults
    prepared: PreparedTexts,
    comparison: Comparison,
    thresholds: Thresholds,
    resources: Resources,
    exact_keys: pl.DataFrame | None = None,
    *,
    from_rank: int | None = None,
) -> Decided:
    """Decide which rows stay, as `Resolver.resolve` does from all pairs.

    Args:
        prepared: the rows, and what they are compared by.
        comparison: how pairs are found.
        thresholds: where each layer sets its threshold.
        resources: memory and threads; `report` is called with rows instead of keys.
        exact_keys: `EXACT_KEYS`; default: none.
        from_rank: decide about rows from this rank on; rows before it are kept.

    Raises:
        MemoryLimitError: one row is similar to more kept rows than fit into the memory.
    """
    ranked, rank = rank_rows(prepared.fingerprints), prepared.fingerprints["rank"]
    first = 0 if from_rank is None else int((rank < from_rank).sum())
    ranked = ranked.with_columns(rank=pl.col("place").cast(pl.Int64)).drop("place")
    part = replace(resources, memory_bytes=resources.memory_bytes // SHARE, report=no_report)
    search = BlockSearch(prepared, comparison, thresholds, part)
    logger.info("%d rows have too many pairs: they are decided in blocks", len(ranked) - first)
    with open_scratch(memory_limit=part.memory_bytes, threads=part.threads) as scratch:
        blocks = _Blocks(scratch, search, thresholds, exact_keys, ranked.clear())
        blocks.keep(ranked.head(first))
        parts = list(_decide_all(blocks, ranked.slice(first), resources))
    removed, pairs = zip(_nothing(ranked), *parts, strict=True)
    return Decided(pl.concat(removed).sort("id"), pl.concat(pairs))


@dataclass(slots=True)
class _Blocks:
    """What a block is decided against."""

    scratch: Scratch
    search: BlockSearch
    thresholds: Thresholds
    exact_keys: pl.DataFrame | None
    kept: pl.DataFrame

    def keep(self, rows: pl.DataFrame) -> None:
        """Add rows that stay."""
        self.search.keep(rows)
        self.kept = pl.concat([self.kept, rows], rechunk=True)

    def decide(self, block: pl.DataFrame, pairs: pl.DataFrame) -> Decided:
        """Decide a block, whose ranks are its places, and keep what stays of it."""
        rows = pl.concat([self.kept, block])
        keys = self._keys(block)
        similar = conflicting(rows, pairs, keys)
        resolver = Resolver(self.scratch, similar, pairs, keys)
        removed = resolver.resolve(self.thresholds, from_rank=block.item(0, "rank"))
        self.keep(block.join(removed, on="id", how="anti", maintain_order="left"))
        return Decided(removed, _deciding(removed, rows, pairs))

    def _keys(self, block: pl.DataFrame) -> pl.DataFrame | None:
        """Return the exact keys that rows of the block have, with all rows that have them."""
        if self.exact_keys is None:
            return None
        own = self.exact_keys.join(block, on="id", how="semi")
        return self.exact_keys.join(own, on="key", how="semi")


def _decide_all(blocks: _Blocks, rows: pl.DataFrame, resources: Resources) -> Iterator[Decided]:
    """Decide all rows; a block has fewer rows where it has many pairs."""
    start, size = 0, FIRST_BLOCK
    while start < len(rows):
        resources.report(start, len(rows))
        block = rows.slice(start, size)
        try:
            pairs = blocks.search.pairs(block)
        except MemoryLimitError:
            if len(block) == 1:
                raise
            size = len(block) // 2
            continue
        yield blocks.decide(block, pairs)
        start += len(block)
        if len(pairs) < FEW_PAIRS:
            size *= 2
        elif len(pairs) > MANY_PAIRS:
            size = max(1, size // 2)
    resources.report(len(rows), len(rows))


def _deciding(removed: pl.DataFrame, rows: pl.DataFrame, pairs: pl.DataFrame) -> pl.DataFrame:
    """Return the pairs of removed rows and their keepers; rows of the same words have none."""
    keys = rows.select("id", "set_key", "text_key")
    both = removed.select("id", "layer", other_id="kept_id").join(keys, on="id")
    both = both.join(keys, left_on="other_id", right_on="id", suffix="_of_other")
    is_text = pl.col("layer") == "semantic"
    named = both.select(
        "id",
        is_text=is_text,
        one=pl.when(is_text).then("text_key").otherwise("set_key"),
        other=pl.when(is_text).then("text_key_of_other").otherwise("set_key_of_other"),
    ).select(
        "id",
        "is_text",
        first_key=pl.min_horizontal("one", "other"),
        second_key=pl.max_horizontal("one", "other"),
    )
    of_layer = pairs.with_columns(is_text=is_text)
    return named.join(of_layer, on=["is_text", "first_key", "second_key"]).select("id", *PAIRS)


def _nothing(rows: pl.DataFrame) -> Decided:
    """Return that no row is removed."""
    ids, number = rows.schema["id"], pl.Float64()
    measures = dict.fromkeys(("similarity", "threshold", "fuzzy_score"), number)
    removed = pl.DataFrame(schema={"id": ids, "kept_id": ids, "layer": pl.String(), **measures})
    return Decided(removed, pl.DataFrame(schema={"id": ids, **PAIRS}))
