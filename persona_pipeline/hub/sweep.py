"""Count the personas that each Jaccard threshold would keep, and show the pairs closest to it."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import polars as pl

from persona_pipeline.dedup.blocks import resolve_in_blocks
from persona_pipeline.dedup.comparison import (
    PreparedTexts,
    compare_texts,
    conflicting,
    prepare_texts,
)
from persona_pipeline.dedup.resolve import PAIRS, open_resolver
from persona_pipeline.dedup.resources import Resources
from persona_pipeline.dedup.rules import TOLERANCE, Comparison, Thresholds
from persona_pipeline.dedup.table import LAYERS
from persona_pipeline.errors import MemoryLimitError, SettingsError
from persona_pipeline.hub.closest import closest_kept, closest_removed
from persona_pipeline.hub.decisions import read_ranked
from persona_pipeline.hub.embeddings import read_vectors
from persona_pipeline.hub.plan import DedupPlan
from persona_pipeline.hub.state import (
    early_shards,
    read_compared_from,
    read_states,
    read_with_few_pairs,
)
from persona_pipeline.sql import fetch, read_sql
from persona_pipeline.store.stage_rows import StageRows
from persona_pipeline.store.store import Store

LOG = logging.getLogger(__name__)
STAGE = "sweep"
ALL_SHARDS = "all"
"""Value of the column `shard` in rows about all shards."""
FIRST, LAST, STEP = 0.95, 0.4, 0.05
"""The first and last threshold and the step between two, unless others are asked for."""
MARGIN = 0.05
"""How far below its threshold a chained step searches for pairs to show."""
LEAST = 0.05
"""Jaccard similarity below which no pairs are searched."""
COMPARED_ANEW = 100_000
"""Personas up to which thresholds below those of the stored pairs compare all texts again.

