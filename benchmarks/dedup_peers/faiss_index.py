# /// script
# requires-python = ">=3.11"
# dependencies = ["faiss-cpu==1.15.1", "numpy==2.4.6"]
# ///
"""faiss by range search: the flat index, exact, or inverted lists of which 16 are looked at."""

from collections.abc import Iterator
from math import isqrt

import faiss
import numpy as np
import numpy.typing as npt
from adapter import THREADS, Job, Matches, run_on_vectors

PROBES = 16
QUERIES = 8192

Vectors = npt.NDArray[np.float32]


def find(vectors: Vectors, job: Job) -> Matches:
    """All pairs within the range."""
    faiss.omp_set_num_threads(THREADS)
    index = build_lists(vectors) if job.variant == "ivf" else faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    blocks = [np.empty((0, 2), np.int64), *iter_pairs(index, vectors, job.threshold)]
    return Matches(pairs=np.concatenate(blocks))


def build_lists(vectors: Vectors) -> faiss.Index:
    """The number of lists that faiss's guidelines give for fewer than a million vectors."""
    rows, dimensions = vectors.shape
    lists = min(4 * isqrt(rows), rows // 39 or 1)
    quantizer = faiss.IndexFlatIP(dimensions)
    index = faiss.IndexIVFFlat(quantizer, dimensions, lists, faiss.METRIC_INNER_PRODUCT)
    index.nprobe = PROBES
    index.train(vectors)
    return index


def iter_pairs(
    index: faiss.Index, vectors: Vectors, threshold: float
) -> Iterator[npt.NDArray[np.int64]]:
    """Pairs in blocks of queries, so that the answers fit into memory."""
    for start in range(0, len(vectors), QUERIES):
        limits, _, second = index.range_search(vectors[start : start + QUERIES], threshold)
        first = start + np.repeat(np.arange(len(limits) - 1), np.diff(limits.astype(np.int64)))
        yield np.stack([first, second], axis=1)[first < second]


if __name__ == "__main__":
    run_on_vectors(find)
