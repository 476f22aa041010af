"""Inputs that a comparison of texts stumbles over: each is decided, and the work stays small."""

import polars as pl
import pytest

from persona_pipeline.dedup.duplicates import find_duplicates
from persona_pipeline.dedup.resources import Resources
from persona_pipeline.dedup.rules import Thresholds
from persona_pipeline.dedup.words import join
from persona_pipeline.dedup.words.join import KeyedSets, distinct_sets, jaccard_pairs
from persona_pipeline.dedup.words.join_kernel import count_keys
from persona_pipeline.dedup.words.join_keys import build_key_table
from persona_pipeline.dedup.words.word_sets import encode, learn_vocabulary
from persona_pipeline.errors import MemoryLimitError

LEVELS = [0.5, 0.7, 0.9]
TEMPLATE = "a person from this town who likes to write letters about"


def find(texts: list[str], jaccard: float) -> list[tuple[str, str, str]]:
    """Who goes, because of whom: numbers in their ranks, which are those of the list."""
    table = pl.DataFrame(
        {
            "id": [str(number) for number in range(len(texts))],
            "text": texts,
            "rank": range(len(texts)),
        }
    )
    matches = find_duplicates(table, rank="rank", thresholds=Thresholds(jaccard, None))
    return matches.removed.select("id", "kept_id", "layer").rows()


def sets_of(texts: list[str]) -> KeyedSets:
    series = pl.Series(texts, dtype=pl.String)
    return distinct_sets(encode(series, learn_vocabulary(series)))


def keys_of(sets: KeyedSets, jaccard: float) -> int:
    return int(count_keys(sets.sets.starts, build_key_table(sets.sets.sizes, jaccard).starts))


@pytest.mark.parametrize("jaccard", LEVELS)
@pytest.mark.parametrize(
    "text", ["The same persona, over and over.", "one", "", "🧪", "مرحبا", "東"]
)
def test_a_thousand_copies_leave_one_and_give_no_pair(text: str, jaccard: float) -> None:
    texts = [text] * 1000

    matches = find(texts, jaccard)

    assert len(matches) == 999
    assert {(kept, layer) for _, kept, layer in matches} == {("0", "exact")}
    assert len(jaccard_pairs(sets_of(texts), [], jaccard)) == 0


@pytest.mark.parametrize("jaccard", LEVELS)
def test_a_thousand_rows_of_one_word_have_a_key_each_and_no_pair(jaccard: float) -> None:
    sets = sets_of([f"word{number}" for number in range(1000)])

    assert keys_of(sets, jaccard) <= 2000
    assert len(jaccard_pairs(sets, [], jaccard)) == 0


def test_a_thousand_spellings_of_one_word_are_one_set() -> None:
    spellings = ["Word", "WORD!", "(word)", "word word", "wOrd\x00"] * 200

    matches = find(spellings, 0.9)

    assert len(sets_of(spellings).keys) == 1
    assert {kept for _, kept, _ in matches} == {"0"}
    assert {layer for number, _, layer in matches if int(number) % 5 == 3} == {"jaccard"}
    assert {layer for number, _, layer in matches if int(number) % 5 != 3} == {"exact"}


@pytest.mark.parametrize("jaccard", LEVELS)
def test_rows_of_ten_thousand_words_are_compared_exactly_with_a_key_a_word(jaccard: float) -> None:
    words = [f"w{number}" for number in range(10_000)]
    fewest = round(10_000 * jaccard)
    texts = [
        " ".join(words),
        " ".join(words[10_000 - fewest :]),
        " ".join(words[: fewest - 1]),
        " ".join(f"{word}x" for word in words),
    ]

    assert find(texts[:2], jaccard) == [("1", "0", "jaccard")]
    assert find([texts[0], *texts[2:]], jaccard) == []
    assert keys_of(sets_of(texts), jaccard) <= 40_000


def test_words_of_seventy_thousand_characters_are_words() -> None:
    long = "x" * 70_000
    texts = [long, long.upper(), long[1:], f"{long} y", "東" * 70_000, "東" * 69_999]

    assert find(texts, 0.9) == [("1", "0", "exact"), ("5", "4", "jaccard")]
    assert find(texts, 0.5)[1] == ("3", "0", "jaccard")
    assert sets_of(texts).sets.sizes.tolist().count(1) == 3


