"""The engine on a caller's table: its columns, its result, and what it refuses."""

import logging
import pickle
import subprocess
import sys
from typing import Any

import polars as pl
import pytest

from persona_pipeline.dedup import kernels
from persona_pipeline.dedup.duplicates import Duplicates, find_duplicates
from persona_pipeline.dedup.rules import Comparison, Thresholds
from persona_pipeline.dedup.words.join import jaccard_pairs
from persona_pipeline.errors import SettingsError, tell_renamed

TEN = "one two three four five six seven eight nine ten"
WORDS = Thresholds(0.9, cosine=None)


def table(*texts: str, ids: str = "abcdefgh") -> pl.DataFrame:
    """Rows a, b, ... that rank in this order."""
    return pl.DataFrame(
        {"id": list(ids[: len(texts)]), "text": texts, "place": range(len(texts))},
        schema={"id": pl.String, "text": pl.String, "place": pl.Int64},
    )


def removed(duplicates: Duplicates) -> list[tuple[object, ...]]:
    return duplicates.removed.select(duplicates.removed.columns[:3]).rows()


# what a caller gets


def test_kept_rows_have_all_columns_and_the_order_of_the_table() -> None:
    texts = table("C", TEN, f"{TEN}!", "B").with_columns(url=pl.lit("u")).reverse()

    duplicates = find_duplicates(texts, rank="place")

    assert duplicates.kept.to_dicts() == texts.filter(pl.col("id") != "c").to_dicts()
    assert duplicates.removed.rows() == [("c", "b", "exact", 1.0, 1.0, None)]
    assert duplicates.removed.columns == [
        *("id", "kept_id", "layer", "similarity", "threshold", "fuzzy_score")
    ]


def test_the_result_says_how_many_each_layer_removed() -> None:
    duplicates = find_duplicates(table(TEN, f"{TEN}!", f"{TEN}?", f"{TEN} x", "B"), rank="place")

    assert len(duplicates) == 3
    assert str(duplicates) == "3 of 5 removed: exact 2, jaccard 1"
    assert repr(duplicates) == "<Duplicates: 3 of 5 removed: exact 2, jaccard 1>"
    assert str(find_duplicates(table("A", "B"))) == "0 of 2 removed"


@pytest.mark.parametrize("dtype", [pl.Int64, pl.UInt8])
def test_whole_numbers_are_ids_and_stay_numbers(dtype: type[pl.DataType]) -> None:
    texts = pl.DataFrame(
        {"id": [10, 9, 8], "text": [TEN, TEN, "B"]}, schema={"id": dtype, "text": pl.String}
    )

    duplicates = find_duplicates(texts)

    assert removed(duplicates) == [(10, 9, "exact")]
    assert duplicates.removed.schema["id"] == duplicates.removed.schema["kept_id"] == dtype
    assert duplicates.kept["id"].to_list() == [9, 8]
    assert duplicates.kept.schema["id"] == dtype
    assert duplicates.explain(10).removal is not None


def test_columns_may_have_any_name_and_others_may_be_called_like_ours() -> None:
    texts = pl.DataFrame(
        {"number": [1, 2], "body": [TEN, TEN], "set_key": [0, 0], "id": ["x", "x"], "rank": "r"}
    )

    duplicates = find_duplicates(texts, id="number", text="body")

    assert duplicates.removed.rows() == [(2, 1, "exact", 1.0, 1.0, None)]
    assert duplicates.kept.columns == texts.columns


@pytest.mark.parametrize("rank", [["2026-02", "2026-01"], [0.5, -0.5], [2, 1], [True, False]])
def test_rows_of_a_lower_rank_are_kept_whatever_its_type(rank: list[object]) -> None:
    texts = table(TEN, TEN).with_columns(rank=pl.Series(rank), good=pl.Series([9, 0]))

    assert removed(find_duplicates(texts, rank="rank", quality="good")) == [("a", "b", "exact")]


def test_of_one_rank_the_higher_quality_is_kept_and_null_counts_as_nothing() -> None:
    texts = table(TEN, TEN, TEN).with_columns(good=pl.Series([None, 2, 1]))

    assert {kept for _, kept, _ in removed(find_duplicates(texts, quality="good"))} == {"b"}


def test_vectors_are_joined_by_the_id_column_of_the_table() -> None:
    texts = pl.DataFrame({"n": [1, 2, 3], "text": ["A", "B", "C"]})
    vectors = pl.DataFrame({"n": [1, 2], "embedding": [[1.0, 0.0], [1.0, 0.1]]})

    duplicates = find_duplicates(texts, embeddings=vectors, id="n", rank="n")

    assert removed(duplicates) == [(2, 1, "semantic")]
    assert len(find_duplicates(texts, vectors, Thresholds(0.9, 1.0), id="n")) == 0


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


