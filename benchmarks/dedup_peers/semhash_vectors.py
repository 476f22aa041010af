# /// script
# requires-python = ">=3.11"
# dependencies = ["semhash==0.5.0", "numpy==2.4.6"]
# ///
"""semhash on vectors that are there already, with its default index; it answers with removals."""

import numpy as np
import numpy.typing as npt
from adapter import Job, Matches, run_on_vectors
from semhash import SemHash


class NoEncoder:
    """What `from_embeddings` wants beside the vectors; it is not asked."""

    def encode(self, inputs: list[str], **_: object) -> npt.NDArray[np.float32]:
        """Nothing is left to encode."""
        message = f"the vectors of {len(inputs)} texts were given"
        raise NotImplementedError(message)


def find(vectors: npt.NDArray[np.float32], job: Job) -> Matches:
    """Records are row numbers."""
    records = [str(number) for number in range(len(vectors))]
    index = SemHash.from_embeddings(vectors, records, model=NoEncoder())
    selected = index.self_deduplicate(threshold=job.threshold).selected
    return Matches(removed=set(range(len(vectors))).difference(map(int, selected)))


if __name__ == "__main__":
    run_on_vectors(find)
