"""Find the duplicates in a table of texts: the library's one call on any table."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import polars as pl

from persona_pipeline.dedup.comparison import find_exact_keys, find_pairs, prepare_texts
from persona_pipeline.dedup.resources import Resources
from persona_pipeline.dedup.result import ComparedTable, Duplicates, Explanation, Removal
from persona_pipeline.dedup.rules import Comparison, Thresholds, read_jaccard
from persona_pipeline.dedup.table import (
    Columns,
    name_columns,
    name_keys,
    read_embeddings,
    read_table,
)
from persona_pipeline.errors import MemoryLimitError, SettingsError, tell_renamed

__all__ = ["Duplicates", "Explanation", "Removal", "find_duplicates"]


NEW_POSITIONS = 3
"""Arguments of `find_duplicates` that may be given by position."""
P = ParamSpec("P")
T = TypeVar("T")


def accept_old_call(function: Callable[P, T]) -> Callable[P, T]:
    """Accept the arguments of `find_duplicates` before 0.2: `candidates`, and five positions."""

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        named = dict[str, Any](kwargs)
        if "candidates" in named and not args and "texts" not in named:
            tell_renamed("the argument 'candidates' of find_duplicates", "'texts'")
            named["texts"] = named.pop("candidates")
        old = dict(zip(("comparison", "resources"), args[NEW_POSITIONS:], strict=False))
        if len(args) > NEW_POSITIONS + len(old) or named.keys() & old:
            return function(*args, **kwargs)  # and Python says what is wrong with it
        for name in old:
            tell_renamed(f"the argument of find_duplicates by position, {name},", f"{name}=...")
        return function(*args[:NEW_POSITIONS], **named, **old)  # type: ignore[arg-type]

    return call


@accept_old_call
def find_duplicates(  # noqa: PLR0913 - all but the table have defaults
    texts: pl.DataFrame,
    embeddings: pl.DataFrame | None = None,
    thresholds: Thresholds | None = None,
    *,
    id: str = "id",  # noqa: A002 - the field's name for this column
    text: str | None = "text",
    rank: str | None = None,
    quality: str | None = None,
    keys: Sequence[str] = (),
    compare_from: float | None = None,
    comparison: Comparison | None = None,
    resources: Resources | None = None,
) -> Duplicates:
    """Find the rows that say the same as another row, and decide which of them stay.

        import polars as pl
        import persona_pipeline as pp

        texts = pl.DataFrame({"id": ["a", "b"], "text": ["A baker.", "a Baker"]})
        duplicates = pp.find_duplicates(texts)
        print(duplicates)  # 1 of 2 removed: exact 1
        print(duplicates.explain("b"))
        kept = duplicates.kept

    Rows are ranked: the lower `rank` first, then the higher `quality`, then a hash of the text,
    then the id. Of two similar rows, the first in this ranking is kept. So what is kept of the rows
    of one rank depends on these and on lower ranks only. Neither the order of the rows nor the
    number of threads matters.

    A row can be like another one in several layers: each column of `keys` (equal values), `exact`
    (the same words in the same order), `jaccard` (Jaccard similarity of the word sets), `fuzzy` (a
    lower Jaccard similarity, and similar spelling), `semantic` (cosine of the embeddings). No two
    kept rows are similar in any layer. Each removed row is similar to a kept one before it: its
    keeper is the most similar one in the first layer that has one.

    The default thresholds, a Jaccard similarity of 0.9 on words and a cosine of 0.9, are those of
    the Persona Hub report (arXiv 2406.20094, section 2.3).

    Until 0.3, a table without columns id and text may have the older names persona_id, persona,
    shard_number and quality.

    Args:
        texts: one row per text, with any columns. Polars only; a LazyFrame is refused.
        embeddings: one row per text that has a vector: the id column under the same name, and
            embedding (List or Array of numbers). A row without one, or with one that has no
            direction (zeros, NaN), is in no semantic pair; nor are two of different lengths.
        thresholds: where each layer sets its threshold; default: `Thresholds()`.
        id: the column of ids: String or whole numbers, each once, no null.
        text: the column of texts: String, no null. None: no words are compared.
        rank: a column; rows with lower values are kept first. No null.
        quality: a column of numbers; of one rank, the higher is kept. Null counts as 0.
        keys: columns whose equal values make two rows duplicates, whatever their texts say, as
            ("url",). A null is like nothing. A removed row names the column as its layer.
        compare_from: the Jaccard similarity from which pairs are searched for. Below the threshold,
            it lets `Duplicates.rethreshold` go down to it.
        comparison: how pairs are found, in place of `compare_from`; default: exactly, and no more
            than the thresholds need.
        resources: memory, threads and progress.

    Returns:
        The rows that stay, the rows that go, and why; see `Duplicates`.

    Raises:
        SettingsError: the comparison would not find all that the thresholds ask for.
        MemoryLimitError: one row is similar to more kept rows than fit into the memory.
        TypeError: a table is not a polars.DataFrame, or thresholds are no Thresholds.
        ValueError: a column is missing, has a null or another type, or an id occurs twice.
    """
    if not isinstance(thresholds, Thresholds | None):
        message = f"thresholds is {thresholds!r}; give Thresholds(jaccard=0.8, cosine=None)"
        raise TypeError(message)
    resources, thresholds = resources or Resources(), thresholds or Thresholds()
    comparison = _choose_comparison(thresholds, comparison, compare_from)
    columns = name_columns(texts, Columns(id, text, rank, quality, name_keys(keys)))
    rows = read_table(texts, columns)
    vectors = read_embeddings(embeddings, columns, rows.schema["id"])
    exact_keys = find_exact_keys(rows["id"], texts.select(columns.keys))
    prepared = prepare_texts(rows, vectors, comparison, resources)
    pairs: pl.DataFrame | None = None
    with suppress(MemoryLimitError):  # templates: the decision finds the pairs that it needs
        pairs = find_pairs(prepared, comparison, resources)
    table = ComparedTable(texts, columns, prepared, pairs, exact_keys, comparison, resources)
    return table.decide(thresholds)


def _choose_comparison(
    thresholds: Thresholds, comparison: Comparison | None, compare_from: float | None
) -> Comparison:
    """Return the comparison that was asked for, once it is sure to find what the thresholds need.

    Raises:
        SettingsError: it does not, or it was asked for in two ways.
    """
    if comparison is None:
        least = 1.0 if compare_from is None else read_jaccard("compare_from", compare_from)
        return Comparison.for_thresholds(thresholds, store_pairs_from=least)
    if compare_from is not None:
        message = "comparison and compare_from both say which pairs are searched for: give one"
        raise SettingsError(message)
    comparison.check_finds(thresholds)
    return comparison
