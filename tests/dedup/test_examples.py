"""Deduplication by example: one rule each, with the rows written out."""

import polars as pl
import pytest

from persona_pipeline.dedup.duplicates import Duplicates, find_duplicates
from persona_pipeline.dedup.rules import Comparison, Thresholds
from persona_pipeline.errors import SettingsError

NO_VECTORS = pl.DataFrame(schema={"id": pl.String, "embedding": pl.List(pl.Float32)})
TEN = "one two three four five six seven eight nine ten"


def candidates(*texts: str) -> pl.DataFrame:
    """Personas p0, p1, ... in shards 1, 2, ...: the first comes first."""
    return pl.DataFrame(
        {
            "id": [f"p{i}" for i in range(len(texts))],
            "text": texts,
            "rank": range(1, len(texts) + 1),
        },
        schema={"id": pl.String, "text": pl.String, "rank": pl.Int64},
    )


def vectors(*rows: list[float]) -> pl.DataFrame:
    return pl.DataFrame(
        {"id": [f"p{i}" for i in range(len(rows))], "embedding": rows},
        schema=NO_VECTORS.schema,
    )


def find(
    personas: pl.DataFrame,
    embeddings: pl.DataFrame | None = None,
    thresholds: Thresholds | None = None,
) -> list[tuple[object, ...]]:
    return duplicates(personas, embeddings, thresholds).removed.rows()


def duplicates(
    personas: pl.DataFrame,
    embeddings: pl.DataFrame | None = None,
    thresholds: Thresholds | None = None,
    comparison: Comparison | None = None,
) -> Duplicates:
    quality = "quality" if "quality" in personas.columns else None
    return find_duplicates(
        personas,
        embeddings,
        rank="rank",
        quality=quality,
        thresholds=thresholds,
        comparison=comparison,
    )


def removed(
    personas: pl.DataFrame, embeddings: pl.DataFrame = NO_VECTORS, **thresholds: float
) -> list[tuple[str, str, str]]:
    matches = duplicates(personas, embeddings, Thresholds(**thresholds))
    return matches.removed.select("id", "kept_id", "layer").rows()


@pytest.mark.parametrize("texts", [[], ["a lone persona"]])
def test_nobody_is_removed_where_nobody_comes_before(texts: list[str]) -> None:
    matches = duplicates(candidates(*texts), NO_VECTORS).removed

    assert matches.is_empty()
    assert matches.schema == {
        "id": pl.String,
        "kept_id": pl.String,
        "layer": pl.String,
        "similarity": pl.Float64,
        "threshold": pl.Float64,
        "fuzzy_score": pl.Float64,
    }


def test_case_punctuation_and_composition_do_not_tell_texts_apart() -> None:
    personas = candidates("A café owner.", "a CAFE\u0301, owner", "a café owner who paints")

    assert find(personas) == [("p1", "p0", "exact", 1.0, 1.0, None)]


def test_texts_without_a_word_are_duplicates_only_of_themselves() -> None:
    personas = candidates("", "", "?!", "🧪", "🧪", "🧪🧪", "?!")

    assert removed(personas, jaccard=0.5) == [
        ("p1", "p0", "exact"),
        ("p4", "p3", "exact"),
        ("p6", "p2", "exact"),
    ]


def test_a_nul_does_not_hide_the_rest_of_a_text() -> None:
    assert removed(candidates("a\x00 nurse in été", "a\x00 pilot en été")) == []


def test_the_same_words_in_another_order_are_a_jaccard_duplicate() -> None:
    assert find(candidates("a b c", "c b a a")) == [("p1", "p0", "jaccard", 1.0, 0.9, None)]


def test_nine_words_of_ten_reach_nine_tenths() -> None:
    personas = candidates(TEN, TEN.removesuffix(" ten"), TEN.replace("ten", "eleven"))

    assert find(personas) == [("p1", "p0", "jaccard", 0.9, 0.9, None)]


