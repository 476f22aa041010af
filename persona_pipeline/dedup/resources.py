"""Bound what deduplication may take, and say what to do when that is not enough."""

from collections.abc import Callable
from dataclasses import dataclass

from persona_pipeline.errors import MemoryLimitError

PAIR_BYTES = 300
"""Bytes of a similar pair on its way from the join to the database: 8 million took 2.4 GB."""

MORE = "Set dedup_memory higher (in Python resources=Resources(memory_bytes=...))"

LEAST_MEMORY = 64_000_000
"""Bytes that it takes whatever is set: below some 4 MB, DuckDB cannot even begin."""


def no_report(_done: int, _total: int) -> None:
    """Report nothing."""


@dataclass(frozen=True, slots=True)
class Resources:
    """Memory and threads that a comparison may take, and whom it tells how far it is."""

    memory_bytes: int = 2_000_000_000
    threads: int = 2
    report: Callable[[int, int], object] = no_report
    """Called with the number of keys joined so far, and of all keys."""

    @property
    def most_pairs(self) -> int:
        """The number of similar pairs that fit into the memory."""
        return max(self.memory_bytes, LEAST_MEMORY) // PAIR_BYTES

    def check_vectors(self, count: int, length: int) -> None:
        """Check that `count` vectors of `length` float32 numbers fit twice into the memory.

        The farthest points are selected from copies.

        Raises:
            MemoryLimitError: they do not fit.
        """
        if 8 * count * length > max(self.memory_bytes, LEAST_MEMORY):
            msg = (
                f"to spread {count:,} vectors takes {8 * count * length / 1e9:.1f} GB, more than "
                f"a memory of {self.memory_bytes / 1e9:.1f} GB. {MORE}, or choose from fewer: give "
                "the selection lower thresholds, or take the first (method = 'first')"
            )
            raise MemoryLimitError(msg)

    def check_pairs(self, count: int, at_least: str) -> None:
        """Check that `count` pairs fit into the memory; `at_least` says which pairs.

        Raises:
            MemoryLimitError: they do not fit.
        """
        if count * PAIR_BYTES > max(self.memory_bytes, LEAST_MEMORY):
            msg = (
                f"over {count:,} pairs of texts have a {at_least}: more than fit into a memory "
                f"of {self.memory_bytes / 1e9:.1f} GB. {MORE}, or search for fewer pairs: higher "
                "thresholds, and a higher store_pairs_from (in Python compare_from). Most pairs "
                "come from a few templates that differ in a word"
            )
            raise MemoryLimitError(msg)
