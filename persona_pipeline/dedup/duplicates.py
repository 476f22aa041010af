"""Which texts go because another one says the same: the library's one call on a table of texts."""

from collections.abc import Sequence

import numpy as np
import polars as pl

from persona_pipeline.dedup.resolve import FINGERPRINTS, PAIRS, open_resolver
from persona_pipeline.dedup.resources import Resources
from persona_pipeline.dedup.rules import TOLERANCE, Comparison, Thresholds
from persona_pipeline.dedup.vectors.search import EXACT_UP_TO, TextVectors, similar_texts
from persona_pipeline.dedup.words.fuzzy import fuzzy_scores
from persona_pipeline.dedup.words.join import KeyedSets, distinct_sets, jaccard_pairs
from persona_pipeline.dedup.words.minhash import minhash_pairs
from persona_pipeline.dedup.words.word_sets import (
    EncodedTexts,
    encode,
    hash_texts,
    learn_vocabulary,
)

CANDIDATES = {"persona_id": pl.String(), "persona": pl.String(), "shard_number": pl.Int64()}
EMBEDDINGS = {"persona_id": pl.String(), "embedding": pl.List(pl.Float32)}


def find_duplicates(
    candidates: pl.DataFrame,
    embeddings: pl.DataFrame | None = None,
    thresholds: Thresholds | None = None,
    comparison: Comparison | None = None,
    resources: Resources | None = None,
) -> pl.DataFrame:
    """One row per persona to remove, and because of which: sorted by persona_id.

    Columns: persona_id, kept_id, layer, similarity (Jaccard or cosine), threshold, fuzzy_score.

        texts = pl.DataFrame({"persona_id": ["a", "b"], "persona": ["A baker.", "a Baker"]})
        find_duplicates(texts, thresholds=Thresholds(jaccard=0.7, cosine=None))

    Candidates are ranked: lower shard number first, then higher quality, then a hash of the
    text, then the id. The first of a group of duplicates is kept, so what is kept of a shard, and
    every row about it, depends on this shard and the earlier ones only. Neither the order of the
    rows nor the number of threads matters.

    Layers: `exact` (the same words in the same order), `jaccard` (Jaccard similarity of the word
    sets), `fuzzy` (a lower one, and similar spelling), `semantic` (cosine of the embeddings). No
    two kept personas are similar in any layer, and each removed one is similar to a kept one:
    `kept_id`, the most similar before it in the first layer that has one.

    Args:
        candidates: persona_id (unique), persona; also shard_number, and quality (higher is kept).
        embeddings: persona_id (unique), embedding; a persona without one is in no semantic pair.
        thresholds: where each layer sets its threshold (`persona_pipeline.dedup.rules`).
        comparison: how pairs are found; default: exactly, and no more than the thresholds need.
        resources: memory, threads and progress.

    Raises:
        SettingsError: the comparison would not find all that the thresholds ask for.
        MemoryLimitError: there are more pairs than fit into the memory.
    """
    resources, thresholds = resources or Resources(), thresholds or Thresholds()
    comparison = comparison or Comparison.for_thresholds(thresholds)
    comparison.check_finds(thresholds)
    if "shard_number" not in candidates.columns:
        candidates = candidates.with_columns(shard_number=0)
    fingerprints, pairs = compare_texts(candidates, embeddings, comparison, resources)
    with open_resolver(conflicting(fingerprints, pairs), pairs, resources) as resolver:
        return resolver.resolve(thresholds)


