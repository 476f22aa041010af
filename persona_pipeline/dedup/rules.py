"""Say which pairs are searched for, and which of them are duplicates."""

from dataclasses import dataclass
from numbers import Real
from typing import Final, Literal, get_args

from persona_pipeline.errors import SettingsError, unknown_choice
from persona_pipeline.hashing import versioned_text

TOLERANCE: Final = 1e-9
"""How far below a threshold a similarity still counts: a float may fall short of 0.9."""
LEAST_JACCARD: Final = 0.01
"""The lowest Jaccard similarity that is searched for. A set of n words may then be like sets of up
to 100 n words, whose numbers are walked through: 300 texts took 0.6 s, and 25 s from 1e-6 on."""
FUZZY_FROM: Final = 0.7
"""Jaccard similarity from which spelling is compared: of 12 words, one replaced gives 0.846, two
give 0.714."""
Method = Literal["exact", "minhash128", "minhash128-verified"]


def read_number(name: str, value: object) -> float:
    """Return the number as a Python float, also one of numpy.

    Raises:
        TypeError: it is no number; the message says whose value it is.
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        message = f"{name} is {value!r}; give a number, such as 0.9"
        raise TypeError(message)
    is_of_numpy = type(value).__module__ == "numpy"  # float32(0.8) is 0.8, not 0.800000012
    return float(str(value)) if is_of_numpy else float(value)


def read_jaccard(name: str, value: object) -> float:
    """Return a Jaccard similarity that can be searched for.

    Raises:
        SettingsError: it is not from 0.01 to 1; the message says whose value it is.
        TypeError: it is not a number.
    """
    number = read_number(name, value)
    if not LEAST_JACCARD <= number <= 1:
        message = f"{name} is {number}; give a number from {LEAST_JACCARD} to 1"
        raise SettingsError(message)
    return number


@dataclass(frozen=True, slots=True)
class Thresholds:
    """The similarity from which two texts are duplicates, per layer; None: the layer is off.

    The defaults are those of arXiv 2406.20094, section 2.3.
    """

    jaccard: float = 0.9
    """Jaccard layer: distinct words in both texts / distinct words in either, 0.01 to 1."""
    cosine: float | None = 0.9
    """Semantic layer: cosine of the angle between the embeddings, above 0 up to 1."""
    fuzzy: float | None = None
    """Fuzzy layer, below the Jaccard threshold and from 0.7 on: rapidfuzz's ratio of the sorted
    distinct words, above 1 up to 100."""

    def __post_init__(self) -> None:
        """Refuse a threshold that no similarity can meet."""
        object.__setattr__(self, "jaccard", read_jaccard("threshold jaccard", self.jaccard))
        for name, limit in {"cosine": 1, "fuzzy": 100}.items():
            if getattr(self, name) is None:
                continue
            value = read_number(f"threshold {name}", getattr(self, name))
            object.__setattr__(self, name, value)
            if not TOLERANCE < value <= limit:
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
    """Which pairs are searched for; thresholds choose among them without a new comparison."""

    min_jaccard: float = 0.9
    """The Jaccard similarity from which pairs of word sets are searched for."""
    min_cosine: float | None = 0.9
    """The cosine from which pairs of embeddings are searched for; None: none are."""
    has_scores: bool = False
    """Whether pairs of word sets have a fuzzy score."""
    method: Method = "exact"
    """exact, or the MinHash of 128 hashes of the Persona Hub report, which misses some pairs and
    estimates the similarity; `minhash128-verified` computes it."""

    def __post_init__(self) -> None:
        """Refuse an unknown method, and a similarity that is not searched for."""
        object.__setattr__(self, "min_jaccard", read_jaccard("min_jaccard", self.min_jaccard))
        if self.min_cosine is not None:
            cosine = read_number("min_cosine", self.min_cosine)
            object.__setattr__(self, "min_cosine", cosine)
            if not -1 <= cosine <= 1:
                message = f"min_cosine is {cosine}; give a number from -1 to 1"
                raise SettingsError(message)
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
        """Check that no pair is left out that these thresholds ask for.

        Raises:
            SettingsError: some are left out.
        """
        needed = Comparison.for_thresholds(thresholds, method=self.method)
        cosines = (self.min_cosine, needed.min_cosine)
        if (
            self.min_jaccard > needed.min_jaccard
            or needed.has_scores > self.has_scores
            or (cosines[1] is not None and (cosines[0] is None or cosines[0] > cosines[1]))
        ):
            message = f"{self} finds less than {thresholds} asks for: compare with {needed}"
            raise SettingsError(message)

    @property
    def joined_from(self) -> float | None:
        """The Jaccard similarity from which sets are joined exactly; None: by MinHash."""
        return self.min_jaccard - TOLERANCE if self.method == "exact" else None

    @staticmethod
    def for_thresholds(
        thresholds: Thresholds, store_pairs_from: float = 1.0, method: Method = "exact"
    ) -> "Comparison":
        """Return what these thresholds need, with pairs from `store_pairs_from` on at least."""
        has_scores = thresholds.fuzzy is not None
        least = min(thresholds.jaccard, store_pairs_from, FUZZY_FROM if has_scores else 1.0)
        return Comparison(least, thresholds.cosine, has_scores, method)