def test_the_keeper_is_the_most_similar_kept_one_before() -> None:
    personas = candidates("a b c d", "d e f g h", "a b c d e f g h", "a b c e f g")

    # p0 is at 0.5; p3, kept too, is at 0.75 but comes later.
    assert find(personas, thresholds=Thresholds(0.5)) == [("p2", "p1", "jaccard", 0.625, 0.5, None)]


def test_a_removed_persona_removes_nobody() -> None:
    personas = candidates("a b c d e", "b c d e f", "c d e f g")

    assert removed(personas, jaccard=0.6) == [("p1", "p0", "jaccard")]


def test_all_layers_decide_together_so_a_row_removed_in_one_removes_nobody_in_another() -> None:
    personas = candidates("a chemist", "a b c d e f g h i j", "a b c d e f g h i j k")
    embeddings = vectors([1.0, 0.0], [1.0, 0.1], [0.0, 1.0])

    assert removed(personas, embeddings) == [("p1", "p0", "semantic")]


def test_the_first_layer_that_has_a_keeper_names_it() -> None:
    personas = candidates("a chemist", "b c d e f g h i j", "a b c d e f g h i j")
    embeddings = vectors([1.0, 0.0], [0.0, 1.0], [1.0, 0.0])

    assert removed(personas, embeddings) == [("p2", "p1", "jaccard")]


def test_one_other_word_in_twelve_is_a_fuzzy_duplicate_only_where_it_is_spelt_alike() -> None:
    same = "an old man who mends the nets of other people in"
    personas = candidates(f"{same} harbours", f"{same} harbors", f"{same} Qatar")

    assert removed(personas, cosine=0.9) == []
    assert removed(personas, fuzzy=98.0) == [("p1", "p0", "fuzzy")]
    [(*_, similarity, threshold, score)] = find(personas, thresholds=Thresholds(fuzzy=98.0))
    assert (similarity, threshold) == (11 / 13, 98.0)
    assert score == pytest.approx(99.0, abs=0.5)


def test_at_less_than_seven_tenths_no_second_opinion_is_asked() -> None:
    personas = candidates("alpha beta gamma delta", "alphas betas gamma delta")

    assert removed(personas, fuzzy=50.0) == []


def test_a_better_persona_of_the_same_shard_is_kept() -> None:
    personas = candidates(*["a b c"] * 4).with_columns(
        rank=pl.Series([1, 1, 1, 2]), quality=pl.Series([0.1, 0.9, None, 1.0])
    )

    assert {kept for _, kept, _ in removed(personas)} == {"p1"}


def test_without_a_cosine_threshold_no_vector_is_compared() -> None:
    same = vectors([1.0], [1.0])

    assert find(candidates("a", "b"), same, Thresholds(cosine=None)) == []


def test_pairs_from_lower_on_and_the_methods_are_of_the_comparison() -> None:
    thresholds = Thresholds(0.8, None)
    low = Comparison.for_thresholds(thresholds, store_pairs_from=0.5)
    personas = candidates("a b c d e f g h", "a b c d e f g x")

    assert low == Comparison(0.5, None)
    assert Comparison.for_thresholds(Thresholds(0.9, 0.8, 90.0)) == Comparison(0.7, 0.8, True)  # noqa: FBT003
    assert len(duplicates(personas, None, thresholds, low)) == 0


def test_vectors_of_another_length_or_without_direction_match_nothing() -> None:
    personas = candidates(*"abcdefghijkl")
    embeddings = vectors(
        *([1.0, 1.0], [2.0, 2.0], [1.0, 1.0, 0.0], [0.0, 0.0], [0.0, 0.0], []),
        *([], [float("nan"), 1.0], [float("nan"), 1.0], [float("inf"), 1.0], [3e38, 3e38]),
    )

    assert removed(personas, embeddings) == [("p1", "p0", "semantic"), ("p10", "p0", "semantic")]


