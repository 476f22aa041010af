"""Show which words of two texts differ, as the tokenizer sees words."""

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import NamedTuple

from persona_pipeline.dedup.words.characters import CASED, GAP, IGNORED, SPACELESS, load_characters


class Word(NamedTuple):
    """A word as it is compared, and the characters of the text that it was cut from."""

    word: str
    start: int
    end: int


class Piece(NamedTuple):
    """A part of a text, from a word on or between words."""

    text: str
    is_different: bool


@dataclass(frozen=True, slots=True)
class Differences:
    """Two texts in pieces; put together again, the pieces of a text are the text."""

    first: list[Piece]
    second: list[Piece]
    shared_count: int
    """Distinct words that both texts have."""
    first_count: int
    """Distinct words that only the first text has."""
    second_count: int
    """Distinct words that only the second text has."""

    @property
    def total_count(self) -> int:
        """Distinct words of either text."""
        return self.shared_count + self.first_count + self.second_count

    @property
    def jaccard(self) -> float:
        """Similarity of the word sets; 1 where there are no words."""
        return self.shared_count / self.total_count if self.total_count else 1.0


def compare_words(first: str, second: str) -> Differences:
    """Return the words of each text that the other one lacks, wherever they stand."""
    texts = [unicodedata.normalize("NFC", text) for text in (first, second)]
    words = [list(cut_words(text)) for text in texts]
    own, other = ({word.word for word in matches} for matches in words)
    return Differences(
        first=_pieces(texts[0], words[0], own - other),
        second=_pieces(texts[1], words[1], other - own),
        shared_count=len(own & other),
        first_count=len(own - other),
        second_count=len(other - own),
    )


def cut_words(text: str) -> Iterator[Word]:
    """Return the words of an NFC text, in order.

    A run of a script without spaces gives pairs of neighbouring characters, which overlap.
    """
    classes, lower = load_characters()
    points = [int(lower[ord(sign)]) if ord(sign) < CASED else ord(sign) for sign in text]
    kinds = [int(classes[point]) for point in points]
    seen = [place for place, kind in enumerate(kinds) if kind != IGNORED]
    for kind, run in groupby(seen, kinds.__getitem__):
        places = list(run)
        is_cut = kind == SPACELESS and len(places) > 1
        for parts in pairwise(places) if is_cut else [places]:
            if kind != GAP:
                word = "".join(chr(points[place]) for place in parts)
                yield Word(word, parts[0], parts[-1] + 1)


def _pieces(text: str, words: list[Word], different: set[str]) -> list[Piece]:
    """Cut the text where words that differ begin and end; neighbouring ones are one piece."""
    marks = [False] * len(text)
    is_open, last = False, 0
    for word, start, end in words:
        differs = word in different
        if differs:
            begin = last if is_open else start
            marks[begin:end] = [True] * (end - begin)
        is_open, last = differs, end
    return [
        Piece("".join(text[place] for place in places), differs)
        for differs, places in groupby(range(len(text)), marks.__getitem__)
    ]
