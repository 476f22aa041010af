"""Ours: all pairs of similar vectors."""

import numpy as np
import numpy.typing as npt
from adapter import Found, Job, run_on_vectors

from persona_pipeline.dedup import semantic


def find(vectors: npt.NDArray[np.float32], job: Job) -> Found:
    """The semantic layer's own search."""
    first, second, _ = semantic.similar_pairs(vectors, job.threshold)
    return Found(pairs=zip(first.tolist(), second.tolist(), strict=True))


if __name__ == "__main__":
    run_on_vectors(find)
