"""Check a caller's table, and bring its columns to the names that the engine works with."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import polars as pl

from persona_pipeline.errors import tell_renamed, unknown_choice

LOG = logging.getLogger(__name__)
LAYERS: Final = ("exact", "jaccard", "fuzzy", "semantic")
"""The layers that are always there; each exact key is one more."""
REMOVED: Final = ("kept_id", "layer", "similarity", "threshold", "fuzzy_score")
"""The columns that a removed row has beside its id."""
RESERVED: Final = (*REMOVED, "removed_text")
"""The columns that a table of the result has beside the id."""
OLD_ID, OLD_TEXT = "persona_id", "persona"
OLD_RANK, OLD_QUALITY = "shard_number", "quality"
"""What the columns were called before they could be named."""


@dataclass(frozen=True, slots=True)
class Columns:
    """What the columns of a caller's table are called; None: there is none."""

    id: str
    text: str | None
    rank: str | None = None
    quality: str | None = None
    keys: tuple[str, ...] = ()


def name_keys(keys: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the key columns, each once.

    Raises:
        TypeError: they are no names.
    """
    listed = (keys,) if isinstance(keys, str) else keys
    if not isinstance(listed, Sequence) or not all(isinstance(name, str) for name in listed):
        message = f"keys is {keys!r}; give names of columns, as ('url',)"
        raise TypeError(message)
    return tuple(dict.fromkeys(listed))


def name_columns(texts: pl.DataFrame, names: Columns) -> Columns:
    """Return the names, or the old ones where the caller named none and the table has those.

    Raises:
        TypeError: the table is not a Polars DataFrame.
    """
    check_frame(texts, "texts")
    columns = set(texts.columns)
    is_old = (names.id, names.text) == ("id", "text") and {OLD_ID, OLD_TEXT} <= columns
    if not is_old or columns & {"id", "text"}:
        return names
    tell_renamed(
        "the table of persona_id and persona that find_duplicates takes",
        "a table of id and text (or id='persona_id', text='persona')",
    )
    rank, quality = (name if name in columns else None for name in (OLD_RANK, OLD_QUALITY))
    return Columns(OLD_ID, OLD_TEXT, names.rank or rank, names.quality or quality, names.keys)


def read_table(texts: pl.DataFrame, names: Columns) -> pl.DataFrame:
    """Return the rows as id, rank and quality, with text if it is named, in the caller's order.

    Raises:
        ValueError: a column is missing, has a null or another type, or an id occurs twice.
    """
    if names.id is None:
        message = "id is None: every row needs an id; texts.with_row_index('id') numbers them"
        raise ValueError(message)
    used = {"id": names.id, "text": names.text, "rank": names.rank, "quality": names.quality}
    named = {parameter: name for parameter, name in used.items() if name is not None}
    for parameter, name in [*named.items(), *(("keys", key) for key in names.keys)]:
        _check_column(texts, parameter, name)
    _check_id(texts[names.id], "texts")
    _check_reserved(names)
    rows = texts.select(pl.col(names.id).alias("id"), _rank(texts, names.rank))
    if names.text is not None:
        rows = rows.with_columns(text=_text(texts[names.text]))
    if names.quality is not None:
        rows = rows.with_columns(quality=_number(texts[names.quality]))
    return rows


def read_embeddings(
    embeddings: pl.DataFrame | None, names: Columns, ids: pl.DataType
) -> pl.DataFrame | None:
    """Return id and embedding (List of Float32) of a caller's vectors.

    Raises:
        ValueError: a column is missing, has a null or another type, or an id occurs twice.
    """
    if embeddings is None:
        return None
    check_frame(embeddings, "embeddings")
    for name in (names.id, "embedding"):
        if name not in embeddings.columns:
            known = ", ".join(embeddings.columns)
            message = f"embeddings have no column {name!r}, only {known}: rename yours"
            raise ValueError(message)
    own = embeddings[names.id]
    _check_id(own, "embeddings")
    if own.dtype != ids and len(own):
        message = f"column {names.id!r} is {own.dtype} in embeddings and {ids} in texts: cast one"
        raise ValueError(message)
    vectors = _vectors(embeddings["embedding"])
    return embeddings.select(pl.col(names.id).cast(ids).alias("id"), vectors)


def _vectors(column: pl.Series) -> pl.Series:
    """Return lists of Float32; warn of vectors that will be like nothing."""
    kind = column.dtype
    inner = kind.inner if isinstance(kind, pl.List | pl.Array) else None
    if len(column) and kind != pl.Null and not (inner is not None and inner.is_numeric()):
        message = f"column 'embedding' of embeddings is {kind}: give a List or Array of numbers"
        raise ValueError(message)
    vectors = _not_null(column, "embeddings").cast(pl.List(pl.Float32))
    is_number = pl.element().is_finite().fill_null(value=False)
    usable = vectors.list.eval(is_number.all() & (pl.element() != 0).any()).list.first()
    if unusable := len(vectors) - usable.sum():
        LOG.warning(
            "%d of %d vectors have no direction (zeros, or no finite number): they are in no pair",
            *(unusable, len(vectors)),
        )
    if (lengths := vectors.list.len().n_unique()) > 1:
        LOG.warning("vectors of %d lengths: a cosine is taken of two of one length only", lengths)
    return vectors


def check_frame(frame: object, name: str) -> None:
    """Check that this is a Polars DataFrame.

    Raises:
        TypeError: it is not; the message says how to make one of it.
    """
    if isinstance(frame, pl.DataFrame):
        return
    kind = f"{type(frame).__module__.partition('.')[0]}.{type(frame).__name__}"
    remedy = {
        "polars.LazyFrame": "call .collect() first",
        "pandas.DataFrame": f"pass pl.from_pandas({name})",
    }.get(kind, "pass a table of one row per text")
    message = f"{name} is a {kind}, not a polars.DataFrame: {remedy}"
    raise TypeError(message)


def _check_column(texts: pl.DataFrame, parameter: str, name: str) -> None:
    if name in texts.columns:
        if name.startswith("^") and name.endswith("$"):
            message = f"the column {name!r} has a name that Polars takes for a pattern: rename it"
            raise ValueError(message)
        return
    unknown = unknown_choice(f"column (parameter {parameter})", name, texts.columns)
    message = f"{unknown}; name one of the table's columns: find_duplicates(..., {parameter}=...)"
    raise ValueError(message)


def _check_id(ids: pl.Series, table: str) -> None:
    """Check that each row has one id of its own, a text or a whole number."""
    if len(ids) and not (ids.dtype == pl.String or ids.dtype.is_integer()):
        message = (
            f"column {ids.name!r} of {table} is {ids.dtype}: an id is a text or a whole number;"
            f" cast it, as in pl.col({ids.name!r}).cast(pl.String)"
        )
        raise ValueError(message)
    _not_null(ids, table)
    repeated = ids.filter(ids.is_duplicated())
    if len(repeated):
        message = (
            f"{table} have more than one row with {ids.name} {repeated[0]!r}: give each row an id"
            f" of its own, or keep the first with .unique({ids.name!r}, maintain_order=True)"
        )
        raise ValueError(message)


def _check_reserved(names: Columns) -> None:
    if names.id in RESERVED:
        message = (
            f"the id column is called {names.id!r}, as a column of the result"
            f" ({', '.join(RESERVED)}): rename it"
        )
        raise ValueError(message)
    taken = [name for name in names.keys if name in LAYERS]
    if taken:
        message = (
            f"the key column {taken[0]!r} is called like a layer ({', '.join(LAYERS)}): rename it,"
            " since a removed row names the layer that removed it"
        )
        raise ValueError(message)


def _text(texts: pl.Series) -> pl.Series:
    if texts.dtype != pl.String and len(texts):
        message = (
            f"column {texts.name!r} of texts is {texts.dtype}, not String: cast it, as in"
            f" pl.col({texts.name!r}).cast(pl.String)"
        )
        raise ValueError(message)
    return _not_null(texts, "texts").cast(pl.String)


def _rank(texts: pl.DataFrame, name: str | None) -> pl.Expr:
    """Return whole numbers in the order of the column; without one, all rows rank alike."""
    if name is None:
        return pl.lit(0, pl.Int64).alias("rank")
    return pl.lit(_not_null(texts[name], "texts").rank("dense").cast(pl.Int64)).alias("rank")


def _number(numbers: pl.Series) -> pl.Series:
    if not (numbers.dtype.is_numeric() or numbers.dtype in {pl.Boolean, pl.Null}):
        message = f"column {numbers.name!r} of texts is {numbers.dtype}, not a number: cast it"
        raise ValueError(message)
    return numbers.cast(pl.Float64)


def _not_null(column: pl.Series, table: str) -> pl.Series:
    if column.null_count():
        row = column.is_null().arg_max()
        message = (
            f"{table} have a null in column {column.name!r}, first in row {row} (from 0): fill it,"
            f" or leave such rows out with .drop_nulls({column.name!r})"
        )
        raise ValueError(message)
    return column
