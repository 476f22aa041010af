"""The join of the Jaccard layer finds every similar pair and no other, whatever it may take."""

from collections.abc import Iterator, Sequence
from inspect import unwrap
from itertools import combinations
from random import Random

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from persona_pipeline.dedup.resources import Resources
from persona_pipeline.dedup.words import join, join_keys
from persona_pipeline.dedup.words.join import KeyedSets, distinct_sets, jaccard_pairs
from persona_pipeline.dedup.words.join_keys import INDEX, PROBE, build_key_table
from persona_pipeline.dedup.words.word_sets import Vocabulary, encode, learn_vocabulary
from tests.support.dedup_reference import TOLERANCE

Words = frozenset[str]
Similar = dict[tuple[int, int], float]
"""By the keys of two sets, the lesser first."""

WORDS = [f"w{number}" for number in range(45)]
NO_WORDS = learn_vocabulary(pl.Series([], dtype=pl.String))
LEVELS = [0.5, 0.7, 0.9]
levels = st.sampled_from(LEVELS) | st.floats(0.2, 1)


@st.composite
def families(draw: st.DrawFn) -> list[Words]:
    """Sets of up to 40 words that differ from one another by a few words."""
    base = draw(st.permutations(WORDS))[: draw(st.integers(1, 40))]
    changes = st.sets(st.sampled_from(WORDS), max_size=8)
    variants = {frozenset(set(base) ^ draw(changes)) for _ in range(draw(st.integers(1, 12)))}
    return sorted(variants, key=sorted)


@st.composite
def crowds(draw: st.DrawFn) -> list[Words]:
    """Many small sets of few words: keys that many sets share."""
    some = st.frozensets(st.sampled_from(WORDS[:8]), max_size=7)
    return sorted(draw(st.sets(some, max_size=40)), key=sorted)


word_sets = families() | crowds()


def keyed(sets: Sequence[Words], vocabulary: Vocabulary = NO_WORDS) -> KeyedSets:
    texts = [" ".join(sorted(words)) for words in sets]
    return distinct_sets(encode(pl.Series(texts, dtype=pl.String), vocabulary))


def brute_force(sets: Sequence[Words], min_similarity: float) -> Similar:
    matches = Similar()
    words = [each for each in sets if each]
    keys = [int(keyed([each]).keys[0]) for each in words]
    for i, j in combinations(range(len(words)), 2):
        similarity = len(words[i] & words[j]) / len(words[i] | words[j])
        if similarity >= min_similarity:
            matches[min(keys[i], keys[j]), max(keys[i], keys[j])] = similarity
    return matches


def as_dict(pairs: pl.DataFrame) -> Similar:
    matches = {(first, second): similarity for first, second, similarity in pairs.iter_rows()}
    assert len(matches) == len(pairs)
    return matches


def join_all(
    new: KeyedSets,
    min_similarity: float,
    known: Sequence[KeyedSets] = (),
    resources: Resources | None = None,
) -> Similar:
    return as_dict(jaccard_pairs(new, known, min_similarity, resources))


def limit_keys(patch: pytest.MonkeyPatch, limit: int) -> None:
    """Few combinations a size; without the cache, which does not know of it."""
    patch.setattr(join_keys, "MAX_KEYS", limit)
    patch.setattr(join_keys, "_of_size", unwrap(vars(join_keys)["_of_size"]))


@given(word_sets, levels, word_sets)
def test_the_join_finds_exactly_the_similar_pairs_by_any_vocabulary(
    sets: list[Words], level: float, learned: list[Words]
) -> None:
    texts = pl.Series([" ".join(words) for words in learned], dtype=pl.String)
    expected = brute_force(sets, level - TOLERANCE)

    for vocabulary in (NO_WORDS, learn_vocabulary(texts)):
        assert join_all(keyed(sets, vocabulary), level - TOLERANCE) == expected


