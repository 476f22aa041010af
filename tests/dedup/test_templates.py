"""Test texts of templates, whose pairs are more than the memory holds, against brute force."""

from collections.abc import Iterator

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from persona_pipeline.dedup import blocks, resources
from persona_pipeline.dedup.duplicates import find_duplicates
from persona_pipeline.dedup.resources import PAIR_BYTES, Resources
from persona_pipeline.dedup.rules import Comparison, Thresholds
from persona_pipeline.errors import MemoryLimitError
from tests.support.dedup_reference import Row, reference, removals, run, table_of
from tests.support.examples import FEWER
from tests.support.templates import mixed_rows, ordinary_texts, template_texts

TINY = Resources(memory_bytes=1)
WORDS_ONLY = Thresholds(0.8, cosine=None)


@pytest.fixture
def _few_pairs_fit() -> Iterator[None]:
    """Let no more than 2,000 pairs fit into the least memory, of which a block gets as many."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resources, "LEAST_MEMORY", 2000 * PAIR_BYTES)
        yield


def texts_of_three_templates() -> list[str]:
    """Return 900 texts of which one word differs, two do, or one of ten and one of twenty."""
    return [
        *template_texts(300, 12, 1, "a"),
        *template_texts(300, 20, 2, "b"),
        *template_texts(300, 14, 2, "c", few=20),
        *ordinary_texts(300),
    ]


@pytest.mark.parametrize("jaccard", [0.95, 0.846, 0.8, 0.7, 0.5])
@pytest.mark.usefixtures("_few_pairs_fit")
def test_templates_beyond_the_memory_are_decided_as_by_brute_force(jaccard: float) -> None:
    rows, thresholds = mixed_rows(texts_of_three_templates()), Thresholds(jaccard, cosine=None)

    assert run(rows, thresholds, TINY) == reference(rows, thresholds)


@pytest.mark.usefixtures("_few_pairs_fit")
def test_a_template_and_words_put_into_it_are_decided_as_by_brute_force() -> None:
    """Each of the last 100 is like all of the first 300, which are not like each other."""
    core = " ".join(f"c{number}" for number in range(40))
    longer = [f"{core} x{number} y{number} z{number}" for number in range(300)]
    shorter = [f"{core} v{number}" for number in range(100)]
    rows = [Row(text, text, int(text in shorter)) for text in (*longer, *shorter)]
    thresholds = Thresholds(0.9, cosine=None)

    removed = run(rows, thresholds, TINY)

    assert removed == reference(rows, thresholds)
    assert [row.id for row in removed] == sorted(shorter)


@pytest.mark.usefixtures("_few_pairs_fit")
def test_spelling_and_meaning_of_templates_decide_as_by_brute_force() -> None:
    texts = [*template_texts(150, 12, 1, "a"), *template_texts(150, 11, 2, "b", few=12)]
    rows = [
        Row(row.id, row.text, row.rank, row.quality, (1.0, number % 7 / 10, number % 5 / 10))
        for number, row in enumerate(mixed_rows(sorted(set(texts))))
    ]
    for thresholds in (Thresholds(0.9, None, 95.0), Thresholds(0.9, 0.99), Thresholds(0.8, 0.999)):
        ours, theirs = run(rows, thresholds, TINY), reference(rows, thresholds)
        assert [(row.id, row.layer) for row in ours] == [(row.id, row.layer) for row in theirs]
        assert len(ours) > 100


@pytest.mark.usefixtures("_few_pairs_fit")
@pytest.mark.parametrize("method", ["minhash128", "minhash128-verified"])
def test_templates_are_decided_by_minhash_as_with_all_its_pairs(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = table_of(mixed_rows(texts_of_three_templates()))
    comparison = Comparison(0.7, None, method=method)  # type: ignore[arg-type]

    def decide() -> pl.DataFrame:
        return find_duplicates(
            table, None, WORDS_ONLY, rank="rank", comparison=comparison, resources=TINY
        ).removed

    in_blocks = decide()
    monkeypatch.setattr(resources, "LEAST_MEMORY", 64_000_000)
    assert in_blocks.equals(decide())
    assert len(in_blocks) > 100


@pytest.mark.usefixtures("_few_pairs_fit")
def test_templates_are_decided_again_at_any_threshold_as_by_brute_force() -> None:
    rows = mixed_rows(texts_of_three_templates())
    duplicates = find_duplicates(
        table_of(rows),
        None,
        WORDS_ONLY,
        rank="rank",
        quality="quality",
        keys=["key"],
        compare_from=0.5,
        resources=TINY,
    )

    for jaccard in (0.95, 0.6):
        again = duplicates.rethreshold(jaccard)
        assert removals(again.removed) == reference(rows, Thresholds(jaccard, cosine=None))


@pytest.mark.usefixtures("_few_pairs_fit")
def test_equal_keys_decide_among_templates_as_by_brute_force() -> None:
    rows = [
        Row(row.id, row.text, row.rank, row.quality, key=number % 400)
        for number, row in enumerate(mixed_rows(texts_of_three_templates()))
    ]

    removed = run(rows, WORDS_ONLY, TINY)

    assert removed == reference(rows, WORDS_ONLY)
    assert {row.layer for row in removed} >= {"key", "jaccard"}


@FEWER
@given(st.integers(0, 1000), st.sampled_from([1, 3, 40]), st.sampled_from([0.9, 0.8, 0.6]))
def test_blocks_of_any_size_decide_alike(seed: int, size: int, jaccard: float) -> None:
    texts = [
        *template_texts(30, 12, 1, "a"),
        *template_texts(30, 9, 2, "b", few=5),
        *ordinary_texts(20),
    ]
    rows, thresholds = mixed_rows(texts, seed), Thresholds(jaccard, cosine=None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resources, "LEAST_MEMORY", 100 * PAIR_BYTES)
        patch.setattr(blocks, "FIRST_BLOCK", size)
        patch.setattr(blocks, "FEW_PAIRS", 5)
        patch.setattr(blocks, "MANY_PAIRS", 20)
        assert run(rows, thresholds, TINY) == reference(rows, thresholds)


def test_a_row_like_more_kept_rows_than_fit_ends_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(resources, "LEAST_MEMORY", 5 * PAIR_BYTES)
    core = " ".join(f"c{number}" for number in range(40))
    longer = [f"{core} x{number} y{number} z{number}" for number in range(20)]
    rows = [*(Row(text, text) for text in longer), Row("last", f"{core} v", rank=2)]

    with pytest.raises(MemoryLimitError, match="Set dedup_memory higher"):
        run(rows, Thresholds(0.9, cosine=None), TINY)
