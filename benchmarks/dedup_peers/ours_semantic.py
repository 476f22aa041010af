"""Ours: similar vectors, all pairs exactly or by an IVF index."""

import numpy as np
import numpy.typing as npt
from adapter import Job, Matches, run_on_vectors

from persona_pipeline.dedup.vectors.exact import similar_pairs
from persona_pipeline.dedup.vectors.ivf import ivf_pairs, train_ivf


def find(vectors: npt.NDArray[np.float32], job: Job) -> Matches:
    """The semantic layer's own searches; the index is trained on all vectors."""
    if job.variant == "ivf":
        index = train_ivf(vectors, job.threshold)
        first, second, _ = ivf_pairs(vectors, job.threshold, index)
    else:
        first, second, _ = similar_pairs(vectors, job.threshold)
    return Matches(pairs=zip(first.tolist(), second.tolist(), strict=True))


if __name__ == "__main__":
    run_on_vectors(find)