@given(
    word_sets,
    levels,
    st.sampled_from([1, 10, 500]),
    st.sampled_from([0, 1, 3, 10_000]),
    st.sampled_from([1, 3, 8192]),
)
def test_neither_limits_of_keys_nor_hot_keys_nor_groups_show(
    sets: list[Words], level: float, limit: int, hot: int, group: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        limit_keys(patch, limit)
        patch.setattr(join, "HOT", hot)
        patch.setattr(join, "GROUP_KEYS", group)
        matches = join_all(keyed(sets), level - TOLERANCE)

    assert matches == brute_force(sets, level - TOLERANCE)


@given(word_sets, levels, st.sampled_from([10, 100, 1000]), st.sampled_from([1, 3]))
def test_neither_passes_nor_threads_nor_the_order_of_sets_show(
    sets: list[Words], level: float, group: int, threads: int
) -> None:
    expected = jaccard_pairs(keyed(sets), [], level - TOLERANCE)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(join, "GROUP_KEYS", group)
        matches = jaccard_pairs(keyed(sets[::-1]), [], level - TOLERANCE, Resources(1, threads))

    assert matches.equals(expected)


@given(word_sets, levels, st.randoms(use_true_random=False), st.sampled_from([1, 10_000]))
def test_the_pairs_of_any_parts_one_after_the_other_are_those_of_all_at_once(
    sets: list[Words], level: float, random: Random, hot: int
) -> None:
    places = [random.randrange(4) for _ in sets]
    parts = [
        keyed([words for words, place in zip(sets, places, strict=True) if place == part])
        for part in range(4)
    ]
    matches = Similar()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(join, "HOT", hot)
        for number, part in enumerate(parts):
            of_part = join_all(part, level - TOLERANCE, parts[:number])
            assert not matches.keys() & of_part.keys()
            matches |= of_part

    assert matches == join_all(keyed(sets), level - TOLERANCE)


@given(word_sets, word_sets, levels)
def test_known_sets_are_compared_with_the_new_ones_only_and_once_where_they_are_the_same(
    new: list[Words], known: list[Words], level: float
) -> None:
    mine = {int(key) for key in keyed(new).keys}
    expected = brute_force(sorted({*new, *known}, key=sorted), level - TOLERANCE)

    matches = join_all(keyed(new), level - TOLERANCE, [keyed(known), keyed(new), keyed(known[:3])])

    assert matches == {pair: s for pair, s in expected.items() if mine & {*pair}}


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("limit", [4, 500])
@pytest.mark.parametrize("most", [1, 2, 3, 4])
def test_two_sets_that_just_reach_the_threshold_share_a_key_wherever_their_words_stand(
    level: float, limit: int, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit_keys(monkeypatch, limit)
    least = level - TOLERANCE
    table = {
        (size, role): set(combinations_of(size, role, least, most))
        for size in range(1, 31)
        for role in (PROBE, INDEX)
    }
    for larger in range(1, 31):
        for smaller in range(1, larger + 1):
            overlap = join_keys.required_overlap(larger, smaller, least)
            if overlap > smaller:
                continue
            words = range(join_keys.pair_level(larger, smaller, least, most))
            # The worst case: all words that are not shared stand before the shared ones.
            assert tuple(larger - overlap + word for word in words) in table[larger, PROBE]
            assert tuple(smaller - overlap + word for word in words) in table[smaller, INDEX]


def combinations_of(size: int, role: int, least: float, most: int) -> Iterator[tuple[int, ...]]:
    shapes = build_key_table(np.array([size]), least, most)
    assert shapes.starts[size] == 0
    for number in range(shapes.starts[size], shapes.starts[size + 1]):
        if shapes.roles[number] & role:
            yield tuple(shapes.places[number, : shapes.levels[number]].tolist())


def test_what_a_size_gets_depends_on_nothing_else() -> None:
    together = build_key_table(np.array([3, 12, 5, 12]), 0.7)
    for size in (3, 5, 12):
        alone, span = (
            build_key_table(np.array([size]), 0.7),
            slice(*together.starts[size : size + 2]),
        )
        assert together.places[span].tolist() == alone.places.tolist()
        assert together.levels[span].tolist() == alone.levels.tolist()
        assert together.roles[span].tolist() == alone.roles.tolist()


def sentences(count: int) -> list[str]:
    """Persona-like texts of 6 to 20 words of uneven frequency, half of them variants of others."""
    random = Random(7)
    words = [f"word{number}" for number in range(3000)]
    weights = [1 / (number + 1) for number in range(3000)]
    texts = list[list[str]]()
    for number in range(count):
        if number % 2 and texts:
            text = list(random.choice(texts))
            for _ in range(random.randrange(4)):
                text[random.randrange(len(text))] = random.choices(words, weights)[0]
        else:
            text = random.choices(words, weights, k=random.randint(6, 20))
        texts.append(text)
    return [" ".join(text) for text in texts]


@pytest.mark.parametrize("level", LEVELS)
def test_two_thousand_sentences_give_exactly_the_similar_pairs(level: float) -> None:
    texts = pl.Series(sentences(2000))
    sets = distinct_sets(encode(texts, learn_vocabulary(texts)))
    one_hot = np.zeros((len(sets.sets), len(np.unique(sets.sets.codes))), np.float32)
    rows = np.repeat(np.arange(len(sets.sets)), sets.sets.sizes)
    one_hot[rows, np.unique(sets.sets.codes, return_inverse=True)[1]] = 1
    shared = one_hot @ one_hot.T
    sizes = sets.sets.sizes
    similarity = shared / (sizes[:, None] + sizes[None, :] - shared)
    left, right = np.nonzero(np.triu(similarity >= level - TOLERANCE, 1))

    matches = join_all(sets, level - TOLERANCE)

    assert len(matches) > 50
    assert matches.keys() == set(
        zip(sets.keys[left].tolist(), sets.keys[right].tolist(), strict=True)
    )


def test_a_join_tells_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(join, "GROUP_KEYS", 40)
    messages = list[tuple[int, int]]()
    sets = keyed([frozenset(WORDS[start : start + 9]) for start in range(30)])
    resources = Resources(1, report=lambda done, total: messages.append((done, total)))

    jaccard_pairs(sets, [], 0.7, resources)

    [total] = {total for _, total in messages}
    assert len(messages) > 2
    assert [done for done, _ in messages] == sorted(done for done, _ in messages)
    assert (messages[0], messages[-1]) == ((0, total), (total, total))


def test_a_join_of_nothing_gives_nothing() -> None:
    nothing, some = keyed([]), keyed([frozenset("a"), frozenset("b")])

    assert jaccard_pairs(nothing, [], 0.5).schema == join.PAIRS
    assert join_all(nothing, 0.5, [nothing, some]) == {}
    assert join_all(some, 0.5, [nothing]) == {}
    assert len(keyed([frozenset()]).keys) == 0
