"""MinHash against a comparison of every pair in plain Python, and against its own theory."""

from collections.abc import Sequence
from itertools import combinations
from random import Random

import polars as pl
import pytest

from persona_pipeline.dedup.resources import Resources
from persona_pipeline.dedup.words.join import KeyedSets, distinct_sets, jaccard_pairs
from persona_pipeline.dedup.words.minhash import choose_bands, minhash_pairs
from persona_pipeline.dedup.words.word_sets import Vocabulary, encode, learn_vocabulary


def encoded(texts: Sequence[str], vocabulary: Vocabulary | None = None) -> KeyedSets:
    series = pl.Series(texts, dtype=pl.String)
    return distinct_sets(encode(series, vocabulary or learn_vocabulary(series)))


def similar_texts(count: int, words: int = 12, seed: int = 1) -> list[str]:
    """Random sentences, each of them with one to three words replaced, and with one inserted."""
    random, texts = Random(seed), list[str]()
    for _ in range(count):
        text = [f"w{random.randrange(3000)}" for _ in range(words)]
        copy = [*text]
        for place in random.sample(range(words), random.randint(1, 3)):
            copy[place] = f"w{random.randrange(3000)}"
        texts += [" ".join(text), " ".join(copy), " ".join([*text, f"w{random.randrange(3000)}"])]
    return texts


def brute_force(texts: Sequence[str], min_similarity: float) -> dict[tuple[int, int], float]:
    """Each pair of keys that is this similar."""
    series = pl.Series(texts, dtype=pl.String)
    keys = encode(series, learn_vocabulary(series)).set_keys
    sets = {int(key): set(text.split()) for key, text in zip(keys, texts, strict=True)}
    return {
        (a, b): len(sets[a] & sets[b]) / len(sets[a] | sets[b])
        for a, b in combinations(sorted(sets), 2)
        if len(sets[a] & sets[b]) >= min_similarity * len(sets[a] | sets[b])
    }


def as_dict(pairs: pl.DataFrame) -> dict[tuple[int, int], float]:
    return {(first, second): similarity for first, second, similarity in pairs.rows()}


@pytest.mark.parametrize("min_similarity", [0.3, 0.5, 0.7, 0.9])
def test_verified_pairs_are_similar_ones_with_their_true_similarity(min_similarity: float) -> None:
    texts = similar_texts(150)

    matches = as_dict(minhash_pairs(encoded(texts), [], min_similarity))

    similar = brute_force(texts, min_similarity)
    assert matches.items() <= similar.items()
    assert len(matches) > 50


def test_as_many_pairs_are_found_as_theory_says() -> None:
    random, words = Random(2), [f"w{number}" for number in range(50_000)]
    texts = [" ".join(random.sample(words, 12)) for _ in range(2000)]
    copies = [f"{text} inserted{number}" for number, text in enumerate(texts)]
    pairs = minhash_pairs(encoded([*texts, *copies]), [], 0.9)

    bands, hashes = choose_bands(0.9)
    expected = 1 - (1 - (12 / 13) ** hashes) ** bands
    assert abs(len(pairs) / 2000 - expected) < 0.05
    assert expected < 0.6, "the exact join finds all 2000"


def test_unverified_similarity_is_the_share_of_equal_hashes() -> None:
    texts = similar_texts(300)

    matches = minhash_pairs(encoded(texts), [], 0.5, is_verified=False)

    estimates, true = as_dict(matches), brute_force(texts, 0)
    assert len(matches) > 200
    assert all((estimate * 128).is_integer() and estimate >= 0.5 for estimate in estimates.values())
    errors = [estimate - true[pair] for pair, estimate in estimates.items()]
    assert abs(sum(errors) / len(errors)) < 0.02
    assert max(map(abs, errors)) > 0.01, "estimates are no true similarities"


