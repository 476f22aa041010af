"""Deduplication by example: one rule each, with the rows written out."""

from time import perf_counter

import polars as pl
import pytest

from persona_pipeline.dedup.combinations import build_combinations
from persona_pipeline.dedup.duplicates import Thresholds, find_duplicates
from persona_pipeline.errors import SettingsError

NO_VECTORS = pl.DataFrame(schema={"persona_id": pl.String, "embedding": pl.List(pl.Float32)})
TEN = "one two three four five six seven eight nine ten"


def candidates(*texts: str) -> pl.DataFrame:
    """Personas p0, p1, ... in shards 1, 2, ...: the first comes first."""
    return pl.DataFrame(
        {
            "persona_id": [f"p{i}" for i in range(len(texts))],
            "persona": texts,
            "shard_number": range(1, len(texts) + 1),
        },
        schema={"persona_id": pl.String, "persona": pl.String, "shard_number": pl.Int64},
    )


def vectors(*rows: list[float]) -> pl.DataFrame:
    return pl.DataFrame(
        {"persona_id": [f"p{i}" for i in range(len(rows))], "embedding": rows},
        schema=NO_VECTORS.schema,
    )


def removed(
    personas: pl.DataFrame, embeddings: pl.DataFrame = NO_VECTORS, **thresholds: float
) -> list[tuple[str, str, str]]:
    found = find_duplicates(personas, embeddings, Thresholds(**thresholds))
    return found.select("persona_id", "kept_id", "layer").rows()


@pytest.mark.parametrize("texts", [[], ["a lone persona"]])
def test_nobody_is_removed_where_nobody_comes_before(texts: list[str]) -> None:
    found = find_duplicates(candidates(*texts), NO_VECTORS, Thresholds())

    assert found.is_empty()
    assert found.schema == {
        "persona_id": pl.String,
        "kept_id": pl.String,
        "layer": pl.String,
        "similarity": pl.Float64,
        "threshold": pl.Float64,
    }


def test_case_punctuation_and_composition_do_not_tell_texts_apart() -> None:
    personas = candidates("A café owner.", "a CAFE\u0301, owner", "a café owner who paints")

    found = find_duplicates(personas, NO_VECTORS, Thresholds())

    assert found.rows() == [("p1", "p0", "exact", 1.0, 1.0)]


def test_texts_without_a_word_are_duplicates_only_of_themselves() -> None:
    personas = candidates("", "", "?!", "🧪", "🧪", "🧪🧪", "?!")

    assert removed(personas, jaccard=0.5) == [
        ("p1", "p0", "exact"),
        ("p4", "p3", "exact"),
        ("p6", "p2", "exact"),
    ]


def test_a_nul_does_not_hide_the_rest_of_a_text() -> None:
    assert removed(candidates("a\x00 nurse in été", "a\x00 pilot en été")) == []


def test_the_same_words_in_another_order_are_a_surface_duplicate() -> None:
    found = find_duplicates(candidates("a b c", "c b a a"), NO_VECTORS, Thresholds())

    assert found.rows() == [("p1", "p0", "surface", 1.0, 0.9)]


def test_nine_words_of_ten_reach_nine_tenths() -> None:
    personas = candidates(TEN, TEN.removesuffix(" ten"), TEN.replace("ten", "eleven"))

    found = find_duplicates(personas, NO_VECTORS, Thresholds(jaccard=0.9))

    assert found.rows() == [("p1", "p0", "surface", 0.9, 0.9)]


def test_the_keeper_is_the_most_similar_kept_one_before() -> None:
    personas = candidates("a b c d", "d e f g h", "a b c d e f g h", "a b c e f g")

    found = find_duplicates(personas, NO_VECTORS, Thresholds(jaccard=0.5))

    # p0 is at 0.5; p3, kept too, is at 0.75 but comes later.
    assert found.rows() == [("p2", "p1", "surface", 0.625, 0.5)]


def test_a_removed_persona_removes_nobody() -> None:
    personas = candidates("a b c d e", "b c d e f", "c d e f g")

    assert removed(personas, jaccard=0.6) == [("p1", "p0", "surface")]