@pytest.mark.parametrize(("threshold", "layers"), [(0.6, ["semantic"]), (0.6001, [])])
def test_a_cosine_at_the_threshold_counts_and_one_below_does_not(
    threshold: float, layers: list[str]
) -> None:
    embeddings = vectors([1.0, 0.0], [3.0, 4.0])

    matches = duplicates(candidates("a", "b"), embeddings, Thresholds(cosine=threshold)).removed

    assert matches["layer"].to_list() == layers
    assert matches["similarity"].to_list() == pytest.approx([0.6] * len(layers))


def test_an_array_column_and_vectors_of_strangers_are_welcome() -> None:
    embeddings = pl.DataFrame(
        {"id": ["p1", "stranger", "p0"], "embedding": [[1.0, 0.0], [1.0, 0.0], [1.0, 0.1]]},
        schema={"id": pl.String, "embedding": pl.Array(pl.Float32, 2)},
    )

    assert removed(candidates("a", "b"), embeddings) == [("p1", "p0", "semantic")]


def test_a_writing_without_spaces_is_compared_by_pairs_of_characters() -> None:
    personas = candidates("一位数学老师喜欢音乐", "一位数学老师也喜欢音乐", "一位厨师喜欢音乐")

    assert removed(personas, jaccard=0.7) == [("p1", "p0", "jaccard")]
    assert removed(personas, jaccard=0.9) == []


def test_arabic_words_keep_their_marks() -> None:
    personas = candidates("مُعَلِّمَة رياضيات", "مُعَلِّمَة رياضيات!", "معلمة رياضيات")

    assert removed(personas) == [("p1", "p0", "exact")]


def test_a_long_chain_is_decided_link_by_link() -> None:
    words = [f"w{i:03}" for i in range(60)]
    personas = candidates(*(" ".join(words[i : i + 5]) for i in range(50)))

    matches = removed(personas, jaccard=0.6)

    assert matches == sorted((f"p{i}", f"p{i - 1}", "jaccard") for i in range(1, 50, 2))


@pytest.mark.parametrize("value", [0.0, -0.5, 1.5, float("nan")])
def test_a_threshold_that_no_similarity_can_meet_is_refused(value: float) -> None:
    with pytest.raises(SettingsError, match="threshold jaccard is"):
        Thresholds(jaccard=value)
    with pytest.raises(SettingsError, match=r"threshold cosine is .* up to 1$"):
        Thresholds(cosine=value)
    with pytest.raises(SettingsError, match=r"threshold fuzzy is .* up to 100$"):
        Thresholds(fuzzy=100 * value)


@pytest.mark.parametrize(
    ("thresholds", "comparison"),
    [
        (Thresholds(0.7, None), Comparison(0.9, None)),
        (Thresholds(0.9, 0.7), Comparison(0.9, 0.9)),
        (Thresholds(0.9, 0.7), Comparison(0.9, None)),
        (Thresholds(0.9, None, fuzzy=80), Comparison(0.7, None)),
    ],
)
def test_a_comparison_that_finds_less_than_is_asked_for_is_turned_away(
    thresholds: Thresholds, comparison: Comparison
) -> None:
    with pytest.raises(SettingsError, match="finds less than"):
        duplicates(candidates(TEN), None, thresholds, comparison)


def test_a_comparison_that_finds_more_than_is_asked_for_decides_the_same() -> None:
    personas = candidates(TEN, f"{TEN} eleven", "one two three")
    wide = Comparison(0.3, 0.5)

    matches = duplicates(personas, None, Thresholds(0.9, None), wide)

    assert matches.removed.rows() == find(personas, thresholds=Thresholds(0.9, None))


def test_an_unknown_method_is_turned_away_with_those_there_are() -> None:
    with pytest.raises(SettingsError, match="did you mean 'minhash128'"):
        Comparison(method="minhash12")  # type: ignore[arg-type]


def test_a_fuzzy_threshold_counts_to_a_hundred() -> None:
    with pytest.raises(SettingsError, match="counts to 100: 90"):
        Thresholds(fuzzy=0.9)


def test_a_table_of_ids_and_texts_is_enough() -> None:
    texts = candidates(TEN, f"{TEN}.", "another one").drop("rank")

    assert find_duplicates(texts).removed["layer"].to_list() == ["exact"]
