# /// script
# requires-python = ">=3.11"
# dependencies = ["datasketch==2.0.0"]
# ///
"""datasketch's MinHashLSH with its defaults: a row that finds another in the index is dropped."""

from adapter import PERMUTATIONS, Job, Matches, iter_words, run_on_texts
from datasketch import MinHash, MinHashLSH


def find(texts: list[str], job: Job) -> Matches:
    """Query, then insert what found nothing."""
    index = MinHashLSH(threshold=job.threshold, num_perm=PERMUTATIONS)
    words = ([word.encode() for word in row] for row in iter_words(texts))
    removed = []
    for number, sketch in enumerate(MinHash.generator(words, num_perm=PERMUTATIONS)):
        if index.query(sketch):
            removed.append(number)
        else:
            index.insert(number, sketch, check_duplication=False)
    return Matches(removed=removed)


if __name__ == "__main__":
    run_on_texts(find)
