"""The laws of deduplication, against a reference that compares every pair in plain Python."""

from collections.abc import Iterable
from itertools import combinations
from random import Random

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from persona_pipeline.dedup.comparison import (
    find_exact_keys,
    fingerprint,
    keyed_vectors,
    semantic_pairs,
    with_scores,
)
from persona_pipeline.dedup.resolve import FINGERPRINTS, PAIRS, open_resolver
from persona_pipeline.dedup.resources import Resources
from persona_pipeline.dedup.rules import Comparison, Thresholds
from persona_pipeline.dedup.words import join, word_sets
from persona_pipeline.dedup.words.join import KeyedSets, distinct_sets, jaccard_pairs
from persona_pipeline.dedup.words.word_sets import encode, learn_vocabulary
from tests.support.dedup_reference import (
    TOLERANCE,
    Removed,
    Row,
    links,
    ranked,
    reference,
    removals,
    run,
    table_of,
    vectors_of,
)
from tests.support.examples import FEWER

law = FEWER
"""A call costs some 60 ms even for a few rows: few examples, of many rows each."""

numbers = st.sampled_from([-1.0, 0.0, 1.0, 2.0])
vectors = st.lists(numbers, max_size=3).map(tuple)
words = st.lists(st.sampled_from(["a", "b", "c", "word", "work", "wordy"]), max_size=9)
levels = st.sampled_from([0.5, 0.7, 0.9])


@st.composite
def row_lists(draw: st.DrawFn) -> list[Row]:
    """Few words, so that many are alike. A text has one vector: it is made from the text."""
    vector_of = dict[str, tuple[float, ...]]()
    rows = list[Row]()
    for number in range(draw(st.integers(0, 25))):
        text = " ".join(draw(words))
        if text not in vector_of:
            vector_of[text] = draw(vectors)
        shard, quality = draw(st.integers(1, 3)), draw(st.sampled_from([0.0, 0.5]))
        key = draw(st.none() | st.integers(1, 8))
        rows.append(Row(f"p{number}", text, shard, quality, vector_of[text], key))
    return rows


all_thresholds = st.builds(
    Thresholds,
    jaccard=levels,
    cosine=levels | st.none(),
    fuzzy=st.none() | st.sampled_from([60.0, 80.0, 95.0]),
)


def assert_alike(matches: Iterable[Removed], expected: Iterable[Removed]) -> None:
    """Equal, but for the last bits of a cosine, and the choice between keepers of one cosine."""
    ours, theirs = list(matches), list(expected)
    assert [(r.id, r.layer, r.threshold, r.fuzzy_score) for r in ours] == [
        (r.id, r.layer, r.threshold, r.fuzzy_score) for r in theirs
    ]
    assert [r.similarity for r in ours] == pytest.approx([r.similarity for r in theirs])
    assert [r.kept_id for r in ours if r.layer != "semantic"] == [
        r.kept_id for r in theirs if r.layer != "semantic"
    ]


@given(row_lists(), all_thresholds)
def test_the_result_is_that_of_comparing_every_pair(
    rows: list[Row], thresholds: Thresholds
) -> None:
    assert_alike(run(rows, thresholds), reference(rows, thresholds))


@law
@given(
    row_lists(),
    all_thresholds,
    st.randoms(use_true_random=False),
    st.sampled_from([1, 3]),
    st.sampled_from([1, 7]),
)
def test_neither_order_nor_threads_nor_memory_nor_chunks_change_a_row(
    rows: list[Row], thresholds: Thresholds, random: Random, threads: int, few: int
) -> None:
    expected = run(rows, thresholds)
    shuffled = random.sample(rows, len(rows))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(word_sets, "CHUNK", few)
        patch.setattr(word_sets, "LEARNED_TEXTS", few)
        patch.setattr(join, "GROUP_KEYS", 10 * few)
        patch.setattr(join, "HOT", few)
        matches = run(shuffled, thresholds, Resources(memory_bytes=1, threads=threads))

    assert matches == expected


@law
@given(row_lists(), all_thresholds)
def test_what_is_kept_has_no_duplicates(rows: list[Row], thresholds: Thresholds) -> None:
    removed = {r.id for r in run(rows, thresholds)}
    kept = [r for r in rows if r.id not in removed]

    assert run(kept, thresholds) == []
    for left, right in combinations(kept, 2):
        assert links(left, right, thresholds) == []


@law
@given(row_lists(), all_thresholds)
def test_each_removed_row_is_similar_to_a_kept_one_before_it(
    rows: list[Row], thresholds: Thresholds
) -> None:
    matches = {r.id: r for r in run(rows, thresholds)}
    by_id = {r.id: r for r in rows}
    place = {r.id: number for number, r in enumerate(ranked(rows))}

    for row in matches.values():
        assert row.kept_id not in matches
        assert place[row.kept_id] < place[row.id]
        layers = links(by_id[row.id], by_id[row.kept_id], thresholds)
        assert row.layer in {link.layer for link in layers}
        level = row.fuzzy_score if row.layer == "fuzzy" else row.similarity
        assert level is not None
        assert level >= row.threshold - TOLERANCE