@pytest.mark.parametrize("is_verified", [True, False])
def test_neither_order_nor_threads_nor_vocabulary_matter(is_verified: bool) -> None:  # noqa: FBT001
    texts = similar_texts(200)
    shuffled = Random(3).sample(texts, len(texts))
    other_words = learn_vocabulary(pl.Series(["w1 w2 w3 w4", "w1 w2", "w1"] * 40))

    pairs = minhash_pairs(encoded(texts), [], 0.6, is_verified=is_verified)

    for sets, threads in (
        (encoded(shuffled), 2),
        (encoded(texts), 1),
        (encoded(texts, other_words), 3),
    ):
        resources = Resources(threads=threads)
        assert minhash_pairs(sets, [], 0.6, resources, is_verified=is_verified).equals(pairs)
    assert pairs.equals(pairs.sort("first_key", "second_key"))


@pytest.mark.parametrize("is_verified", [True, False])
def test_shards_one_after_the_other_give_the_pairs_of_all_at_once(is_verified: bool) -> None:  # noqa: FBT001
    texts = Random(4).sample(similar_texts(200), 600)
    vocabulary = learn_vocabulary(pl.Series(texts))
    shards = [
        encoded(texts[start : start + 200], vocabulary) for start in range(0, len(texts), 200)
    ]

    parts = [
        minhash_pairs(shard, shards[:number], 0.6, is_verified=is_verified)
        for number, shard in enumerate(shards)
    ]

    pairs = minhash_pairs(encoded(texts, vocabulary), [], 0.6, is_verified=is_verified)
    assert all(len(part) for part in parts)
    assert pl.concat(parts).sort("first_key", "second_key").equals(pairs)


def test_a_known_set_that_is_new_again_or_known_twice_counts_once() -> None:
    long = "one two three four five six seven eight nine ten"
    vocabulary = learn_vocabulary(pl.Series([long]))
    new, known = (
        encoded(texts, vocabulary) for texts in ([long], [long, f"{long} eleven", f"{long} twelve"])
    )

    pairs = minhash_pairs(new, [known, known], 0.5)

    assert pairs["similarity"].to_list() == [10 / 11, 10 / 11]
    assert pairs.equals(jaccard_pairs(new, [known, known], 0.5))


def test_a_key_of_many_sets_gives_all_its_pairs_and_more_than_fit_at_once() -> None:
    shared = " ".join(f"w{number}" for number in range(200))
    texts = [f"{shared} own{number}" for number in range(150)]

    pairs = minhash_pairs(encoded(texts), [], 0.5)

    assert len(pairs) == 150 * 149 / 2
    assert set(pairs["similarity"]) == {200 / 202}


def test_progress_ends_with_all_keys_joined() -> None:
    reports = list[tuple[int, int]]()
    resources = Resources(report=lambda done, total: reports.append((done, total)))

    minhash_pairs(encoded(["a b c", "d e f"]), [], 0.9, resources)

    assert reports == [(done, 10) for done in (2, 4, 6, 8, 10)]


def test_bands_fit_the_signature_and_get_longer_with_the_threshold() -> None:
    choices = [choose_bands(percent / 100) for percent in range(1, 101)]

    assert all(bands * hashes <= 128 for bands, hashes in choices)
    hashes = [hashes for _, hashes in choices]
    assert hashes == sorted(hashes)
    assert choices[89] == (5, 25), "what datasketch chooses for 0.9 and 128"
    assert choices[99] == (1, 128)


@pytest.mark.parametrize("is_verified", [True, False])
def test_without_sets_there_are_no_pairs(is_verified: bool) -> None:  # noqa: FBT001
    nothing, some = encoded([]), encoded(["a b c", "a b c d"])

    for new, known in ((nothing, [nothing]), (nothing, [some]), (encoded(["x"]), [nothing])):
        pairs = minhash_pairs(new, known, 0.5, is_verified=is_verified)
        assert pairs.equals(jaccard_pairs(nothing, [], 0.5))
