"""How many personas each Jaccard threshold would keep, and which pairs are closest to it."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import polars as pl

from persona_pipeline.dedup.comparison import compare_texts, conflicting
from persona_pipeline.dedup.resolve import open_resolver
from persona_pipeline.dedup.resources import Resources
from persona_pipeline.dedup.rules import TOLERANCE, Comparison, Thresholds
from persona_pipeline.errors import MemoryLimitError, SettingsError
from persona_pipeline.hub.decisions import read_ranked
from persona_pipeline.hub.plan import DedupPlan
from persona_pipeline.sql import fetch, read_sql
from persona_pipeline.store.stage_rows import StageRows
from persona_pipeline.store.store import Store

LOG = logging.getLogger(__name__)
STAGE = "sweep"
ALL_SHARDS = "all"
"""What stands in the column `shard` of rows about all of them."""
FIRST, LAST, STEP = 0.95, 0.4, 0.05
"""The thresholds, where nobody asks for others."""
SHOWN = 5
MARGIN = 0.05
"""How far below its threshold a chained step looks for pairs to show."""
LEAST = 0.05
"""Similarity below which no pairs are looked for."""
COMPARED_ANEW = 100_000
"""Personas up to which thresholds below the stored pairs are decided among all: down to LAST that
takes 4 CPU-seconds and 560,000 pairs, twice as many personas four times that."""
EXAMPLES = ("persona_id", "persona", "other_id", "other_persona", "similarity")
LAYERS = ("exact", "jaccard", "fuzzy", "semantic")
COUNTS = ("threshold", "candidates", "kept", "removed", *LAYERS, "is_chained")


@dataclass(frozen=True, slots=True, eq=False)
class SweepStep:
    """What one Jaccard threshold would make of the personas."""

    threshold: float
    candidates: int
    kept: int
    removed: int
    exact: int
    """Of those removed, by the same words in the same order; the next three: in their layers."""
    jaccard: int
    fuzzy: int
    semantic: int
    is_chained: bool
    """Decided among what the step before kept, not among all."""
    closest_removed: pl.DataFrame
    """EXAMPLES: a removed persona and its keeper, the similarity nearest above the threshold."""
    closest_kept: pl.DataFrame
    """EXAMPLES: two kept personas, the similarity nearest below the threshold."""


@dataclass(frozen=True, slots=True)
class _Everyone:
    """The compared candidates, and what was stored about them."""

    texts: pl.DataFrame
    fingerprints: pl.DataFrame
    pairs: pl.DataFrame
    min_jaccard: float | None = None
    """From where on pairs were stored; None: not known."""


def sweep(store: Store, plan: DedupPlan, thresholds: Sequence[float]) -> list[SweepStep]:
    """One step per threshold, the highest first.

    Those from which on pairs are stored are decided from these, all layers included. For lower ones
    the word sets are compared anew, so a step is what a run would make of it. Of many personas, far
    down, and with MinHash, which finds other pairs from each threshold on, they are chained
    instead: what the step before kept is compared, in the Jaccard layer only. True pairs grow
    quadratically towards low thresholds, and most of them are among personas that a higher
    threshold removes.
    """
    ordered = sorted(set(thresholds), reverse=True)
    everyone = _read(store)
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
    """From the first down to the last, in steps.

    Raises:
        SettingsError: there are none.
    """
    if first < last:
        msg = f"a sweep goes down: --from {first:g} is below --to {last:g}"
        raise SettingsError(msg)
    count = int((first - last) / step + TOLERANCE) + 1
    return [round(first - number * step, 6) for number in range(count)]


def sweep_rows(steps: Sequence[SweepStep]) -> StageRows:
    """The rows of `personas.sweep`."""
    rows = [{name: getattr(step, name) for name in COUNTS} for step in steps]
    return StageRows(ALL_SHARDS, STAGE, {"personas.sweep": pl.DataFrame(rows)})


def _read(store: Store) -> _Everyone:
    with store.connect(read_only=True) as connection:  # one: of the same commit
        texts = fetch(connection, read_sql("personas/compared_candidates"))
        numbers = dict(texts.select("shard", "shard_number").unique().iter_rows())
        ranked, pairs = read_ranked(connection, list(numbers), numbers)
        min_jaccard = fetch(connection, read_sql("personas/compared_from"))["min_jaccard"].item()
    known = ranked.join(texts, left_on="id", right_on="persona_id", how="semi")
    return _Everyone(texts, known, pairs, min_jaccard)


def _compare(
    texts: pl.DataFrame, comparison: Comparison, resources: Resources
) -> tuple[pl.DataFrame, pl.DataFrame]:
    rows = texts.select("quality", id="persona_id", text="persona", rank="shard_number")
    return compare_texts(rows, None, comparison, resources)


def _compared_anew(
    everyone: _Everyone, plan: DedupPlan, stored: float, least: float
) -> tuple[float, _Everyone]:
    """With all pairs of word sets from `least` on, if that can be; else as it is, from `stored` on.

    Pairs of meaning stay as they are stored.
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
    """Each step, and what it removes."""
    similar = conflicting(everyone.fingerprints, everyone.pairs)
    with open_resolver(similar, everyone.pairs, plan.resources) as resolver:
        for threshold in thresholds:
            chosen = Thresholds(threshold, plan.thresholds.cosine, plan.thresholds.fuzzy)
            removed = resolver.resolve(chosen).rename({"id": "persona_id"})
            yield _step(everyone, threshold, removed), removed