Down to LAST this takes 4 CPU-seconds and 560,000 pairs. Twice as many personas take four times as
much.
"""
RANKED = (
    "quality",
    pl.col("persona_id").alias("id"),
    pl.col("persona").alias("text"),
    pl.col("shard_number").alias("rank"),
)
"""The columns of a persona, as the engine calls them."""
COUNTS = ("threshold", "candidates", "kept", "removed", *LAYERS, "is_chained")
"""Columns of `personas.sweep`."""


@dataclass(frozen=True, slots=True, eq=False)
class SweepStep:
    """What one Jaccard threshold would keep and remove."""

    threshold: float
    candidates: int
    kept: int
    removed: int
    exact: int
    """Personas removed in layer exact; the next three count the other layers."""
    jaccard: int
    fuzzy: int
    semantic: int
    is_chained: bool
    """Whether only the personas that the step before kept were decided, instead of all."""
    closest_removed: pl.DataFrame
    """EXAMPLES: removed personas and their keepers, the nearest to the threshold first."""
    closest_kept: pl.DataFrame
    """EXAMPLES: pairs of kept personas, the nearest to the threshold first."""


@dataclass(frozen=True, slots=True)
class _Everyone:
    """The compared candidates, with their fingerprints and pairs."""

    texts: pl.DataFrame
    fingerprints: pl.DataFrame
    pairs: pl.DataFrame
    min_jaccard: float | None = None
    """Jaccard similarity from which on pairs are stored; None: not known."""
    has_few_pairs: bool = False
    """Whether a shard stores only the pairs that decided it."""


def sweep(store: Store, plan: DedupPlan, thresholds: Sequence[float]) -> list[SweepStep]:
    """Compute one step per threshold, the highest first.

    Thresholds that the stored pairs cover are decided from these, in all layers. For lower ones
    the word sets are compared again, so a step equals what a run would do.

    Steps are chained instead if there are more than `COMPARED_ANEW` personas, if a threshold is
    below `LAST`, or with MinHash, which finds other pairs at each threshold. A chained step
    compares only what the step before kept, in the Jaccard layer only: the number of pairs grows
    quadratically towards low thresholds, and a higher threshold removes most of these personas.

    If a shard stores only the pairs that decided it, each threshold compares all personas again, in
    all layers. These steps show no pairs of kept personas.
    """
    ordered = sorted(set(thresholds), reverse=True)
    everyone = _read(store)
    if everyone.has_few_pairs:
        return list(_decide_in_blocks(store, everyone, plan, ordered))
    least = everyone.min_jaccard or plan.comparison.min_jaccard
    if LAST - TOLERANCE <= ordered[-1] < least - TOLERANCE:
        least, everyone = _compared_anew(everyone, plan, least, ordered[-1] - MARGIN)
    stored = [threshold for threshold in ordered if threshold >= least - TOLERANCE]
    lower = ordered[len(stored) :]
    decided = list(_decide_stored(everyone, plan, stored or [least]))
    steps = [step for step, _ in decided]
    if lower:
        last, removed = decided[-1]
        kept = everyone.texts.join(removed, on="persona_id", how="anti")
        steps = [*steps[:-1], *_chain(last, kept, plan, lower)]
    return steps if stored else steps[1:]


def sweep_thresholds(first: float = FIRST, last: float = LAST, step: float = STEP) -> list[float]:
    """List the thresholds from `first` down to `last`, `step` apart.

    Raises:
        SettingsError: `first` is below `last`.
    """
    if first < last:
        msg = f"a sweep goes down: --from {first:g} is below --to {last:g}"
        raise SettingsError(msg)
    count = int((first - last) / step + TOLERANCE) + 1
    return [round(first - number * step, 6) for number in range(count)]


def sweep_rows(steps: Sequence[SweepStep]) -> StageRows:
    """Build the rows of `personas.sweep`."""
    rows = [{name: getattr(step, name) for name in COUNTS} for step in steps]
    return StageRows(ALL_SHARDS, STAGE, {"personas.sweep": pl.DataFrame(rows)})


def _read(store: Store) -> _Everyone:
    with store.connect(read_only=True) as connection:  # one: of the same commit
        texts = fetch(connection, read_sql("personas/compared_candidates"))
        numbers = dict(texts.select("shard", "shard_number").unique().iter_rows())
        ranked, pairs = read_ranked(connection, list(numbers), numbers)
        min_jaccard, _ = read_compared_from(connection)
        has_few_pairs = bool(read_with_few_pairs(connection))
    known = ranked.join(texts, left_on="id", right_on="persona_id", how="semi")
    return _Everyone(texts, known, pairs, min_jaccard, has_few_pairs)


def _compare(
    texts: pl.DataFrame, comparison: Comparison, resources: Resources
) -> tuple[pl.DataFrame, pl.DataFrame]:
    return compare_texts(texts.select(*RANKED), None, comparison, resources)


def _prepare(texts: pl.DataFrame, comparison: Comparison, resources: Resources) -> PreparedTexts:
    return prepare_texts(texts.select(*RANKED), None, comparison, resources)


def _compared_anew(
    everyone: _Everyone, plan: DedupPlan, stored: float, least: float
) -> tuple[float, _Everyone]:
    """Compare all word sets again, from the similarity `least` on, if that is possible.

    Returns the similarity from which on there are pairs, and the personas with these pairs. If
    comparing is not possible, it returns the arguments. Pairs of layer semantic stay as stored.
    """
    if len(everyone.texts) > COMPARED_ANEW or plan.comparison.method != "exact":
        return stored, everyone
    comparison = replace(plan.comparison, min_jaccard=least, min_cosine=None)
    try:
        fingerprints, jaccard = _compare(everyone.texts, comparison, plan.resources)
    except MemoryLimitError as error:
        LOG.info("thresholds below %s are chained: %s", stored, error)
        return stored, everyone
    semantic = everyone.pairs.filter(pl.col("layer") == "semantic").select(jaccard.columns)
    pairs = pl.concat([jaccard, semantic])
    return least, replace(everyone, fingerprints=fingerprints, pairs=pairs)


def _decide_stored(
    everyone: _Everyone, plan: DedupPlan, thresholds: Sequence[float]
) -> Iterator[tuple[SweepStep, pl.DataFrame]]:
    """Yield the step of each threshold, and the duplicates that it removes."""
    similar = conflicting(everyone.fingerprints, everyone.pairs)
    with open_resolver(similar, everyone.pairs, plan.resources) as resolver:
        for threshold in thresholds:
            chosen = Thresholds(threshold, plan.thresholds.cosine, plan.thresholds.fuzzy)
            removed = resolver.resolve(chosen).rename({"id": "persona_id"})
            yield _step(everyone, threshold, removed), removed


def _decide_in_blocks(
    store: Store, everyone: _Everyone, plan: DedupPlan, thresholds: Sequence[float]
) -> Iterator[SweepStep]:
    """Yield the step of each threshold, for which all personas are compared in blocks."""
    prepared = _prepare(everyone.texts, plan.comparison, plan.resources)
    if plan.comparison.min_cosine is not None:
        homes = everyone.texts.select("shard", id="persona_id")
        compared = prepared.fingerprints.join(homes, on="id").rename({"id": "persona_id"})
        with store.connect(read_only=True) as connection:
            early = early_shards(read_states(connection, plan), plan)
        vectors = read_vectors(store, plan.embedding_model, compared, [], early)
        prepared = replace(prepared, vectors=vectors)
    shown = replace(everyone, pairs=everyone.pairs.clear())
    for threshold in thresholds:
        chosen = replace(plan.thresholds, jaccard=threshold)
        least = min(plan.comparison.min_jaccard, threshold)
        comparison = replace(plan.comparison, min_jaccard=least)
        decided = resolve_in_blocks(prepared, comparison, chosen, plan.resources)
        yield _step(shown, threshold, decided.removed.rename({"id": "persona_id"}))


def _chain(
    last: SweepStep, kept: pl.DataFrame, plan: DedupPlan, thresholds: Sequence[float]
) -> Iterator[SweepStep]:
    """Yield `last`, the last step on stored pairs, and one chained step per threshold.

    Each step shows the closest kept pairs that the comparison for the next one finds.
    """
    for threshold in thresholds:
        everyone, removed = _decide_words(kept, plan, threshold)
        yield replace(
            last,
            closest_kept=closest_kept(everyone.fingerprints, everyone.pairs, last.threshold, kept),
        )
        step = _step(everyone, threshold, removed)
        kept = kept.join(removed, on="persona_id", how="anti")
        so_far = {name: getattr(last, name) + getattr(step, name) for name in ("removed", *LAYERS)}
        last = replace(step, candidates=last.candidates, **so_far, is_chained=True)
    yield last


def _decide_words(
    kept: pl.DataFrame, plan: DedupPlan, threshold: float
) -> tuple[_Everyone, pl.DataFrame]:
    """Compare these personas by words; return their pairs, and whom the threshold removes.

    No pairs are returned where they are more than fit into the memory.
    """
    comparison, chosen = Comparison(threshold, min_cosine=None), Thresholds(threshold, cosine=None)
    try:
        wider = replace(comparison, min_jaccard=max(threshold - MARGIN, LEAST))
        fingerprints, pairs = _compare(kept, wider, plan.resources)
    except MemoryLimitError:
        prepared = _prepare(kept, comparison, plan.resources)
        removed = resolve_in_blocks(prepared, comparison, chosen, plan.resources).removed
        everyone = _Everyone(kept, prepared.fingerprints, pl.DataFrame(schema=PAIRS))
        return everyone, removed.rename({"id": "persona_id"})
    similar = conflicting(fingerprints, pairs)
    with open_resolver(similar, pairs, plan.resources) as resolver:
        removed = resolver.resolve(chosen)
    return _Everyone(kept, fingerprints, pairs), removed.rename({"id": "persona_id"})


def _step(everyone: _Everyone, threshold: float, removed: pl.DataFrame) -> SweepStep:
    kept = everyone.texts.join(removed, on="persona_id", how="anti")
    of_layer = dict(removed["layer"].value_counts().iter_rows())
    return SweepStep(
        threshold=threshold,
        candidates=len(everyone.texts),
        kept=len(kept),
        removed=len(removed),
        **{layer: of_layer.get(layer, 0) for layer in LAYERS},
        is_chained=False,
        closest_removed=closest_removed(everyone.texts, removed),
        closest_kept=closest_kept(everyone.fingerprints, everyone.pairs, threshold, kept),
    )