@law
@given(row_lists(), all_thresholds, st.integers(1, 2))
def test_a_later_shard_changes_no_row_about_an_earlier_one(
    rows: list[Row], thresholds: Thresholds, last: int
) -> None:
    early = [r for r in rows if r.rank <= last]
    ids = {r.id for r in early}

    assert [r for r in run(rows, thresholds) if r.id in ids] == run(early, thresholds)


class Library:
    """What a store keeps between runs: the fingerprints, and all pairs found so far."""

    def __init__(self, rows: list[Row], comparison: Comparison) -> None:
        self.rows = rows
        self.comparison = comparison
        self.vocabulary = learn_vocabulary(table_of(rows)["text"])
        self.fingerprints = pl.DataFrame(schema=FINGERPRINTS)
        self.pairs = pl.DataFrame(schema=PAIRS)
        self.known = list[KeyedSets]()
        self.vectors = pl.DataFrame(
            schema={"text_key": pl.UInt64, "embedding": pl.List(pl.Float32)}
        )

    def add(self, rows: list[Row]) -> None:
        """Compares new rows with each other and with the known ones."""
        personas = table_of(rows)
        encoded = encode(personas["text"], self.vocabulary)
        sets, resources = distinct_sets(encoded), Resources()
        matches = jaccard_pairs(sets, self.known, self.comparison.min_jaccard - TOLERANCE)
        self.known.append(sets)
        fingerprints = fingerprint(personas, encoded)
        self.fingerprints = pl.concat([self.fingerprints, fingerprints])
        self.compare_vectors(keyed_vectors(fingerprints, vectors_of(rows)))
        everyone = table_of(self.rows)
        keys = pl.Series("key", encode(everyone["text"], self.vocabulary).set_keys)
        texts = everyone.select("text").with_columns(keys)
        scored = with_scores(matches, texts, self.comparison, resources)
        self.pairs = pl.concat([self.pairs, scored])

    def compare_vectors(self, vectors: pl.DataFrame) -> None:
        """Compares vectors of texts (text_key, embedding) with each other and with the known."""
        if self.comparison.min_cosine is not None:
            known = self.vectors.join(vectors, on="text_key", how="anti")
            matches = semantic_pairs(vectors, known, self.comparison.min_cosine)
            self.vectors = pl.concat([known, vectors])
            self.pairs = pl.concat([self.pairs, matches])

    def forget(self, personas: set[str]) -> None:
        """These are gone; the pairs of their words stay."""
        self.fingerprints = self.fingerprints.filter(~pl.col("id").is_in(personas))

    def resolve(self, thresholds: Thresholds, *, from_rank: int | None = None) -> pl.DataFrame:
        table = table_of(self.rows).join(self.fingerprints, on="id", how="semi")
        keys = find_exact_keys(table["id"], table.select("key"))
        with open_resolver(self.fingerprints, self.pairs, Resources(), keys) as resolver:
            return resolver.resolve(thresholds, from_rank=from_rank)


@law
@given(row_lists(), all_thresholds)
def test_shard_by_shard_is_as_from_scratch(rows: list[Row], thresholds: Thresholds) -> None:
    library = Library(rows, Comparison.for_thresholds(thresholds))
    matches = list[Removed]()
    for shard in (1, 2, 3):
        library.add([row for row in rows if row.rank == shard])
        resolved = library.resolve(thresholds, from_rank=shard)
        library.forget(set(resolved["id"]))
        matches += removals(resolved)

    assert sorted(matches, key=lambda r: r.id) == run(rows, thresholds)


@law
@given(row_lists(), all_thresholds, st.integers(2, 3))
def test_deciding_again_from_a_shard_on_gives_what_it_gave(
    rows: list[Row], thresholds: Thresholds, first: int
) -> None:
    whole = run(rows, thresholds)
    shard_of = {row.id: row.rank for row in rows}
    before = {r.id for r in whole if shard_of[r.id] < first}
    library = Library(rows, Comparison.for_thresholds(thresholds))
    library.add(rows)
    library.forget(before)
    matches = library.resolve(thresholds, from_rank=first)

    assert removals(matches) == [r for r in whole if shard_of[r.id] >= first]


@law
@given(row_lists(), all_thresholds, st.data())
def test_without_a_keeper_its_dependants_are_decided_again_by_the_same_pairs(
    rows: list[Row], thresholds: Thresholds, data: st.DataObject
) -> None:
    keepers = {r.kept_id for r in run(rows, thresholds)}
    gone = data.draw(st.sets(st.sampled_from(sorted(keepers)))) if keepers else set()
    left = [row for row in rows if row.id not in gone]
    library = Library(rows, Comparison.for_thresholds(thresholds))
    library.add(rows)
    library.forget(gone)
    matches = removals(library.resolve(thresholds))

    assert matches == run(left, thresholds)


@law
@given(row_lists(), all_thresholds)
def test_higher_thresholds_choose_among_the_same_pairs(
    rows: list[Row], thresholds: Thresholds
) -> None:
    library = Library(rows, Comparison(0.3, 0.3, has_scores=thresholds.fuzzy is not None))
    library.add(rows)
    matches = removals(library.resolve(thresholds))

    assert matches == run(rows, thresholds)
