"""A caller's table: what its columns may be, and what is refused."""

import logging
from typing import Any

import polars as pl
import pytest

from persona_pipeline.dedup.duplicates import find_duplicates
from persona_pipeline.dedup.resources import Resources
from persona_pipeline.dedup.rules import Comparison, Thresholds
from persona_pipeline.errors import tell_renamed
from tests.support.dedup_tables import TEN, removed, table


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


def test_a_table_without_rows_has_no_duplicates() -> None:
    empty = pl.DataFrame({"id": [], "text": [], "url": []})

    duplicates = find_duplicates(empty, keys=["url"])

    assert (len(duplicates), len(duplicates.kept)) == (0, 0)


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


@pytest.mark.parametrize(
    ("column", "kind"), [(["1", "2"], "String"), ([["1"], ["2"]], r"List\(String\)")]
)
def test_vectors_of_other_types_are_refused(column: list[object], kind: str) -> None:
    vectors = pl.DataFrame({"id": ["a", "b"], "embedding": column})
    with pytest.raises(ValueError, match=f"column 'embedding' of embeddings is {kind}: give a"):
        find_duplicates(table("A", "B"), vectors)


def test_vectors_that_are_like_nothing_are_counted_in_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    nothing = [[0, 0], [float("nan"), 1], [float("inf"), 1], [None, 1], [], [1, 0, 0]]
    rows = [*nothing, [1, 0], [2, 0]]
    vectors = pl.DataFrame({"id": list("abcdefgh"), "embedding": pl.Series(rows, strict=False)})
    with caplog.at_level(logging.WARNING):
        duplicates = find_duplicates(table(*"ABCDEFGH"), vectors, rank="place")
    assert removed(duplicates) == [("h", "g", "semantic")]
    assert [record.message for record in caplog.records] == [
        "5 of 8 vectors have no direction (zeros, or no finite number): they are in no pair",
        "vectors of 3 lengths: a cosine is taken of two of one length only",
    ]


def test_no_id_column_at_all_is_refused_with_how_to_number_the_rows() -> None:
    with pytest.raises(ValueError, match="id is None: every row needs an id"):
        find_duplicates(table("A"), id=None)  # type: ignore[arg-type]


@pytest.mark.parametrize("keys", [5, [1], {"url": 1}])
def test_keys_that_are_no_names_are_refused(keys: object) -> None:
    with pytest.raises(TypeError, match=r"give names of columns, as \('url',\)"):
        find_duplicates(table("A"), keys=keys)  # type: ignore[arg-type]


def test_ids_that_are_neither_texts_nor_whole_numbers_are_refused() -> None:
    texts = table("A").with_columns(id=pl.lit(0.5))

    with pytest.raises(ValueError, match=r"column 'id' of texts is Float64: .* cast it"):
        find_duplicates(texts)


def test_columns_that_are_called_like_ours_are_refused_where_they_would_clash() -> None:
    texts = table("A").with_columns(layer=pl.lit("x"), exact=pl.lit("x"))

    with pytest.raises(ValueError, match="the id column is called 'layer', as a column of the"):
        find_duplicates(texts, id="layer")
    with pytest.raises(ValueError, match="the id column is called 'removed_text'"):
        find_duplicates(texts.rename({"id": "removed_text"}), id="removed_text")
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


def test_the_old_way_to_call_works_and_the_new_one_is_named_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    tell_renamed.cache_clear()
    old: Any = find_duplicates
    texts, thresholds = table(TEN, TEN), Thresholds(0.7, None)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert len(old(candidates=texts)) == 1
            assert len(old(texts, None, thresholds, Comparison(0.5, None), Resources())) == 1
    assert [record.message.partition(";")[0] for record in caplog.records] == [
        "the argument 'candidates' of find_duplicates is now 'texts'",
        "the argument of find_duplicates by position, comparison, is now comparison=...",
        "the argument of find_duplicates by position, resources, is now resources=...",
    ]


def test_other_wrong_calls_are_as_wrong_as_before() -> None:
    old: Any = find_duplicates
    for arguments, names in (
        ((table("A"), None, None, None, None, None), {}),
        ((table("A"), None, None, None), {"comparison": None}),
        ((table("A"),), {"candidates": table("A")}),
    ):
        with pytest.raises(TypeError, match=r"find_duplicates\(\)"):
            old(*arguments, **names)


def test_a_table_whose_columns_are_named_gets_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    tell_renamed.cache_clear()
    texts = table(TEN, TEN).rename({"id": "persona_id", "text": "persona"})

    with caplog.at_level(logging.WARNING):
        duplicates = find_duplicates(texts, id="persona_id", text="persona")

    assert len(duplicates) == 1
    assert not caplog.records
