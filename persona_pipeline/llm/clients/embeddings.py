"""Embed texts in this process, with the embedded MiniLM or a fake."""

import random
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from persona_pipeline.hashing import stable_id
from persona_pipeline.llm.progress import stage_progress

BATCH = 64
MAX_TOKENS = 128
"""The length that all-MiniLM-L6-v2 was trained with. A persona takes about 30 tokens."""
FAKE_DIMENSIONS = 32

Vectors = npt.NDArray[np.float32]


class Embedder(Protocol):
    """Turn texts into unit vectors, one row per text."""

    model: str

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Return a float32 array of shape (texts, dimensions) with rows of length 1."""
        ...


class MiniLMEmbedder:
    """Run all-MiniLM-L6-v2 in int8 with onnxruntime: 384 dimensions, mean pooling."""

    def __init__(self, model: str, weights: Path, tokenizer: Path) -> None:
        """Load the ONNX file and its tokenizer. Nothing is downloaded from a hub."""
        import onnxruntime  # noqa: PLC0415 - only where vectors are made
        import tokenizers  # noqa: PLC0415

        self.model = model
        self._session = onnxruntime.InferenceSession(
            str(weights), providers=["CPUExecutionProvider"]
        )
        self._inputs = {node.name for node in self._session.get_inputs()}
        self._tokenizer = tokenizers.Tokenizer.from_file(str(tokenizer))
        self._tokenizer.enable_truncation(MAX_TOKENS)
        self._tokenizer.enable_padding()

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Embed the texts in batches of 64, so that memory stays flat."""
        with stage_progress("embeddings", len(texts)) as tracker:
            parts = []
            for start in range(0, len(texts), BATCH):
                batch = list(texts[start : start + BATCH])
                parts.append(self._embed_batch(batch))
                for _ in batch:
                    tracker.step()
        return np.vstack(parts) if parts else np.zeros((0, 384), dtype=np.float32)

    def _embed_batch(self, texts: list[str]) -> Vectors:
        encoded = self._tokenizer.encode_batch(texts)
        mask = np.array([item.attention_mask for item in encoded], dtype=np.int64)
        inputs = {
            "input_ids": np.array([item.ids for item in encoded], dtype=np.int64),
            "attention_mask": mask,
            "token_type_ids": np.zeros_like(mask),
        }
        used = {name: value for name, value in inputs.items() if name in self._inputs}
        tokens = self._session.run(None, used)[0]
        weights = mask[:, :, None].astype(np.float32)
        return unit_rows((tokens * weights).sum(axis=1) / weights.sum(axis=1))


@cache
def open_minilm(model: str, weights: Path, tokenizer: Path) -> MiniLMEmbedder:
    """Return the model, loaded once per process."""
    return MiniLMEmbedder(model, weights, tokenizer)


class FakeEmbedder:
    """Draw unit vectors from the text's hash: equal texts are equal, others are far apart."""

    def __init__(self, model: str = "fake/embedder") -> None:
        """Take the name that the vectors are stored under."""
        self.model = model

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Return vectors of 32 dimensions."""
        return unit_rows(np.array([_drawn(text) for text in texts], dtype=np.float32))


def unit_rows(vectors: npt.NDArray[np.floating]) -> Vectors:
    """Scale the rows to length 1. A zero row stays zero."""
    if vectors.size == 0:
        return np.zeros((len(vectors), 0), dtype=np.float32)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    scaled: Vectors = (vectors / np.where(lengths == 0, 1, lengths)).astype(np.float32)
    return scaled


def _drawn(text: str) -> list[float]:
    rng = random.Random(stable_id(text))  # noqa: S311 - not secret
    return [rng.gauss(0, 1) for _ in range(FAKE_DIMENSIONS)]