def test_a_keeper_that_a_later_layer_removes_leads_on_to_the_kept_one() -> None:
    personas = candidates("a chemist", "a b c d e f g h i j", "a b c d e f g h i j k")
    embeddings = vectors([1.0, 0.0], [1.0, 0.1], [0.0, 1.0])

    assert removed(personas, embeddings) == [("p1", "p0", "semantic"), ("p2", "p1", "surface")]


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

    found = find_duplicates(candidates("a", "b"), embeddings, Thresholds(cosine=threshold))

    assert found["layer"].to_list() == layers
    assert found["similarity"].to_list() == pytest.approx([0.6] * len(layers))


def test_an_array_column_and_vectors_of_strangers_are_welcome() -> None:
    embeddings = pl.DataFrame(
        {"persona_id": ["p1", "stranger", "p0"], "embedding": [[1.0, 0.0], [1.0, 0.0], [1.0, 0.1]]},
        schema={"persona_id": pl.String, "embedding": pl.Array(pl.Float32, 2)},
    )

    assert removed(candidates("a", "b"), embeddings) == [("p1", "p0", "semantic")]


def test_a_writing_without_spaces_is_compared_clause_by_clause() -> None:
    personas = candidates(
        "一位数学老师\uff0c喜欢音乐", "喜欢音乐\uff0c一位数学老师", "一位数学老师喜欢音乐"
    )

    assert removed(personas) == [("p1", "p0", "surface")]


def test_arabic_words_keep_their_marks() -> None:
    personas = candidates("مُعَلِّمَة رياضيات", "مُعَلِّمَة رياضيات!", "معلمة رياضيات")

    assert removed(personas) == [("p1", "p0", "exact")]


def test_a_thousand_copies_leave_one_and_take_no_time() -> None:
    personas = candidates(*["The same persona, a thousand times over."] * 1000)

    start = perf_counter()
    found = removed(personas, jaccard=0.5)

    assert perf_counter() - start < 5
    assert {kept_id for _, kept_id, _ in found} == {"p0"}
    assert len(found) == 999


@pytest.mark.parametrize("threshold", [0.5, 0.9])
def test_long_texts_are_compared_exactly_with_few_keys(threshold: float) -> None:
    words = [f"w{i}" for i in range(300)]
    fewest = round(300 * threshold)
    personas = candidates(*(" ".join(words[:size]) for size in (300, fewest, fewest - 1)))

    assert removed(personas.head(2), jaccard=threshold) == [("p1", "p0", "surface")]
    assert removed(personas[0:3:2], jaccard=threshold) == []
    assert build_combinations([300], threshold).height < 1000


def test_a_long_chain_is_decided_link_by_link() -> None:
    words = [f"w{i:03}" for i in range(60)]
    personas = candidates(*(" ".join(words[i : i + 5]) for i in range(50)))

    found = removed(personas, jaccard=0.6)

    assert found == sorted((f"p{i}", f"p{i - 1}", "surface") for i in range(1, 50, 2))


@pytest.mark.parametrize("value", [0.0, -0.5, 1.5, float("nan")])
def test_a_threshold_that_no_similarity_can_meet_is_refused(value: float) -> None:
    with pytest.raises(SettingsError, match="threshold jaccard is"):
        Thresholds(jaccard=value)
    with pytest.raises(SettingsError, match="threshold cosine is"):
        Thresholds(cosine=value)


def test_an_id_that_occurs_twice_is_refused() -> None:
    twice = pl.concat([candidates("a"), candidates("b")])

    with pytest.raises(ValueError, match="candidates have more than one row"):
        find_duplicates(twice, NO_VECTORS, Thresholds())
    with pytest.raises(ValueError, match="embeddings have more than one row"):
        find_duplicates(candidates("a"), pl.concat([vectors([1.0]), vectors([1.0])]), Thresholds())


def test_a_null_is_refused() -> None:
    nameless = candidates("a").with_columns(persona=pl.lit(None, pl.String))

    with pytest.raises(ValueError, match="candidates have a null in one of persona_id, persona"):
        find_duplicates(nameless, NO_VECTORS, Thresholds())
