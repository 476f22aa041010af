# /// script
# requires-python = ">=3.11,<3.12"
# dependencies = ["text-dedup==0.4.0"]
# ///
"""text-dedup's MinHash command, called in this process, on single words instead of 5-grams."""

from pathlib import Path
from tempfile import TemporaryDirectory

from adapter import PERMUTATIONS, THREADS, Job, Matches, run_on_texts
from datasets import Dataset, disable_progress_bars, load_from_disk
from text_dedup.minhash import main as deduplicate

disable_progress_bars()


def find(texts: list[str], job: Job) -> Matches:
    """Through the disk, as the command works; what is not in its output was removed."""
    with TemporaryDirectory(dir=job.work) as folder:
        source, target = Path(folder) / "source", Path(folder) / "target"
        numbers = list(range(len(texts)))
        Dataset.from_dict({"text": texts, "number": numbers}).save_to_disk(source)
        options = {
            "--path": source,
            "--output": target,
            "--column": "text",
            "--ngram": 1,
            "--min_length": 1,
            "--num_perm": PERMUTATIONS,
            "--threshold": job.threshold,
            "--num_proc": THREADS,
        }
        arguments = ["--local", *(str(part) for pair in options.items() for part in pair)]
        deduplicate.main(arguments, standalone_mode=False)
        kept = load_from_disk(target)["number"]
        return Matches(removed=sorted(set(numbers).difference(kept)))


if __name__ == "__main__":
    run_on_texts(find)