@pytest.mark.parametrize(
    "texts",
    [
        ["معلمة رياضيات من القاهرة تحب الشطرنج", "معلمة رياضيات من القاهرة تحب التنس"],
        ["מורה למתמטיקה מחיפה שאוהבת שחמט", "מורה למתמטיקה מחיפה שאוהבת טניס"],
        ["ครูคณิตศาสตร์ที่ชอบเล่นหมากรุก", "ครูคณิตศาสตร์ที่ชอบเล่นเทนนิส"],
        ["数学老师喜欢下国际象棋", "数学老师喜欢下围棋"],
        ["将棋が好きな数学の先生", "囲碁が好きな数学の先生"],
        ["🧪 chemist from Oslo 🧪 who skis", "chemist from Oslo 🎿 who sails"],
    ],
)
def test_any_script_has_near_duplicates(texts: list[str]) -> None:
    noisy = f"\u200f{texts[0]} 🙂!"

    assert find([texts[0], noisy, texts[1]], 0.9) == [("1", "0", "exact")]
    assert find([texts[0], texts[1]], 0.4) == [("1", "0", "jaccard")]


def test_emoji_tell_only_those_apart_that_have_no_words() -> None:
    texts = ["🧪", "🧪🧪", "🧪 a", "🎿 a", "🧪", "👩\u200d🔬", "👩🔬"]

    assert find(texts, 0.5) == [("3", "2", "exact"), ("4", "0", "exact")]


def test_a_template_with_one_other_word_is_no_duplicate_at_nine_tenths_and_little_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sets = sets_of([f"{TEMPLATE} thing{number}" for number in range(20_000)])

    assert sets.sets.sizes[0] == 12
    assert keys_of(sets, 0.9) <= 4 * 20_000
    assert len(jaccard_pairs(sets, [], 0.9)) == 0
    monkeypatch.setattr(join, "HOT", 100)
    assert len(jaccard_pairs(sets, [], 0.9)) == 0


def test_keys_that_all_share_are_joined_on_more_words() -> None:
    """20,000 rows of 18 words of a template and four of their own, and one near-duplicate."""
    template = " ".join(f"t{number}" for number in range(18))
    texts = [f"{template} x{n} y{n} z{n} u{n}" for n in range(20_000)]

    sets = sets_of([*texts, f"{template} x7 y7 z7 v"])

    assert len(jaccard_pairs(sets, [], 0.8)) == 1


@pytest.mark.parametrize("has_vectors", [False, True])
def test_a_template_with_more_pairs_than_fit_into_the_memory_keeps_one_text(
    *, has_vectors: bool
) -> None:
    count = 1000
    words = "thing" if has_vectors else TEMPLATE
    rows = {"id": [str(number) for number in range(count)], "rank": range(count)}
    table = pl.DataFrame(rows).with_columns(
        text=pl.format("{} thing{}", pl.lit(words), pl.col("id"))
    )
    vectors = table.select("id", embedding=pl.lit([1.0, 2.0]))
    thresholds = Thresholds(0.8, 0.9 if has_vectors else None)
    resources = Resources(memory_bytes=1)
    assert resources.most_pairs < count * (count - 1) // 2

    duplicates = find_duplicates(table, vectors, thresholds, rank="rank", resources=resources)

    assert duplicates.kept["id"].to_list() == ["0"]
    assert (
        str(duplicates) == f"999 of 1,000 removed: {'semantic' if has_vectors else 'jaccard'} 999"
    )
    assert set(duplicates.removed["kept_id"]) == {"0"}


def test_vectors_to_spread_that_do_not_fit_twice_are_turned_away_with_what_to_do() -> None:
    resources = Resources(memory_bytes=1_000_000_000)
    resources.check_vectors(300_000, 384)
    with pytest.raises(MemoryLimitError, match=r"to spread 400,000 vectors takes 1\.2 GB"):
        resources.check_vectors(400_000, 384)
