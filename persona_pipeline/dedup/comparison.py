"""Compare a table of texts: fingerprints of its rows, and the pairs of similar texts."""

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from persona_pipeline.dedup.resolve import EXACT_KEYS, FINGERPRINTS, PAIRS
from persona_pipeline.dedup.resources import Resources
from persona_pipeline.dedup.rules import TOLERANCE, Comparison
from persona_pipeline.dedup.vectors.search import EXACT_UP_TO, TextVectors, similar_texts
from persona_pipeline.dedup.words.fuzzy import fuzzy_scores
from persona_pipeline.dedup.words.join import KeyedSets, distinct_sets, jaccard_pairs, no_sets
from persona_pipeline.dedup.words.minhash import minhash_pairs
from persona_pipeline.dedup.words.word_sets import (
    EncodedTexts,
    encode,
    hash_texts,
    learn_vocabulary,
)

KEYED = {"text": pl.String(), "key": pl.UInt64()}
"""One row per text, with the key of its word set."""


@dataclass(frozen=True, slots=True)
class PreparedTexts:
    """What the rows of a table are compared by."""

    fingerprints: pl.DataFrame
    """`FINGERPRINTS`, one row per row of the table."""
    sets: KeyedSets
    """The distinct word sets; none where no words are compared."""
    texts: pl.DataFrame
    """key, text: one text of each word set, whichever."""
    vectors: Sequence[TextVectors]
    """The vectors of the distinct texts, those of one length together; none is known."""


