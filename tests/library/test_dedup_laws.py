"""The laws of deduplication, against a reference that compares every pair in plain Python."""

from dataclasses import dataclass
from itertools import combinations
from math import sqrt
from random import Random

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from persona_pipeline.dedup import combinations as key_combinations
from persona_pipeline.dedup import semantic
from persona_pipeline.dedup.combinations import build_combinations
from persona_pipeline.dedup.duplicates import Thresholds, find_duplicates
from persona_pipeline.dedup.scratch import open_scratch
from persona_pipeline.dedup.semantic import find_semantic_pairs
from persona_pipeline.dedup.surface import find_surface_pairs
from persona_pipeline.dedup.tokenizer import normalize_candidates
from persona_pipeline.hashing import stable_id

TOLERANCE = 1e-9


@dataclass(frozen=True, slots=True)
class Row:
    persona_id: str
    persona: str
    shard_number: int
    embedding: list[float] | None


@dataclass(frozen=True, slots=True)
class Removed:
    persona_id: str
    kept_id: str
    layer: str
    similarity: float
    threshold: float


def jaccard(left: Row, right: Row) -> float:
    a, b = set(left.persona.split()), set(right.persona.split())
    return len(a & b) / len(a | b) if a and b else 0.0


def cosine(left: Row, right: Row) -> float:
    a, b = left.embedding, right.embedding
    if not a or not b or len(a) != len(b) or not any(a) or not any(b):
        return 0.0
    dot = sum(x * y for x, y in zip(a, b, strict=True))
    return dot / sqrt(sum(x * x for x in a)) / sqrt(sum(y * y for y in b))


def same_text(left: Row, right: Row) -> float:
    return float(left.persona == right.persona)


def in_line(rows: list[Row]) -> list[Row]:
    return sorted(rows, key=lambda r: (r.shard_number, stable_id(r.persona), r.persona_id))


def reference(rows: list[Row], thresholds: Thresholds) -> list[Removed]:
    """Greedy keep-first, layer by layer, comparing each persona with each kept one before it."""
    layers = (
        ("exact", same_text, 1.0),
        ("surface", jaccard, thresholds.jaccard),
        ("semantic", cosine, thresholds.cosine),
    )
    left, removed = in_line(rows), list[Removed]()
    for layer, similarity, threshold in layers:
        kept = list[Row]()
        for row in left:
            scores = [similarity(row, keeper) for keeper in kept]
            best = max(scores, default=0.0)
            if best >= threshold - TOLERANCE:
                keeper = kept[next(i for i, s in enumerate(scores) if s >= best - 1e-12)]
                removed.append(Removed(row.persona_id, keeper.persona_id, layer, best, threshold))
            else:
                kept.append(row)
        left = kept
    return sorted(removed, key=lambda r: r.persona_id)


def run(rows: list[Row], thresholds: Thresholds, threads: int = 2) -> list[Removed]:
    candidates = pl.DataFrame(
        [(r.persona_id, r.persona, r.shard_number) for r in rows],
        schema={"persona_id": pl.String, "persona": pl.String, "shard_number": pl.Int64},
        orient="row",
    )
    embeddings = pl.DataFrame(
        [(r.persona_id, r.embedding) for r in rows if r.embedding is not None],
        schema={"persona_id": pl.String, "embedding": pl.List(pl.Float32)},
        orient="row",
    )
    found = find_duplicates(candidates, embeddings, thresholds, threads=threads)
    assert found.columns == ["persona_id", "kept_id", "layer", "similarity", "threshold"]
    return [Removed(*row) for row in found.iter_rows()]


numbers = st.sampled_from([-1.0, 0.0, 1.0, 2.0])
embeddings = st.none() | st.lists(numbers, min_size=0, max_size=3)
words = st.lists(st.sampled_from("abcdefgh"), max_size=9)


@st.composite
def row_lists(draw: st.DrawFn) -> list[Row]:
    parts = draw(st.lists(st.tuples(words, st.integers(1, 3), embeddings), max_size=25))
    return [Row(f"p{i}", " ".join(w), shard, vec) for i, (w, shard, vec) in enumerate(parts)]


levels = st.sampled_from([0.5, 0.7, 0.9])
all_thresholds = st.builds(Thresholds, jaccard=levels, cosine=levels)
law = settings(max_examples=12, deadline=None)
"""A call costs some 60 ms even for a few rows: few examples, of many rows each."""
compared = settings(max_examples=40, deadline=None)


@compared
@given(row_lists(), all_thresholds)
def test_the_result_is_that_of_comparing_every_pair(
    rows: list[Row], thresholds: Thresholds
) -> None:
    found, expected = run(rows, thresholds), reference(rows, thresholds)

    assert [(r.persona_id, r.kept_id, r.layer, r.threshold) for r in found] == [
        (r.persona_id, r.kept_id, r.layer, r.threshold) for r in expected
    ]
    assert [r.similarity for r in found] == pytest.approx([r.similarity for r in expected])


@law
@given(row_lists(), all_thresholds, st.randoms(use_true_random=False), st.sampled_from([1, 3]))
def test_the_order_of_rows_and_the_number_of_threads_change_nothing(
    rows: list[Row], thresholds: Thresholds, random: Random, threads: int
) -> None:
    shuffled = random.sample(rows, len(rows))

    assert run(shuffled, thresholds, threads) == run(rows, thresholds)


