# /// script
# requires-python = ">=3.11,<3.12"
# dependencies = ["datatrove[io,processing]==0.10.1", "spacy"]
# ///
"""datatrove's four MinHash stages, run one after the other in this process, on single words."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from adapter import Job, Matches, choose_bands, run_on_texts
from datatrove.data import Document
from datatrove.pipeline.dedup import (
    MinhashConfig,
    MinhashDedupBuckets,
    MinhashDedupCluster,
    MinhashDedupFilter,
    MinhashDedupSignature,
)
from loguru import logger

logger.remove()


def find(texts: list[str], job: Job) -> Matches:
    """Signatures, buckets, clusters, filter, each through a folder, as its example does."""
    bands, band_size = choose_bands(job.threshold)
    config = MinhashConfig(n_grams=1, num_buckets=bands, hashes_per_bucket=band_size)
    with TemporaryDirectory(dir=job.work) as folder:
        signatures, buckets, clusters = (str(Path(folder) / name) for name in "abc")
        MinhashDedupSignature(signatures, config).run(iter_documents(texts), 0, 1)
        for rank in range(bands):
            MinhashDedupBuckets(signatures, buckets, config=config).run(None, rank, bands)
        MinhashDedupCluster(buckets, clusters, config).run(None, 0, 1)
        passed = MinhashDedupFilter(clusters).run(iter_documents(texts), 0, 1)
        kept = {int(document.id) for document in passed}
    return Matches(removed=[number for number in range(len(texts)) if number not in kept])


def iter_documents(texts: list[str]) -> Iterator[Document]:
    """Ids are row numbers."""
    return (Document(text=text, id=str(number)) for number, text in enumerate(texts))


if __name__ == "__main__":
    run_on_texts(find)
