# /// script
# requires-python = ">=3.11"
# dependencies = ["gaoya==0.2.2"]
# ///
"""gaoya's MinHash index on its own word analyzer: insert all, query all, in native threads."""

from adapter import PERMUTATIONS, Job, Matches, run_on_texts
from gaoya.minhash import MinHashStringIndex


def find(texts: list[str], job: Job) -> Matches:
    """All pairs; the caller decides which row of a pair stays."""
    index = MinHashStringIndex(
        hash_size=32,
        jaccard_threshold=job.threshold,
        num_bands=None,
        band_size=None,
        num_hashes=PERMUTATIONS,
        analyzer="word",
        lowercase=True,
        ngram_range=(1, 1),
        id_container="smallvec",
    )
    index.par_bulk_insert_docs(list(range(len(texts))), texts)
    answers = index.par_bulk_query(texts)
    pairs = [(number, other) for number, row in enumerate(answers) for other in row]
    return Matches(pairs=[pair for pair in pairs if pair[0] < pair[1]])


if __name__ == "__main__":
    run_on_texts(find)