def compare_texts(
    candidates: pl.DataFrame,
    embeddings: pl.DataFrame | None,
    comparison: Comparison,
    resources: Resources,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Fingerprints and similar pairs of what `find_duplicates` takes."""
    personas = _select(candidates, CANDIDATES, "candidates")
    vectors = _select(_or_empty(embeddings), EMBEDDINGS, "embeddings")
    texts = personas["persona"]
    encoded = encode(texts, learn_vocabulary(texts), threads=resources.threads)
    fingerprints = fingerprint(personas, encoded, _quality(candidates))
    jaccard = word_set_pairs(distinct_sets(encoded), [], comparison, resources)
    keyed = personas.select("persona").with_columns(key=fingerprints["set_key"])
    matches = [with_scores(jaccard, keyed, comparison, resources)]
    if comparison.min_cosine is not None:
        new = keyed_vectors(fingerprints, vectors)
        early = _first_texts(fingerprints, EXACT_UP_TO)
        least, nobody = comparison.min_cosine, new.clear()
        matches.append(semantic_pairs(new, nobody, least, early=early, resources=resources))
    return fingerprints, pl.concat(matches)


def conflicting(fingerprints: pl.DataFrame, pairs: pl.DataFrame) -> pl.DataFrame:
    """Those that are like another one: the others stay, and need no rank."""
    is_text = pl.col("layer") == "semantic"
    sets, texts = (
        pl.concat([side["first_key"], side["second_key"]]).unique().implode()
        for side in (pairs.filter(~is_text), pairs.filter(is_text))
    )
    return fingerprints.filter(
        pl.col("set_key").is_duplicated()
        | pl.col("set_key").is_in(sets)
        | pl.col("text_key").is_in(texts)
    )


def fingerprint(personas: pl.DataFrame, encoded: EncodedTexts, quality: pl.Series) -> pl.DataFrame:
    """One row per persona: its rank, and the keys by which it is like others."""
    return (
        personas.select("persona_id", "shard_number")
        .with_columns(
            quality.alias("quality"),
            pl.Series("sequence_key", encoded.sequence_keys),
            pl.Series("set_key", encoded.set_keys),
            pl.Series("text_key", hash_texts(personas["persona"])),
        )
        .select(*FINGERPRINTS)
    )


def word_set_pairs(
    new: KeyedSets, known: Sequence[KeyedSets], comparison: Comparison, resources: Resources
) -> pl.DataFrame:
    """The pairs of similar word sets, one of which is new, by the method of the comparison."""
    if comparison.joined_from is not None:
        return jaccard_pairs(new, known, comparison.joined_from, resources)
    least, is_verified = comparison.min_jaccard - TOLERANCE, comparison.method != "minhash128"
    return minhash_pairs(new, known, least, resources, is_verified=is_verified)


def with_scores(
    jaccard: pl.DataFrame,
    texts: pl.DataFrame,
    comparison: Comparison,
    resources: Resources,
) -> pl.DataFrame:
    """The pairs of the Jaccard layer, with their fuzzy scores where the comparison has them."""
    scores: pl.Series | pl.Expr = pl.lit(None, pl.Float64)
    if comparison.has_scores and len(jaccard):
        keys = pl.concat([jaccard["first_key"], jaccard["second_key"]]).unique()
        needed = texts.filter(pl.col("key").is_in(keys.implode())).unique("key")
        scores = fuzzy_scores(jaccard, needed, resources)
    return jaccard.with_columns(fuzzy_score=scores, layer=pl.lit("jaccard")).select(*PAIRS)


def keyed_vectors(fingerprints: pl.DataFrame, vectors: pl.DataFrame) -> pl.DataFrame:
    """text_key and embedding of each text that has one, once."""
    return (
        fingerprints.select("persona_id", "text_key")
        .join(vectors, on="persona_id")
        .sort("text_key", "persona_id")
        .unique("text_key", keep="first", maintain_order=True)
        .select("text_key", "embedding")
    )


def semantic_pairs(
    new: pl.DataFrame,
    known: pl.DataFrame,
    min_cosine: float,
    *,
    early: pl.Series | None = None,
    resources: Resources | None = None,
) -> pl.DataFrame:
    """The pairs of texts (text_key, embedding) with at least this cosine, one of which is new.

    `early`: keys of the texts that are compared exactly, the others in cells; default: all are.
    """
    is_early = pl.lit(value=True) if early is None else pl.col("text_key").is_in(early.implode())
    everyone = pl.concat([known.select(new.columns), new]).with_columns(
        is_known=pl.arange(pl.len()) < len(known),
        length=pl.col("embedding").list.len(),
        is_early=is_early,
    )
    matches = [pl.DataFrame(schema=PAIRS)]
    for group in everyone.filter(pl.col("length") > 0).partition_by("length"):
        vectors = TextVectors(
            keys=group["text_key"].to_numpy(),
            rows=group["embedding"].list.to_array(group.item(0, "length")).to_numpy(),
            known=int(group["is_known"].sum()),
            early=group["is_early"].to_numpy(),
        )
        matches.append(similar_texts(vectors, min_cosine - TOLERANCE, resources))
    return pl.concat(matches)


def _first_texts(fingerprints: pl.DataFrame, count: int) -> pl.Series:
    """The keys of the first texts in rank order."""
    ranked = fingerprints.group_by("text_key").agg(pl.col("shard_number").min())
    return ranked.sort("shard_number", "text_key").head(count)["text_key"]


def _quality(candidates: pl.DataFrame) -> pl.Series:
    if "quality" in candidates.columns:
        return candidates["quality"].cast(pl.Float64).fill_null(0.0)
    return pl.Series("quality", np.zeros(len(candidates)))


def _or_empty(embeddings: pl.DataFrame | None) -> pl.DataFrame:
    return pl.DataFrame(schema=EMBEDDINGS) if embeddings is None else embeddings


def _select(frame: pl.DataFrame, schema: dict[str, pl.DataType], what: str) -> pl.DataFrame:
    selected = frame.select(pl.col(name).cast(dtype) for name, dtype in schema.items())
    if selected["persona_id"].is_duplicated().any():
        message = f"{what} have more than one row for a persona_id"
        raise ValueError(message)
    if any(selected.null_count().row(0)):
        message = f"{what} have a null in one of {', '.join(schema)}"
        raise ValueError(message)
    return selected
