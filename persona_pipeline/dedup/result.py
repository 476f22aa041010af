"""Say what is kept, what is removed, and why: the result of a deduplication."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from numbers import Integral
from typing import TYPE_CHECKING, Any, NamedTuple

import polars as pl

from persona_pipeline.dedup.blocks import resolve_in_blocks
from persona_pipeline.dedup.comparison import PreparedTexts, conflicting
from persona_pipeline.dedup.resolve import open_resolver
from persona_pipeline.dedup.resources import Resources
from persona_pipeline.dedup.rules import Comparison, Thresholds
from persona_pipeline.dedup.table import LAYERS, Columns
from persona_pipeline.errors import SettingsError, tell_renamed

NAMED = 3
"""Ids that a message names where an id is not known."""
MANY = 20_000
"""Ids above which only those with the same first two characters are near: all 200,000 take 4 s."""


@dataclass(frozen=True, slots=True, eq=False)
class ComparedTable:
    """A caller's table, and all that thresholds choose from: nothing here depends on them."""

    texts: pl.DataFrame
    columns: Columns
    prepared: PreparedTexts
    """The rows, and what they are compared by."""
    pairs: pl.DataFrame | None
    """Their similar pairs; None: these are too many, and are found again for each decision."""
    exact_keys: pl.DataFrame
    comparison: Comparison
    resources: Resources

    def decide(self, thresholds: Thresholds) -> "Duplicates":
        """Decide which rows stay at these thresholds.

        Raises:
            SettingsError: pairs that the thresholds ask for were not searched for.
        """
        self.comparison.check_finds(thresholds)
        removed = self._removed(thresholds).rename({"id": self.columns.id})
        kept = self.texts.join(removed, on=self.columns.id, how="anti", maintain_order="left")
        return Duplicates(kept, removed, thresholds, self)

    def _removed(self, thresholds: Thresholds) -> pl.DataFrame:
        if self.pairs is None:
            rules = (self.comparison, thresholds, self.resources, self.exact_keys)
            return resolve_in_blocks(self.prepared, *rules).removed
        similar = conflicting(self.prepared.fingerprints, self.pairs, self.exact_keys)
        with open_resolver(similar, self.pairs, self.resources, self.exact_keys) as resolver:
            return resolver.resolve(thresholds)


class Removal(NamedTuple):
    """Because of which row a row was removed, and by how much."""

    kept_id: str | int
    kept_text: str | None
    layer: str
    similarity: float
    """Jaccard similarity or cosine; 1 in the layer exact and of exact keys."""
    threshold: float
    fuzzy_score: float | None


