"""Find duplicates by comparing every pair in plain Python, as a reference for the engine."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import sqrt

import polars as pl
from rapidfuzz.fuzz import ratio

from persona_pipeline.dedup.duplicates import find_duplicates
from persona_pipeline.dedup.resources import Resources
from persona_pipeline.dedup.rules import FUZZY_FROM, Thresholds

TOLERANCE = 1e-9
LAYERS = ["key", "exact", "jaccard", "fuzzy", "semantic"]
MASK = (1 << 64) - 1
TABLE = {
    "id": pl.String(),
    "text": pl.String(),
    "rank": pl.Int64(),
    "quality": pl.Float64(),
    "key": pl.Int64(),
}
VECTORS = {"id": pl.String(), "embedding": pl.List(pl.Float32)}


@dataclass(frozen=True, slots=True)
class Row:
    """A candidate whose words stand between spaces."""

    id: str
    text: str
    rank: int = 1
    quality: float = 0.0
    embedding: tuple[float, ...] = ()
    key: int | None = None

    @property
    def words(self) -> list[str]:
        return self.text.split()


@dataclass(frozen=True, slots=True)
class Link:
    """How one row is similar to another: the layer and the scores."""

    layer: str
    similarity: float
    fuzzy_score: float | None = None

    @property
    def order(self) -> tuple[float, ...]:
        score = -1.0 if self.fuzzy_score is None else self.fuzzy_score
        return (LAYERS.index(self.layer), -self.similarity, -score)


@dataclass(frozen=True, slots=True)
class Removed:
    """A removed row and its keeper."""

    id: str
    kept_id: str
    layer: str
    similarity: float
    threshold: float
    fuzzy_score: float | None


def mix64(x: int) -> int:
    x ^= x >> 30
    x = x * 0xBF58476D1CE4E5B9 & MASK
    x ^= x >> 27
    x = x * 0x94D049BB133111EB & MASK
    return x ^ x >> 31


def fnv(numbers: Iterable[int]) -> int:
    """Return FNV-1a over these numbers, with its bits mixed."""
    state = 14695981039346656037
    for number in numbers:
        state = (state ^ number) * 1099511628211 & MASK
    return mix64(state)


def jaccard(left: Row, right: Row) -> float:
    a, b = set(left.words), set(right.words)
    return len(a & b) / len(a | b) if a and b else 0.0


def cosine(left: Row, right: Row) -> float:
    a, b = left.embedding, right.embedding
    if len(a) != len(b) or not any(a) or not any(b):
        return 0.0
    dot = sum(x * y for x, y in zip(a, b, strict=True))
    return dot / sqrt(sum(x * x for x in a)) / sqrt(sum(y * y for y in b))


def fuzzy_score(left: Row, right: Row) -> float:
    first, second = (" ".join(sorted(set(row.words))) for row in (left, right))
    return ratio(first, second)


def word_link(left: Row, right: Row, thresholds: Thresholds) -> Link | None:
    if left.words == right.words and (left.words or left.text == right.text):
        return Link("exact", 1.0)
    similarity, fuzzy = jaccard(left, right), thresholds.fuzzy
    is_asked = fuzzy is not None and similarity >= min(FUZZY_FROM, thresholds.jaccard) - TOLERANCE
    score = fuzzy_score(left, right) if is_asked and similarity < 1 else None
    if similarity >= thresholds.jaccard - TOLERANCE:
        return Link("jaccard", similarity, score)
    if score is not None and fuzzy is not None and score >= fuzzy - TOLERANCE:
        return Link("fuzzy", similarity, score)
    return None


def links(left: Row, right: Row, thresholds: Thresholds) -> list[Link]:
    """Return the layers in which two rows are similar enough for one of them to be removed."""
    links_of_pair = [word_link(left, right, thresholds)]
    if thresholds.cosine is not None and left.text != right.text:
        similarity = cosine(left, right)
        if similarity >= thresholds.cosine - TOLERANCE:
            links_of_pair.append(Link("semantic", similarity))
    if left.key is not None and left.key == right.key:
        links_of_pair.append(Link("key", 1.0))
    return [link for link in links_of_pair if link]


def ranked(rows: Iterable[Row]) -> list[Row]:
    """Return the rows by rank. Of similar rows, the first is kept."""
    return sorted(
        rows,
        key=lambda r: (r.rank, -r.quality, fnv(r.text.encode()), r.id),
    )


def reference(rows: Iterable[Row], thresholds: Thresholds) -> list[Removed]:
    """Walk down the ranking: a row stays unless it is similar to one that stayed."""
    kept, removed = list[Row](), list[Removed]()
    levels = {
        "key": 1.0,
        "exact": 1.0,
        "jaccard": thresholds.jaccard,
        "fuzzy": thresholds.fuzzy,
        "semantic": thresholds.cosine,
    }
    for row in ranked(rows):
        similar = [
            (link.order, place, link, keeper)
            for place, keeper in enumerate(kept)
            for link in links(row, keeper, thresholds)
        ]
        if not similar:
            kept.append(row)
            continue
        _, _, link, keeper = min(similar, key=lambda each: each[:2])
        level = levels[link.layer]
        assert level is not None
        removed.append(
            Removed(
                row.id,
                keeper.id,
                link.layer,
                link.similarity,
                level,
                link.fuzzy_score,
            )
        )
    return sorted(removed, key=lambda r: r.id)


def table_of(rows: Iterable[Row]) -> pl.DataFrame:
    return pl.DataFrame(
        [(r.id, r.text, r.rank, r.quality, r.key) for r in rows],
        schema=TABLE,
        orient="row",
    )


def vectors_of(rows: Iterable[Row]) -> pl.DataFrame:
    return pl.DataFrame(
        [(r.id, list(r.embedding)) for r in rows if r.embedding],
        schema=VECTORS,
        orient="row",
    )


def run(
    rows: Iterable[Row], thresholds: Thresholds, resources: Resources | None = None
) -> list[Removed]:
    """Return what the library finds."""
    rows = list(rows)
    duplicates = find_duplicates(
        table_of(rows),
        vectors_of(rows),
        rank="rank",
        quality="quality",
        keys=["key"],
        thresholds=thresholds,
        resources=resources,
    )
    return removals(duplicates.removed)


def removals(removed: pl.DataFrame) -> list[Removed]:
    assert removed.columns == list(Removed.__dataclass_fields__)
    return [Removed(*row) for row in removed.iter_rows()]
