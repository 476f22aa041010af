"""Search a block of rows for what is similar to it: within the block, and among the rows kept."""

import numpy as np
import polars as pl
from numpy.typing import NDArray

from persona_pipeline.dedup.comparison import PreparedTexts, with_scores, word_set_pairs
from persona_pipeline.dedup.resolve import PAIRS
from persona_pipeline.dedup.resources import Resources
from persona_pipeline.dedup.rules import TOLERANCE, Comparison, Thresholds
from persona_pipeline.dedup.vectors.search import (
    TextVectors,
    allocate_rows,
    similar_texts,
    train_index,
)
from persona_pipeline.dedup.words.join import KeyedSets, are_among


class BlockSearch:
    """The layers in which a block is searched; each remembers which rows were kept."""

    def __init__(
        self,
        prepared: PreparedTexts,
        comparison: Comparison,
        thresholds: Thresholds,
        resources: Resources,
    ) -> None:
        """Search for what these thresholds need, as this comparison finds it."""
        self._layers = list[_SetSearch | _VectorSearch]()
        if len(prepared.sets.keys):
            needed = _needed(comparison, thresholds)
            self._layers.append(_SetSearch(prepared, needed, resources))
        if comparison.min_cosine is not None and thresholds.cosine is not None:
            cosines = (comparison.min_cosine, thresholds.cosine)
            self._layers += [_VectorSearch(each, cosines, resources) for each in prepared.vectors]

    def pairs(self, block: pl.DataFrame) -> pl.DataFrame:
        """Return the `PAIRS` of which one is in the block, the other too or kept.

        Raises:
            MemoryLimitError: there are more than fit into the memory.
        """
        matches = [layer.pairs(block) for layer in self._layers]
        return pl.concat([pl.DataFrame(schema=PAIRS), *matches])

    def keep(self, rows: pl.DataFrame) -> None:
        """Compare later blocks with these rows, too."""
        for layer in self._layers:
            layer.keep(rows)


def _needed(comparison: Comparison, thresholds: Thresholds) -> Comparison:
    """Return the comparison without the pairs below the thresholds: nothing is decided by them.

    MinHash chooses its bands by the similarity searched from, so another one finds other pairs.
    """
    least = Comparison.for_thresholds(thresholds).min_jaccard
    if comparison.method != "exact" or least <= comparison.min_jaccard:
        return comparison
    return Comparison(least, comparison.min_cosine, comparison.has_scores, comparison.method)


class _SetSearch:
    """Pairs of word sets."""

    def __init__(
        self, prepared: PreparedTexts, comparison: Comparison, resources: Resources
    ) -> None:
        self._all, self._texts = prepared.sets, prepared.texts
        self._comparison, self._resources = comparison, resources
        self._is_kept = np.zeros(len(self._all.keys), np.bool_)
        self._kept = list[KeyedSets]()

    def pairs(self, block: pl.DataFrame) -> pl.DataFrame:
        """Return the pairs of the block's sets; one that was kept needs no pair: it is removed."""
        new = self._take(self._places(block))
        jaccard = word_set_pairs(new, self._kept, self._comparison, self._resources)
        return with_scores(jaccard, self._texts, self._comparison, self._resources)

    def keep(self, rows: pl.DataFrame) -> None:
        """Add the sets of these rows, with their join keys, to those kept."""
        places = self._places(rows)
        self._is_kept[places] = True
        kept = self._take(places)
        if self._comparison.joined_from is not None:
            kept = kept.with_join_keys(self._comparison.joined_from)
        if len(places):
            self._kept.append(kept)

    def _places(self, rows: pl.DataFrame) -> NDArray[np.int64]:
        """Return where the sets of these rows are that were not kept; a text may have none."""
        keys = np.unique(rows["set_key"].to_numpy())
        places = np.searchsorted(self._all.keys, keys[are_among(keys, self._all.keys)])
        return places[~self._is_kept[places]]

    def _take(self, places: NDArray[np.int64]) -> KeyedSets:
        return KeyedSets(self._all.keys[places], self._all.sets.take(places))


class _VectorSearch:
    """Pairs of vectors of one length. Those of the kept rows come first in a file of their own."""

    def __init__(
        self, vectors: TextVectors, cosines: tuple[float, float], resources: Resources
    ) -> None:
        """Search from the second cosine on; an index is trained for the first one."""
        trained, self._least = (cosine - TOLERANCE for cosine in cosines)
        self._all, self._resources = vectors, resources
        self._index = None if vectors.early.all() else train_index(vectors, trained)
        self._order = np.argsort(vectors.keys)
        self._is_kept = np.zeros(len(vectors.keys), np.bool_)
        self._kept = np.empty(0, np.int64)
        self._rows = allocate_rows(len(vectors.keys), vectors.rows.shape[1], vectors.folder)

    def pairs(self, block: pl.DataFrame) -> pl.DataFrame:
        """Return the pairs of the block's texts; one that was kept needs no pair: it is removed."""
        places = self._append(block)
        vectors = TextVectors(
            keys=self._all.keys[places],
            rows=self._rows[: len(places)],
            known=len(self._kept),
            early=self._all.early[places],
            folder=self._all.folder,
        )
        return similar_texts(vectors, self._least, self._resources, self._index)

    def keep(self, rows: pl.DataFrame) -> None:
        """Add the vectors of these rows to those kept."""
        self._kept = self._append(rows)
        self._is_kept[self._kept] = True

    def _append(self, rows: pl.DataFrame) -> NDArray[np.int64]:
        """Write the vectors of these rows behind those kept; return the places of all."""
        keys, known = np.unique(rows["text_key"].to_numpy()), self._all.keys[self._order]
        places = self._order[np.searchsorted(known, keys[are_among(keys, known)])]
        places = places[~self._is_kept[places]]
        start = len(self._kept)
        self._rows[start : start + len(places)] = self._all.rows[places]
        return np.concatenate([self._kept, places])