# why


@pytest.fixture(name="explained")
def _explained() -> Duplicates:
    thresholds = Thresholds(0.9, None, fuzzy=90)
    same = "an old man who mends the nets of others in"
    texts = table(f"{same} harbours", f"{same} harbors", f"{same} Harbours!", "B")
    return find_duplicates(texts, rank="place", thresholds=thresholds)


def test_a_removed_row_is_explained_by_its_keeper(explained: Duplicates) -> None:
    explanation = explained.explain("c")

    assert not explanation.is_kept
    assert explanation.removal is not None
    assert explanation.removal.kept_id == "a"
    assert explanation.removal.kept_text.endswith("in harbours")  # type: ignore[union-attr]
    assert explanation.removal[2:] == ("exact", 1.0, 1.0, None)
    assert explanation.removed.is_empty()
    assert str(explanation) == (
        "'c' ('an old man who mends the nets of others in Harbours!') was removed because of"
        "\n  'a' ('an old man who mends the nets of others in harbours'): exact 1, threshold 1"
    )


def test_a_kept_row_is_explained_by_those_that_it_removed(explained: Duplicates) -> None:
    explanation = explained.explain("a")

    assert explanation.is_kept
    assert explanation.removed.select("id", "layer").rows() == [("b", "fuzzy"), ("c", "exact")]
    assert explanation.removed["removed_text"].str.ends_with("in harbors").to_list() == [
        *(True, False)
    ]
    assert str(explanation).splitlines()[0].endswith("is kept; 2 rows were removed because of it")
    assert "fuzzy 0.8333, threshold 90, fuzzy score 99.0" in str(explanation)


def test_a_row_that_is_like_no_other_is_kept_and_removed_none(explained: Duplicates) -> None:
    assert str(explained.explain("d")) == "'d' ('B') is kept; 0 rows were removed because of it"


def test_an_unknown_id_is_named_with_those_that_are_near() -> None:
    texts = table("A", "B").with_columns(id=pl.Series(["persona-17", "x"]))

    with pytest.raises(ValueError, match=r"no row has id 'persona-7' .*; did you mean persona-17"):
        find_duplicates(texts).explain("persona-7")
    with pytest.raises(ValueError, match=r"no row has id '9' .*; the first ids are 'persona-17'"):
        find_duplicates(texts).explain("9")
    with pytest.raises(ValueError, match="the table has no rows"):
        find_duplicates(texts.clear()).explain("a")


