"""What is asked of deduplication: which pairs are looked for, and which of them are duplicates."""

from dataclasses import dataclass
from typing import Final, Literal, get_args

from persona_pipeline.errors import SettingsError, unknown_choice
from persona_pipeline.hashing import versioned_text

TOLERANCE: Final = 1e-9
"""A similarity is at the threshold from this far below it: a float may fall short of 0.9."""
FUZZY_FROM: Final = 0.7
"""Jaccard similarity from which on a second opinion is asked: at 12 words, one of them replaced
gives 0.846, two give 0.714."""
Method = Literal["exact", "minhash128", "minhash128-verified"]


@dataclass(frozen=True, slots=True)
class Thresholds:
    """From where on two are duplicates (arXiv 2406.20094, section 2.3); None: not asked."""

    jaccard: float = 0.9
    """Surface layer: words in common / words in either."""
    cosine: float | None = 0.9
    """Semantic layer: of the angle between the embeddings."""
    fuzzy: float | None = None
    """Second opinion below the Jaccard threshold: rapidfuzz's ratio of the sorted words, of 100."""

    def __post_init__(self) -> None:
        """Turns away what no similarity could be compared with."""
        most = {"jaccard": 1, "cosine": 1, "fuzzy": 100}
        for name, limit in most.items():
            value: float | None = getattr(self, name)
            if value is not None and not TOLERANCE < value <= limit:
                message = f"threshold {name} is {value}; give a number above 0 and up to {limit}"
                raise SettingsError(message)
        if self.fuzzy is not None and self.fuzzy <= 1:
            asked = f"{self.fuzzy:g}, and counts to 100: {self.fuzzy * 100:g}?"
            message = f"threshold fuzzy (setting fuzzy_threshold) is {asked}"
            raise SettingsError(message)

    def version_text(self) -> str:
        """Spell what `runs.resolved` hashes; another meaning of a field takes another number."""
        fields = {"jaccard": self.jaccard, "cosine": self.cosine, "fuzzy": self.fuzzy}
        return versioned_text("Thresholds", 1, fields)


@dataclass(frozen=True, slots=True)
class Comparison:
    """What pairs are looked for; thresholds choose among them, again and again, without a new join.

    `min_jaccard`, `min_cosine`: pairs from here on; None: no semantic layer. `has_scores`: with the
    fuzzy second opinion. `method`: exact, or the report's MinHash of 128 hashes, which misses some
    pairs and guesses the similarity; `minhash128-verified` computes it.
    """

    min_jaccard: float = 0.9
    min_cosine: float | None = 0.9
    has_scores: bool = False
    method: Method = "exact"

    def __post_init__(self) -> None:
        """Turns away a method that there is not."""
        if self.method not in get_args(Method):
            raise SettingsError(unknown_choice("method", self.method, get_args(Method)))

    def version_text(self) -> str:
        """Spell what `runs.compared` hashes; another meaning of a field takes another number."""
        fields = {
            "min_jaccard": self.min_jaccard,
            "min_cosine": self.min_cosine,
            "has_scores": self.has_scores,
            "method": self.method,
        }
        return versioned_text("Comparison", 1, fields)

    def check_finds(self, thresholds: Thresholds) -> None:
        """That no pair is left out that these thresholds ask for.

        Raises:
            SettingsError: some are.
        """
        needed = Comparison.for_thresholds(thresholds, method=self.method)
        cosines = (self.min_cosine, needed.min_cosine)
        if (
            self.min_jaccard > needed.min_jaccard
            or needed.has_scores > self.has_scores
            or (cosines[1] is not None and (cosines[0] is None or cosines[0] > cosines[1]))
        ):
            message = f"{self} finds less than {thresholds} asks for; at least {needed}"
            raise SettingsError(message)

    @property
    def joined_from(self) -> float | None:
        """The Jaccard similarity from which on sets are joined exactly; None: they are not."""
        return self.min_jaccard - TOLERANCE if self.method == "exact" else None

    @staticmethod
    def for_thresholds(
        thresholds: Thresholds, store_pairs_from: float = 1.0, method: Method = "exact"
    ) -> "Comparison":
        """The least that these thresholds need, and pairs from `store_pairs_from` on in any case."""
        has_scores = thresholds.fuzzy is not None
        least = min(thresholds.jaccard, store_pairs_from, FUZZY_FROM if has_scores else 1.0)
        return Comparison(least, thresholds.cosine, has_scores, method)
