"""The one call: what a caller gets, exact keys, and which arguments are refused."""

import subprocess
import sys
from typing import Any

import numpy as np
import polars as pl
import pytest

from persona_pipeline.dedup.duplicates import find_duplicates
from persona_pipeline.dedup.rules import Comparison, Thresholds
from persona_pipeline.errors import SettingsError
from persona_pipeline.settings import load_settings
from tests.support.dedup_tables import TEN, removed, table


def test_kept_rows_have_all_columns_and_the_order_of_the_table() -> None:
    texts = table("C", TEN, f"{TEN}!", "B").with_columns(url=pl.lit("u")).reverse()

    duplicates = find_duplicates(texts, rank="place")

    assert duplicates.kept.to_dicts() == texts.filter(pl.col("id") != "c").to_dicts()
    assert duplicates.removed.rows() == [("c", "b", "exact", 1.0, 1.0, None)]
    assert duplicates.removed.columns == [
        *("id", "kept_id", "layer", "similarity", "threshold", "fuzzy_score")
    ]


def test_the_example_of_the_documentation_runs() -> None:
    lines = (find_duplicates.__doc__ or "").splitlines()
    code = "\n".join(line.strip() for line in lines if line.startswith(" " * 8))
    example = code[: code.index("kept = ") + len("kept = duplicates.kept")]

    run = subprocess.run(
        [sys.executable, "-c", example], capture_output=True, text=True, check=True
    )

    assert run.stdout.splitlines()[0] == "1 of 2 removed: exact 1"
    assert "was removed because of" in run.stdout


# exact keys


def test_rows_of_one_key_are_duplicates_whatever_their_texts_say() -> None:
    texts = table("A", "B", "C", "D").with_columns(url=pl.Series(["u", "v", "u", None]))

    duplicates = find_duplicates(texts, rank="place", keys=["url"])

    assert duplicates.removed.rows() == [("c", "a", "url", 1.0, 1.0, None)]
    assert str(duplicates) == "1 of 4 removed: url 1"


def test_two_rows_without_a_key_are_not_alike() -> None:
    texts = table("A", "B").with_columns(url=pl.lit(None, pl.String))

    assert len(find_duplicates(texts, keys=["url"])) == 0


def test_equal_values_of_different_keys_are_not_alike() -> None:
    texts = table("A", "B").with_columns(url=pl.Series(["x", "y"]), title=pl.Series(["z", "x"]))

    assert len(find_duplicates(texts, keys=["url", "title"])) == 0


def test_keys_come_before_words_in_the_order_they_are_named() -> None:
    texts = table(TEN, "B", "C", TEN).with_columns(
        url=pl.Series(["u", "v", "w", "v"]), isbn=pl.Series([1, 2, 3, 3])
    )

    for keys, keeper in ((["url", "isbn"], "b"), (["isbn", "url"], "c"), ([], "a")):
        [(_, kept, layer)] = removed(find_duplicates(texts, rank="place", keys=keys))
        assert (kept, layer) == (keeper, keys[0] if keys else "exact")


def test_a_row_that_words_remove_removes_nobody_by_its_key() -> None:
    texts = table(TEN, TEN, "C").with_columns(url=pl.Series([None, "u", "u"]))

    assert removed(find_duplicates(texts, rank="place", keys=["url"])) == [("b", "a", "exact")]


def test_a_row_that_a_key_removes_removes_nobody_by_its_words() -> None:
    texts = table("A", TEN, TEN).with_columns(url=pl.Series(["u", "u", None]))

    assert removed(find_duplicates(texts, rank="place", keys=["url"])) == [("b", "a", "url")]


def test_without_a_text_only_keys_are_compared() -> None:
    texts = table(TEN, TEN, TEN).with_columns(url=pl.Series(["u", "v", "u"]))

    duplicates = find_duplicates(texts.drop("text"), text=None, rank="place", keys=["url"])

    assert removed(duplicates) == [("c", "a", "url")]
    assert str(duplicates.explain("c")) == ("'c' was removed because of\n  'a': url 1, threshold 1")
    assert str(duplicates.explain("a")) == (
        "'a' is kept; 1 row was removed because of it\n  'c': url 1, threshold 1"
    )


# what is refused


@pytest.mark.parametrize("value", [0.0, 1.5, float("nan")])
def test_pairs_from_a_similarity_that_none_has_are_refused(value: float) -> None:
    with pytest.raises(SettingsError, match=r"compare_from is .*; give a number from 0\.01 to 1"):
        find_duplicates(table("A"), compare_from=value)


def test_a_comparison_and_where_it_starts_are_one_too_many() -> None:
    with pytest.raises(SettingsError, match="comparison and compare_from both"):
        find_duplicates(table("A"), compare_from=0.5, comparison=Comparison())


def test_a_number_for_thresholds_and_a_name_for_keys_are_what_a_user_would_try() -> None:
    with pytest.raises(TypeError, match=r"give Thresholds\(jaccard=0\.8"):
        find_duplicates(table(TEN), thresholds=0.8)  # type: ignore[arg-type] # that is the mistake
    urls = table(TEN, TEN).with_columns(url=pl.lit("u"))
    assert find_duplicates(urls, keys="url").removed["layer"].to_list() == ["url"]


def test_without_a_text_the_order_of_the_rows_does_not_matter() -> None:
    rows = pl.DataFrame({"id": list("fbdace"), "url": ["http://e.org/1"] * 6})
    for seed in range(6):
        shuffled = rows.sample(fraction=1, shuffle=True, seed=seed)
        assert find_duplicates(shuffled, text=None, keys="url").kept["id"].to_list() == ["a"]


@pytest.mark.parametrize("value", ["0.9", None, True])
def test_a_threshold_that_is_no_number_is_named(value: Any) -> None:  # noqa: ANN401 - any value
    with pytest.raises(TypeError, match=r"threshold jaccard is .*; give a number, such as 0\.9"):
        Thresholds(value)
    with pytest.raises(TypeError, match="min_jaccard is"):
        Comparison(value)


def test_a_column_that_polars_takes_for_a_pattern_is_refused() -> None:
    texts = table("A", "B").with_columns(k2=pl.lit("x")).rename({"k2": "^k.*$"})
    with pytest.raises(ValueError, match="has a name that Polars takes for a pattern: rename it"):
        find_duplicates(texts, keys=["^k.*$"])


def test_numbers_of_numpy_are_numbers() -> None:
    number: Any = np.float32(0.8)
    assert Thresholds(number).jaccard == 0.8
    numbers: list[Any] = [np.float32(0.5), np.float64(0.25), np.int64(90)]
    thresholds = Thresholds(*numbers)
    assert repr(thresholds) == "Thresholds(jaccard=0.5, cosine=0.25, fuzzy=90.0)"
    assert len(find_duplicates(table(TEN, TEN), thresholds=thresholds)) == 1


@pytest.mark.parametrize("value", [0.0, 1e-6, 0.009, 1.1, float("nan")])
def test_a_similarity_that_cannot_be_searched_for_is_refused(value: float) -> None:
    with pytest.raises(SettingsError, match=r"jaccard is .*; give a number from 0\.01 to 1"):
        Thresholds(value)
    with pytest.raises(SettingsError, match=r"min_jaccard is .*; give a number from 0\.01 to 1"):
        Comparison(value)
    with pytest.raises(SettingsError, match="store_pairs_from"):
        load_settings(store_pairs_from=value)