@dataclass(frozen=True, slots=True, eq=False)
class Explanation:
    """Why a row was kept or removed; `str()` of it can be read."""

    id: str | int
    text: str | None
    """None: the table was compared without texts."""
    removal: Removal | None
    """None: the row is kept."""
    removed: pl.DataFrame
    """The rows that were removed because of this one: as `Duplicates.removed`, and removed_text."""

    @property
    def is_kept(self) -> bool:
        """Whether the row stays."""
        return self.removal is None

    def __str__(self) -> str:
        """Write the verdict, then each other row on a line of its own."""
        own = f"{self.id!r} ({self.text!r})" if self.text is not None else repr(self.id)
        if self.removal is None:
            count = len(self.removed)
            rows = "1 row was" if count == 1 else f"{count:,} rows were"
            verdict = f"{own} is kept; {rows} removed because of it"
            return "\n".join([verdict, *map(_line, self._others())])
        return f"{own} was removed because of\n{_line(self.removal._asdict())}"

    def _others(self) -> Iterator[dict[str, Any]]:
        """Return the rows that were removed because of this one, as a removal names its keeper."""
        for row in self.removed.iter_rows(named=True):
            name = next(iter(row))
            yield {**row, "kept_id": row[name], "kept_text": row.get("removed_text")}


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Duplicates:
    """Which rows of a table are duplicates of which; `len()` is the number of removed rows."""

    kept: pl.DataFrame
    """The rows that stay: all columns of the table, in its order."""
    removed: pl.DataFrame
    """One row per removed row, sorted by its id: the id column of the table under its own name,
    kept_id (the id of its keeper), layer (String), similarity (Jaccard or cosine, 0 to 1),
    threshold (of the layer) and fuzzy_score (0 to 100, null where none was computed)."""
    thresholds: Thresholds
    """What was decided with."""
    compared: ComparedTable = field(repr=False)
    """The table and its similar pairs."""

    __iter__ = None  # with __getitem__ below, Python would otherwise try rows by number

    def __bool__(self) -> bool:
        """Return True: a result without duplicates is a result."""
        return True

    def __len__(self) -> int:
        """Return the number of removed rows."""
        return len(self.removed)

    if not TYPE_CHECKING:  # a frame until 0.2, and usable as one until 0.3

        def __getattr__(self, name: str) -> object:
            """Return an attribute of the frame that `find_duplicates` returned before 0.2."""
            if name.startswith("_") or not hasattr(pl.DataFrame, name):
                message = f"Duplicates has no attribute {name!r}"
                raise AttributeError(message)
            tell_renamed("the frame that find_duplicates returned", "its attribute 'removed'")
            return getattr(self.removed, name)

        def __getitem__(self, column: str) -> pl.Series:
            """Return a column of that frame."""
            tell_renamed("the frame that find_duplicates returned", "its attribute 'removed'")
            return self.removed[column]

    def __str__(self) -> str:
        """Write how many rows each layer removed, as '12 of 200 removed: exact 3, jaccard 9'."""
        counts = dict(self.removed["layer"].value_counts().iter_rows())
        layers = [*self.compared.columns.keys, *LAYERS]
        listed = ", ".join(f"{name} {counts[name]:,}" for name in layers if name in counts)
        total = f"{len(self):,} of {len(self.compared.texts):,} removed"
        return f"{total}: {listed}" if listed else total

    def __repr__(self) -> str:
        """Write the same between angle brackets."""
        return f"<Duplicates: {self}>"

    def explain(self, id: str | int) -> Explanation:  # noqa: A002 - as the column is called
        """Return why the row with this id was kept or removed.

        Raises:
            ValueError: no row has this id; the message names those that are spelt like it.
        """
        name = self.compared.columns.id
        ids = self.compared.texts[name]
        kind = str if ids.dtype == pl.String else Integral
        if isinstance(id, bool) or not isinstance(id, kind) or id not in ids:
            raise ValueError(_unknown_id(ids, id))
        own = self.removed.filter(pl.col(name) == id)
        removal = None
        if len(own):
            row = own.drop(name).row(0, named=True)
            removal = Removal(**row, kept_text=self._text(row["kept_id"]))
        return Explanation(id, self._text(id), removal, self._removed_because_of(id))

    def rethreshold(self, thresholds: Thresholds | float) -> "Duplicates":
        """Decide again at other thresholds, from the same pairs: no text is compared again.

        If there were more pairs than fit into the memory, those that decide are searched for again.

        Args:
            thresholds: all thresholds, or the Jaccard threshold alone; the others stay then.

        Raises:
            SettingsError: the thresholds ask for pairs that were not searched for. The message
                says which `compare_from` finds them.
        """
        if not isinstance(thresholds, Thresholds):
            thresholds = replace(self.thresholds, jaccard=thresholds)
        try:
            return self.compared.decide(thresholds)
        except SettingsError as error:
            least = Comparison.for_thresholds(thresholds).min_jaccard
            compared = self.compared.comparison.min_jaccard
            if least >= compared:
                message = f"{error}. Call find_duplicates with these thresholds"
                raise SettingsError(message) from None
            message = (
                f"pairs were searched for from a Jaccard similarity of {compared:g} on, and"
                f" {thresholds} needs those from {least:g} on: call find_duplicates with"
                f" compare_from={least:g}; then no higher threshold needs a comparison"
            )
            raise SettingsError(message) from None

    def _text(self, row_id: str | int) -> str | None:
        columns, texts = self.compared.columns, self.compared.texts
        if columns.text is None:
            return None
        return str(texts.filter(pl.col(columns.id) == row_id)[columns.text].item())

    def _removed_because_of(self, row_id: str | int) -> pl.DataFrame:
        columns, texts = self.compared.columns, self.compared.texts
        theirs = self.removed.filter(pl.col("kept_id") == row_id)
        if columns.text is None:
            return theirs
        own = texts.select(pl.col(columns.id), removed_text=pl.col(columns.text))
        return theirs.join(own, on=columns.id, how="left", maintain_order="left")


def _line(row: Mapping[str, Any]) -> str:
    """Write one other row, its layer and its similarity."""
    score = f", fuzzy score {row['fuzzy_score']:.1f}" if row["fuzzy_score"] is not None else ""
    text = f" ({row['kept_text']!r})" if row["kept_text"] is not None else ""
    level = f"{row['layer']} {row['similarity']:.4g}, threshold {row['threshold']:g}"
    return f"  {row['kept_id']!r}{text}: {level}{score}"


def _unknown_id(ids: pl.Series, wanted: object) -> str:
    """Write that no row has this id, and which are near."""
    known = ids.cast(pl.String)
    if len(known) > MANY:
        known = known.filter(known.str.starts_with(str(wanted)[:2]))
    near = get_close_matches(str(wanted), known.to_list(), n=NAMED)
    if near:
        hint = f"did you mean {' or '.join(near)}?"
    else:
        first = ", ".join(map(repr, ids.head(NAMED)))
        hint = f"the first ids are {first}" if len(ids) else "the table has no rows"
    return f"no row has {ids.name} {wanted!r} (the column is {ids.dtype}); {hint}"