@law
@given(row_lists(), all_thresholds)
def test_what_is_kept_has_no_duplicates(rows: list[Row], thresholds: Thresholds) -> None:
    removed = {r.persona_id for r in run(rows, thresholds)}
    kept = [r for r in rows if r.persona_id not in removed]

    assert run(kept, thresholds) == []
    for left, right in combinations(kept, 2):
        assert jaccard(left, right) < thresholds.jaccard
        assert cosine(left, right) < thresholds.cosine


@law
@given(row_lists(), all_thresholds)
def test_every_chain_of_keepers_ends_at_a_kept_persona(
    rows: list[Row], thresholds: Thresholds
) -> None:
    removed = {r.persona_id: r for r in run(rows, thresholds)}
    place = {r.persona_id: i for i, r in enumerate(in_line(rows))}

    for row in removed.values():
        assert row.similarity >= row.threshold - TOLERANCE
        here = row.persona_id
        while here in removed:
            assert place[removed[here].kept_id] < place[here]
            here = removed[here].kept_id
        assert here in place


@law
@given(row_lists(), all_thresholds, st.integers(1, 2))
def test_a_later_shard_changes_no_row_about_an_earlier_one(
    rows: list[Row], thresholds: Thresholds, last: int
) -> None:
    early = [r for r in rows if r.shard_number <= last]
    ids = {r.persona_id for r in early}

    full = run(rows, thresholds)

    assert [r for r in full if r.persona_id in ids] == run(early, thresholds)


vocabulary = [f"w{i}" for i in range(45)]


@st.composite
def big_sets(draw: st.DrawFn) -> list[frozenset[str]]:
    """Sets of 1 to 40 words that differ from one another by a few words."""
    base = draw(st.permutations(vocabulary))[: draw(st.integers(1, 40))]
    changes = st.sets(st.sampled_from(vocabulary), max_size=8)
    variants = {frozenset(set(base) ^ draw(changes)) for _ in range(draw(st.integers(1, 8)))}
    return sorted(variants, key=sorted)


def surface_pairs(sets: list[frozenset[str]], min_similarity: float) -> dict[frozenset[str], float]:
    texts = [" ".join(sorted(words)) for words in sets]
    ids = [f"p{i}" for i in range(len(sets))]
    candidates = pl.DataFrame(
        {"persona_id": ids, "persona": texts, "shard_number": range(len(ids))}
    )
    with open_scratch(memory_limit="1GB", threads=2) as scratch:
        normalize_candidates(scratch, candidates)
        scratch.create("exact")
        find_surface_pairs(scratch, min_similarity)
        rows = scratch.fetch("select earlier, later, similarity from pairs").rows()
    assert len(rows) == len({(earlier, later) for earlier, later, _ in rows})
    return {
        frozenset((ids[earlier], ids[later])): similarity for earlier, later, similarity in rows
    }


@compared
@given(big_sets(), levels, st.sampled_from([1, 10, 60, 500]))
def test_the_join_finds_exactly_the_similar_pairs_at_any_limit_of_keys(
    sets: list[frozenset[str]], threshold: float, limit: int
) -> None:
    expected = {
        frozenset((f"p{i}", f"p{j}")): len(sets[i] & sets[j]) / len(sets[i] | sets[j])
        for i, j in combinations(range(len(sets)), 2)
        if sets[i] and sets[j]
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(key_combinations, "_MAX_COMBINATIONS", limit)
        found = surface_pairs(sets, threshold - TOLERANCE)

    assert found == {pair: s for pair, s in expected.items() if s >= threshold - TOLERANCE}


@pytest.mark.parametrize("threshold", [0.5, 0.7, 0.9])
@pytest.mark.parametrize("limit", [4, 500])
def test_two_sets_that_just_reach_the_threshold_share_a_key_wherever_their_words_stand(
    threshold: float, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_combinations, "_MAX_COMBINATIONS", limit)
    similarity = threshold - TOLERANCE
    for larger in range(1, 31):
        table = {
            (size, is_probe, level): set(map(tuple, group["positions"].to_list()))
            for (size, is_probe, level), group in build_combinations(
                range(1, larger + 1), similarity
            ).group_by("size", "is_probe", "level")
        }
        for smaller in range(1, larger + 1):
            overlap = key_combinations.required_overlap(larger, smaller, similarity)
            if overlap > smaller:
                continue
            level = key_combinations.pair_level(larger, smaller, similarity)
            # The worst case: all words that are not shared stand before the shared ones.
            first = range(1, level + 1)
            probe = tuple(larger - overlap + position for position in first)
            index = tuple(smaller - overlap + position for position in first)
            assert probe in table[larger, True, level]
            assert index in table[smaller, False, level]


@compared
@given(row_lists(), levels, st.sampled_from([1, 2, 5]))
def test_the_blocks_of_the_semantic_search_do_not_show(
    rows: list[Row], threshold: float, block: int
) -> None:
    vectors = pl.DataFrame(
        {"priority": range(len(rows)), "embedding": [r.embedding or [] for r in rows]},
        schema={"priority": pl.Int64, "embedding": pl.List(pl.Float32)},
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(semantic, "_BLOCK", block)
        patch.setattr(semantic, "_GATHER", 6)
        found = find_semantic_pairs(vectors, threshold - TOLERANCE)

    expected = {
        (i, j)
        for i, j in combinations(range(len(rows)), 2)
        if cosine(rows[i], rows[j]) >= threshold - TOLERANCE
    }
    pairs = list(zip(found["earlier"], found["later"], strict=True))
    assert len(pairs) == len(expected)
    assert set(pairs) == expected
