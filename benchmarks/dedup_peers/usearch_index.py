# /// script
# requires-python = ">=3.11"
# dependencies = ["usearch==2.26.6", "numpy==2.4.6"]
# ///
"""usearch, exact or by its HNSW graph with its defaults; both give the nearest 64, not a range."""

import numpy as np
import numpy.typing as npt
from adapter import THREADS, Job, Matches, run_on_vectors
from usearch.index import Index, MetricKind, search

NEAREST = 64
"""More than the largest planted group has; a range search is not offered."""


def find(vectors: npt.NDArray[np.float32], job: Job) -> Matches:
    """The neighbours that are near enough."""
    if job.variant == "exact":
        matches = search(vectors, vectors, NEAREST, MetricKind.Cos, exact=True, threads=THREADS)
    else:
        index = Index(ndim=vectors.shape[1], metric=MetricKind.Cos)
        index.add(np.arange(len(vectors)), vectors, threads=THREADS)
        matches = index.search(vectors, NEAREST, threads=THREADS)
    is_near = np.asarray(matches.distances) <= 1 - job.threshold
    is_near &= np.arange(is_near.shape[1]) < np.asarray(matches.counts)[:, None]
    first, place = np.nonzero(is_near)
    second = np.asarray(matches.keys)[first, place].astype(np.int64)
    return Matches(pairs=np.stack([first, second], axis=1)[first != second])


if __name__ == "__main__":
    run_on_vectors(find)