def test_of_many_ids_those_that_begin_alike_are_near(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("persona_pipeline.dedup.result.MANY", 1)
    texts = table("A", "B", "C").with_columns(id=pl.Series(["page-17", "rage-18", "page-19"]))

    with pytest.raises(ValueError, match="did you mean page-19 or page-17"):
        find_duplicates(texts).explain("page-1")


def test_an_id_of_another_type_is_named_with_the_type_of_the_column() -> None:
    texts = pl.DataFrame({"id": [7, 8], "text": ["A", "B"]})

    with pytest.raises(ValueError, match=r"id '7' \(the column is Int64\); did you mean 7"):
        find_duplicates(texts).explain("7")


# other thresholds


@pytest.fixture(name="joins")
def _joins(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The similarities from which word sets were joined, one per join."""
    joins = list[float]()

    def counted(*arguments: object) -> pl.DataFrame:
        joins.append(round(float(arguments[2]), 6))  # type: ignore[arg-type]
        return jaccard_pairs(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr("persona_pipeline.dedup.comparison.jaccard_pairs", counted)
    return joins


def test_another_threshold_needs_no_comparison(joins: list[float]) -> None:
    texts = table(TEN, f"{TEN} x", f"{TEN} x y z", "B")

    strict = find_duplicates(texts, rank="place", thresholds=WORDS, compare_from=0.5)
    loose = strict.rethreshold(0.7)

    assert joins == [0.5]
    assert (len(strict), len(loose)) == (1, 2)
    assert loose.thresholds == Thresholds(0.7, None)
    fresh = find_duplicates(texts, rank="place", thresholds=Thresholds(0.7, None))
    assert loose.removed.equals(fresh.removed)
    assert loose.kept.equals(fresh.kept)
    assert loose.rethreshold(WORDS).removed.equals(strict.removed)
    assert joins == [0.5, 0.7]


def test_keys_and_vectors_are_decided_again_too() -> None:
    texts = table("A", "B", "C").with_columns(url=pl.Series(["u", None, "u"]))
    vectors = pl.DataFrame({"id": ["a", "b"], "embedding": [[1.0, 0.0], [1.0, 0.5]]})
    duplicates = find_duplicates(
        texts, vectors, rank="place", keys=["url"], thresholds=Thresholds(0.9, 0.5)
    )

    assert removed(duplicates) == [("b", "a", "semantic"), ("c", "a", "url")]
    assert removed(duplicates.rethreshold(Thresholds(0.9, 0.99))) == [("c", "a", "url")]


@pytest.mark.parametrize(
    ("thresholds", "message"),
    [
        (0.8, r"from a Jaccard similarity of 0\.9 on, .* compare_from=0\.8;"),
        (Thresholds(0.9, 0.9), r"finds less than .*\. Call find_duplicates with these"),
        (Thresholds(0.9, None, fuzzy=90), r"compare_from=0\.7;"),
    ],
)
def test_thresholds_below_what_was_compared_say_how_to_compare(
    thresholds: Thresholds | float, message: str
) -> None:
    duplicates = find_duplicates(table(TEN, f"{TEN} x y"), thresholds=WORDS)

    with pytest.raises(SettingsError, match=message):
        duplicates.rethreshold(thresholds)


@pytest.mark.parametrize("value", [0.0, 1.5, float("nan")])
def test_pairs_from_a_similarity_that_none_has_are_refused(value: float) -> None:
    with pytest.raises(SettingsError, match=r"compare_from is .*; give a number above 0"):
        find_duplicates(table("A"), compare_from=value)


def test_a_comparison_and_where_it_starts_are_one_too_many() -> None:
    with pytest.raises(SettingsError, match="comparison and compare_from both"):
        find_duplicates(table("A"), compare_from=0.5, comparison=Comparison())


# what is refused


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"id": "idd"}, r"unknown column \(parameter id\) 'idd'; did you mean 'id'"),
        ({"text": "body"}, r"unknown column \(parameter text\) 'body'; known: .*text=\.\.\."),
        ({"rank": "shard"}, r"\(parameter rank\) 'shard'"),
        ({"quality": "good"}, r"\(parameter quality\) 'good'"),
        ({"keys": ["url"]}, r"\(parameter keys\) 'url'"),
        ({"text": "place"}, r"column 'place' of texts is Int64, not String: cast it, as in pl.col"),
        ({"quality": "id"}, "column 'id' of texts is String, not a number"),
    ],
)
def test_a_column_that_cannot_be_used_is_named_with_what_to_do(
    columns: dict[str, str], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        find_duplicates(table("A"), **columns)  # type: ignore[arg-type]


@pytest.mark.parametrize("column", ["id", "text", "place"])
def test_a_null_is_refused_with_its_column_and_row(column: str) -> None:
    texts = table("A", "B").with_columns(
        pl.when(pl.col("id") == "a").then(pl.col(column)).alias(column)
    )

    with pytest.raises(ValueError, match=f"texts have a null in column '{column}', first in row 1"):
        find_duplicates(texts, rank="place")


def test_an_id_that_occurs_twice_is_refused_by_its_name() -> None:
    twice = table("A", "B", ids="aa")
    vectors = pl.DataFrame({"id": ["a", "a"], "embedding": [[1.0], [1.0]]})

    with pytest.raises(ValueError, match="texts have more than one row with id 'a': give each"):
        find_duplicates(twice)
    with pytest.raises(ValueError, match="embeddings have more than one row with id 'a'"):
        find_duplicates(table("A"), vectors)


def test_vectors_without_their_columns_or_with_other_ids_are_refused() -> None:
    vectors = pl.DataFrame({"id": [1], "embedding": [[1.0]]})

    with pytest.raises(ValueError, match="embeddings have no column 'embedding', only id, vector"):
        find_duplicates(table("A"), vectors.rename({"embedding": "vector"}))
    with pytest.raises(ValueError, match="column 'id' is Int64 in embeddings and String in texts"):
        find_duplicates(table("A"), vectors)
    directionless = pl.DataFrame({"id": ["a"], "embedding": [None]})
    with pytest.raises(ValueError, match="embeddings have a null in column 'embedding'"):
        find_duplicates(table("A"), directionless)


def test_ids_that_are_neither_texts_nor_whole_numbers_are_refused() -> None:
    texts = table("A").with_columns(id=pl.lit(0.5))

    with pytest.raises(ValueError, match=r"column 'id' of texts is Float64: .* cast it"):
        find_duplicates(texts)


def test_columns_that_are_called_like_ours_are_refused_where_they_would_clash() -> None:
    texts = table("A").with_columns(layer=pl.lit("x"), exact=pl.lit("x"))

    with pytest.raises(ValueError, match="the id column is called 'layer', as a column of the"):
        find_duplicates(texts, id="layer")
    with pytest.raises(ValueError, match="the key column 'exact' is called like a layer"):
        find_duplicates(texts, keys=["exact"])


def test_a_lazy_frame_is_refused_with_what_to_call() -> None:
    with pytest.raises(TypeError, match=r"texts is a polars.LazyFrame, .*: call \.collect\(\)"):
        find_duplicates(table("A").lazy())  # type: ignore[arg-type]


def test_a_frame_of_pandas_is_refused_with_what_to_call() -> None:
    frame = type("DataFrame", (), {"__module__": "pandas.core.frame"})()

    with pytest.raises(TypeError, match=r"a pandas.DataFrame, .*: pass pl.from_pandas\(texts\)"):
        find_duplicates(frame)
    with pytest.raises(TypeError, match=r"embeddings is a builtins\.str, not a polars.DataFrame"):
        find_duplicates(table("A"), "vectors")  # type: ignore[arg-type]


def test_a_table_without_rows_has_no_duplicates() -> None:
    empty = pl.DataFrame({"id": [], "text": [], "url": []})

    duplicates = find_duplicates(empty, keys=["url"])

    assert (len(duplicates), len(duplicates.kept)) == (0, 0)


# names of before


def test_the_old_column_names_are_read_and_the_new_ones_named_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    tell_renamed.cache_clear()
    texts = pl.DataFrame(
        {
            "persona_id": ["a", "b", "c"],
            "persona": [TEN] * 3,
            "shard_number": [2, 1, 1],
            "quality": [9, 1, 2],
        }
    )
    vectors = pl.DataFrame({"persona_id": ["a"], "embedding": [[1.0]]})

    with caplog.at_level(logging.WARNING):
        results = [find_duplicates(texts, vectors) for _ in range(2)]

    assert {removed(result)[0] for result in results} == {("a", "c", "exact")}
    assert results[0].removed.columns[0] == "persona_id"
    assert [record.message for record in caplog.records] == [
        (
            "the table of persona_id and persona that find_duplicates takes is now a table of id"
            " and text (or id='persona_id', text='persona'); the old name works until 0.3"
        )
    ]


def test_a_table_whose_columns_are_named_gets_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    tell_renamed.cache_clear()
    texts = table(TEN, TEN).rename({"id": "persona_id", "text": "persona"})

    with caplog.at_level(logging.WARNING):
        duplicates = find_duplicates(texts, id="persona_id", text="persona")

    assert len(duplicates) == 1
    assert not caplog.records


def test_no_module_but_a_kernel_imports_numba() -> None:
    code = (
        "import importlib, pkgutil, sys, persona_pipeline.dedup as package;"
        "names = [m.name for m in pkgutil.walk_packages(package.__path__, package.__name__ + '.')];"
        "own = [n for n in names if not n.endswith(('kernel', 'compiling'))];"
        "[importlib.import_module(name) for name in own];"
        "sys.exit('numba' in sys.modules or len(own) < 20)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_an_unknown_kernel_is_no_attribute() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'cosine'"):
        _ = kernels.cosine
    assert {name for name in kernels.__all__ if hasattr(kernels, name)} == {*kernels.__all__}


def test_the_result_can_be_used_as_the_frame_it_was_and_says_what_to_use(
    caplog: pytest.LogCaptureFixture,
) -> None:
    tell_renamed.cache_clear()
    old: Any = find_duplicates(table(TEN, TEN), thresholds=WORDS)
    assert old["kept_id"].to_list() == old.removed["kept_id"].to_list()
    assert old.select("layer").equals(old.removed.select("layer"))
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = old.nonsense
    assert len(caplog.records) == 1
    assert "'removed'; the old name works until 0.3" in caplog.text


def test_a_result_without_duplicates_is_a_result_and_has_no_rows_of_its_own() -> None:
    nothing = find_duplicates(table(TEN), thresholds=WORDS)
    assert nothing
    assert len(nothing) == 0
    with pytest.raises(TypeError, match="not iterable"):
        list(nothing)  # type: ignore[call-overload] # that is the mistake
    assert len(pickle.loads(pickle.dumps(nothing)).kept) == 1  # noqa: S301 - our own


def test_a_number_for_thresholds_and_a_name_for_keys_are_what_a_user_would_try() -> None:
    with pytest.raises(TypeError, match=r"give Thresholds\(jaccard=0\.8"):
        find_duplicates(table(TEN), thresholds=0.8)  # type: ignore[arg-type] # that is the mistake
    urls = table(TEN, TEN).with_columns(url=pl.lit("u"))
    assert find_duplicates(urls, keys="url").removed["layer"].to_list() == ["url"]