def _chain(
    last: SweepStep, kept: pl.DataFrame, plan: DedupPlan, thresholds: Sequence[float]
) -> Iterator[SweepStep]:
    """The last step on stored pairs, and those after it; each with what the next finds below it."""
    resources = plan.resources
    for threshold in thresholds:
        comparison = Comparison(max(threshold - MARGIN, LEAST), min_cosine=None)
        fingerprints, pairs = _compare(kept, comparison, resources)
        everyone = _Everyone(kept, fingerprints, pairs)
        yield replace(last, closest_kept=_closest_kept(everyone, last.threshold, kept))
        with open_resolver(conflicting(fingerprints, pairs), pairs, resources) as resolver:
            removed = resolver.resolve(Thresholds(threshold, cosine=None))
        removed = removed.rename({"id": "persona_id"})
        step = _step(everyone, threshold, removed)
        kept = kept.join(removed, on="persona_id", how="anti")
        so_far = {name: getattr(last, name) + getattr(step, name) for name in ("removed", *LAYERS)}
        last = replace(step, candidates=last.candidates, **so_far, is_chained=True)
    yield last


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
        closest_removed=_closest_removed(everyone.texts, removed),
        closest_kept=_closest_kept(everyone, threshold, kept),
    )


def _closest_removed(texts: pl.DataFrame, removed: pl.DataFrame) -> pl.DataFrame:
    """Those that a threshold a little higher would not have removed; the same words always are."""
    near = removed.filter(pl.col("layer") == "jaccard", pl.col("similarity") < 1 - TOLERANCE)
    pairs = near.rename({"kept_id": "other_id"}).sort("similarity", "persona_id")
    return _with_texts(pairs, texts)


def _closest_kept(everyone: _Everyone, threshold: float, kept: pl.DataFrame) -> pl.DataFrame:
    """Those of which a threshold a little lower would have removed one.

    At most one kept persona has a given word set, so no pair comes twice.
    """
    keyed = everyone.fingerprints.join(
        kept, left_on="id", right_on="persona_id", how="semi"
    ).select("set_key", persona_id="id")
    below = everyone.pairs.filter(
        pl.col("layer") != "semantic", pl.col("similarity") < threshold - TOLERANCE
    )
    pairs = (
        below.join(keyed, left_on="first_key", right_on="set_key")
        .join(keyed.rename({"persona_id": "other_id"}), left_on="second_key", right_on="set_key")
        .sort("similarity", "persona_id", "other_id", descending=[True, False, False])
    )
    return _with_texts(pairs, kept)


def _with_texts(pairs: pl.DataFrame, texts: pl.DataFrame) -> pl.DataFrame:
    """The first ones, one of each persona: a cluster would fill the list with the same texts."""
    one = texts.select("persona_id", "persona")
    other = texts.select(other_id="persona_id", other_persona="persona")
    return (
        pairs.unique("persona_id", keep="first", maintain_order=True)
        .unique("other_id", keep="first", maintain_order=True)
        .head(SHOWN)
        .join(one, on="persona_id", maintain_order="left")
        .join(other, on="other_id", maintain_order="left")
        .select(*EXAMPLES)
    )
