# /// script
# requires-python = ">=3.11"
# dependencies = ["rensa==0.5.0"]
# ///
"""rensa: the deduplicator of its README, the same with more bands, or its benchmark's sampling."""

from adapter import PERMUTATIONS, Job, Matches, iter_words, run_on_texts
from rensa import RMinHash, RMinHashDeduplicator, RMinHashLSH

SEED = 42
RHO_BANDS = 8
"""Of its benchmark; it wants a divisor of the permutations."""
HIGH, TUNED_BANDS = 0.8, 16
"""At 0.9 its own choice leaves 615 of 9,697 pairs, 16 bands 117, and more bands no fewer. At 0.7
and 0.5 its own choice is best: 32 bands cost 20 times the time on 200,000 rows."""


def find(texts: list[str], job: Job) -> Matches:
    """The row numbers that each way drops."""
    flags = flag_by_rho(texts, job) if job.variant == "rho" else flag_by_deduplicator(texts, job)
    return Matches(removed=[number for number, is_duplicate in enumerate(flags) if is_duplicate])


def flag_by_deduplicator(texts: list[str], job: Job) -> list[bool]:
    """Candidates by bands, checked against the sketches."""
    bands = TUNED_BANDS if job.variant == "tuned" and job.threshold > HIGH else None
    deduplicator = RMinHashDeduplicator(
        job.threshold, PERMUTATIONS, use_lsh=True, num_bands=bands, seed=SEED
    )
    kept = deduplicator.add_pairs((str(n), words) for n, words in enumerate(iter_words(texts)))
    return [not is_kept for is_kept in kept]


def flag_by_rho(texts: list[str], job: Job) -> list[bool]:
    """One pass over a matrix of sketches of sampled words."""
    matrix = RMinHash.digest_matrix_from_token_sets_rho(list(iter_words(texts)), PERMUTATIONS, SEED)
    index = RMinHashLSH(job.threshold, PERMUTATIONS, RHO_BANDS)
    flags: list[bool] = index.query_duplicate_flags_matrix_one_shot(matrix)
    return flags


if __name__ == "__main__":
    run_on_texts(find)
