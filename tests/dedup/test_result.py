"""The result: how many rows went, why each did, and what other thresholds remove."""

import pickle
from typing import Any

import polars as pl
import pytest

from persona_pipeline.dedup.duplicates import Duplicates, find_duplicates
from persona_pipeline.dedup.rules import Thresholds
from persona_pipeline.dedup.words.join import jaccard_pairs
from persona_pipeline.errors import SettingsError, tell_renamed
from tests.support.dedup_tables import TEN, removed, table

WORDS = Thresholds(0.9, cosine=None)


def test_the_result_says_how_many_each_layer_removed() -> None:
    duplicates = find_duplicates(table(TEN, f"{TEN}!", f"{TEN}?", f"{TEN} x", "B"), rank="place")

    assert len(duplicates) == 3
    assert str(duplicates) == "3 of 5 removed: exact 2, jaccard 1"
    assert repr(duplicates) == "<Duplicates: 3 of 5 removed: exact 2, jaccard 1>"
    assert str(find_duplicates(table("A", "B"))) == "0 of 2 removed"


def test_a_result_without_duplicates_is_a_result_and_has_no_rows_of_its_own() -> None:
    nothing = find_duplicates(table(TEN), thresholds=WORDS)
    assert nothing
    assert len(nothing) == 0
    with pytest.raises(TypeError, match="not iterable"):
        list(nothing)  # type: ignore[call-overload] # that is the mistake
    assert len(pickle.loads(pickle.dumps(nothing)).kept) == 1  # noqa: S301 - our own


@pytest.mark.parametrize("ids", [["a", "b"], [1, 2]])
def test_what_is_removed_has_the_same_columns_if_it_is_nothing(ids: list[object]) -> None:
    both = pl.DataFrame({"id": ids, "text": [TEN, TEN]})
    something, nothing = (find_duplicates(rows).removed for rows in (both, both.head(1)))
    assert (len(something), len(nothing)) == (1, 0)
    assert something.schema == nothing.schema


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


@pytest.mark.parametrize("wanted", [1.0, True, [1], None])
def test_what_is_no_id_is_no_row(wanted: Any) -> None:  # noqa: ANN401 - any value
    texts = pl.DataFrame({"id": [1, 2], "text": ["A", "B"]})
    with pytest.raises(ValueError, match=r"no row has id .* \(the column is Int64\)"):
        find_duplicates(texts).explain(wanted)


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


# names of before


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