def compare_texts(
    texts: pl.DataFrame,
    embeddings: pl.DataFrame | None,
    comparison: Comparison,
    resources: Resources,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the fingerprints of all rows, and the pairs of similar texts.

    Args:
        texts: id (unique), rank (Int64); also text (String), quality (Float64, higher is kept).
            Without a column text no words are compared, and every row has a text of its own.
        embeddings: id (unique), embedding (List of Float32); rows without one are in no semantic
            pair.
        comparison: which pairs are searched for, and how.
        resources: memory, threads and progress.

    Returns:
        `FINGERPRINTS` (one row per row of the table) and `PAIRS` (one row per pair).

    Raises:
        MemoryLimitError: there are more pairs than fit into the memory.
    """
    prepared = prepare_texts(texts, embeddings, comparison, resources)
    return prepared.fingerprints, find_pairs(prepared, comparison, resources)


def prepare_texts(
    texts: pl.DataFrame,
    embeddings: pl.DataFrame | None,
    comparison: Comparison,
    resources: Resources,
) -> PreparedTexts:
    """Encode the words of a table, and name its vectors by texts; arguments: `compare_texts`."""
    if "text" in texts.columns:
        encoded = encode(texts["text"], learn_vocabulary(texts["text"]), threads=resources.threads)
        fingerprints, sets = fingerprint(texts, encoded), distinct_sets(encoded)
        keyed = texts.select("text").with_columns(key=fingerprints["set_key"])
    else:
        fingerprints, sets, keyed = _number_rows(texts), no_sets(), pl.DataFrame(schema=KEYED)
    vectors = list[TextVectors]()
    if comparison.min_cosine is not None and embeddings is not None:
        new = keyed_vectors(fingerprints, embeddings)
        early = _first_texts(fingerprints, EXACT_UP_TO)
        vectors = _group_vectors(new, new.clear(), early)
    return PreparedTexts(fingerprints, sets, keyed, vectors)


def find_pairs(
    prepared: PreparedTexts, comparison: Comparison, resources: Resources
) -> pl.DataFrame:
    """Return all `PAIRS` of similar texts.

    Raises:
        MemoryLimitError: there are more pairs than fit into the memory.
    """
    matches = [pl.DataFrame(schema=PAIRS)]
    if len(prepared.sets.keys):
        jaccard = word_set_pairs(prepared.sets, [], comparison, resources)
        matches.append(with_scores(jaccard, prepared.texts, comparison, resources))
    if comparison.min_cosine is not None:
        least = comparison.min_cosine - TOLERANCE
        matches += [similar_texts(group, least, resources) for group in prepared.vectors]
    return pl.concat(matches)


def conflicting(
    fingerprints: pl.DataFrame, pairs: pl.DataFrame, exact_keys: pl.DataFrame | None = None
) -> pl.DataFrame:
    """Return the rows that are like another one: all others stay, and need no ranking."""
    is_text = pl.col("layer") == "semantic"
    sets, texts = (
        pl.concat([side["first_key"], side["second_key"]]).unique().implode()
        for side in (pairs.filter(~is_text), pairs.filter(is_text))
    )
    is_like_another = (
        pl.col("set_key").is_duplicated()
        | pl.col("set_key").is_in(sets)
        | pl.col("text_key").is_in(texts)
    )
    if exact_keys is not None and len(exact_keys):
        is_like_another |= pl.col("id").is_in(exact_keys["id"].unique().implode())
    return fingerprints.filter(is_like_another)


def fingerprint(texts: pl.DataFrame, encoded: EncodedTexts) -> pl.DataFrame:
    """Return one row per text: how it ranks, and the keys by which it is like others.

    Args:
        texts: id, text, rank; also quality (Float64, null counts as 0).
        encoded: the same texts, in the same order.
    """
    return texts.select(
        "id",
        "rank",
        _quality(texts),
        pl.Series("sequence_key", encoded.sequence_keys),
        pl.Series("set_key", encoded.set_keys),
        pl.Series("text_key", hash_texts(texts["text"])),
    )


def find_exact_keys(ids: pl.Series, values: pl.DataFrame) -> pl.DataFrame:
    """Return `EXACT_KEYS`: the values that several rows share.

    Args:
        ids: the id of each row.
        values: a column per exact key. Each is a layer of its own, named like the column; a null
            is like nothing.
    """
    keys = values.columns
    schema = {**EXACT_KEYS, "id": ids.dtype}
    parts = [pl.DataFrame(schema=schema)]
    for number, name in enumerate(keys):
        rows = values.select(
            ids.alias("id"), value=pl.col(name), row=pl.int_range(pl.len(), dtype=pl.UInt64)
        )
        shared = rows.filter(pl.col("value").is_not_null() & pl.col("value").is_duplicated())
        part = shared.select(
            "id",
            layer=pl.lit(name),
            layer_order=pl.lit(number + 1 - len(keys), pl.Int64),
            key=pl.col("row").min().over("value") * len(keys) + number,
        )
        parts.append(part.cast(pl.Schema(schema)))
    return pl.concat(parts)


def word_set_pairs(
    new: KeyedSets, known: Sequence[KeyedSets], comparison: Comparison, resources: Resources
) -> pl.DataFrame:
    """Return the pairs of similar word sets of which one is new, by the comparison's method."""
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
    """Return the pairs as `PAIRS` of the layer jaccard, with fuzzy scores if the comparison asks.

    Args:
        jaccard: first_key, second_key, similarity: pairs of word sets.
        texts: key, text: one text of each of these sets, whichever.
        comparison: whether there are scores.
        resources: memory and threads.
    """
    scores: pl.Series | pl.Expr = pl.lit(None, pl.Float64)
    if comparison.has_scores and len(jaccard):
        keys = pl.concat([jaccard["first_key"], jaccard["second_key"]]).unique()
        needed = texts.filter(pl.col("key").is_in(keys.implode())).unique("key")
        scores = fuzzy_scores(jaccard, needed, resources)
    return jaccard.with_columns(fuzzy_score=scores, layer=pl.lit("jaccard")).select(*PAIRS)


def keyed_vectors(fingerprints: pl.DataFrame, embeddings: pl.DataFrame) -> pl.DataFrame:
    """Return text_key and embedding of each text that has an embedding, once per text."""
    return (
        fingerprints.select("id", "text_key")
        .join(embeddings, on="id")
        .sort("text_key", "id")
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
    """Return `PAIRS` of texts with at least this cosine, of which one is new.

    Args:
        new: text_key, embedding (List of Float32). Vectors of different lengths are in no pair.
        known: the same columns; two known texts are not compared.
        min_cosine: the least cosine of a pair.
        early: keys of the texts that are compared exactly; all others are searched for in an IVF
            index. Default: all are compared exactly.
        resources: memory and threads.
    """
    groups = _group_vectors(new, known, early)
    matches = [similar_texts(group, min_cosine - TOLERANCE, resources) for group in groups]
    return pl.concat([pl.DataFrame(schema=PAIRS), *matches])


def _group_vectors(
    new: pl.DataFrame, known: pl.DataFrame, early: pl.Series | None
) -> list[TextVectors]:
    """Return the vectors of each length; see `semantic_pairs`."""
    is_early = pl.lit(value=True) if early is None else pl.col("text_key").is_in(early.implode())
    everyone = pl.concat([known.select(new.columns), new]).with_columns(
        is_known=pl.arange(pl.len()) < len(known),
        length=pl.col("embedding").list.len(),
        is_early=is_early,
    )
    return [
        TextVectors(
            keys=group["text_key"].to_numpy(),
            rows=group["embedding"].list.to_array(group.item(0, "length")).to_numpy(),
            known=int(group["is_known"].sum()),
            early=group["is_early"].to_numpy(),
        )
        for group in everyone.filter(pl.col("length") > 0).partition_by("length")
    ]


def _first_texts(fingerprints: pl.DataFrame, count: int) -> pl.Series:
    """Return the keys of the first `count` texts, in the order of rank and key."""
    ranked = fingerprints.group_by("text_key").agg(pl.col("rank").min())
    return ranked.sort("rank", "text_key").head(count)["text_key"]


def _number_rows(texts: pl.DataFrame) -> pl.DataFrame:
    """Return fingerprints in which no two rows share a key. Its order is that of the ids."""
    numbers = texts["id"].arg_sort().arg_sort().cast(pl.UInt64)
    keys = {name: numbers for name in FINGERPRINTS if name.endswith("_key")}
    return texts.select("id", "rank", _quality(texts), **keys)


def _quality(texts: pl.DataFrame) -> pl.Expr:
    """Return the column quality, 0 where it is null or there is none."""
    if "quality" in texts.columns:
        return pl.col("quality").cast(pl.Float64).fill_null(0.0)
    return pl.lit(0.0).alias("quality")
