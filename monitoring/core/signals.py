"""From a model's raw output to the signals that are watched: computed once, by the runtime that serves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from monitoring.core.errors import BrokenBundle

Floats = NDArray[np.float64]
SIGNALS = ("confidence", "entropy", "margin", "similarity", "rarity", "length")
PROJECTED = 32


@dataclass(frozen=True)
class Reference:
    """What turns an embedding into signals, learnt from the training part.

    centroids (classes, d), unit length; mean (d,) and axes (d, PROJECTED): the PCA projection of unit embeddings;
    rarity (vocabulary,): -ln of each token's frequency.
    """

    centroids: NDArray[np.float32]
    mean: NDArray[np.float32]
    axes: NDArray[np.float32]
    rarity: NDArray[np.float32]

    @classmethod
    def fit(
        cls,
        embeddings: NDArray[np.float32],
        labels: NDArray[np.int64],
        tokens: Sequence[Sequence[int]],
        *,
        classes: int,
        vocabulary: int,
    ) -> Reference:
        """Learn from embeddings (n, d), labels (n,) and token ids of n texts; a class without rows gets the mean."""
        units = unit_length(embeddings)
        mean = units.mean(axis=0)
        centroids = np.stack([units[labels == k].mean(axis=0) if (labels == k).any() else mean for k in range(classes)])
        _, _, axes = np.linalg.svd(units - mean, full_matrices=False)
        kept = np.zeros((units.shape[1], PROJECTED), dtype=np.float32)
        kept[:, : min(PROJECTED, len(axes))] = axes[:PROJECTED].T
        counts = np.bincount(np.fromiter(chain.from_iterable(tokens), dtype=np.int64), minlength=vocabulary)
        rarity = -np.log((counts + 0.5) / (counts.sum() + 0.5 * len(counts)))  # half a token each: none is impossible
        return cls(unit_length(centroids), mean.astype(np.float32), kept, rarity.astype(np.float32))

    @classmethod
    def blank(cls, classes: int, size: int) -> Reference:
        """One that has learnt nothing, for a bundle in the making."""
        return cls(*(np.zeros(shape, np.float32) for shape in ((classes, size), (size,), (size, PROJECTED), (1,))))

    def rarity_of(self, tokens: Sequence[Sequence[int]]) -> Floats:
        """Mean rarity of each text's tokens (n,); 0 for a text without any."""
        lengths = np.array([len(ids) for ids in tokens], dtype=np.int64)
        flat = np.fromiter(chain.from_iterable(tokens), dtype=np.int64, count=int(lengths.sum()))
        sums = np.concatenate([[0.0], np.cumsum(self.rarity.take(flat, mode="clip"), dtype=np.float64)])
        ends = np.cumsum(lengths)
        return np.asarray((sums[ends] - sums[ends - lengths]) / np.maximum(lengths, 1))

    def save(self, path: Path) -> None:
        """Write as npz."""
        np.savez(path, centroids=self.centroids, mean=self.mean, axes=self.axes, rarity=self.rarity)

    @classmethod
    def load(cls, path: Path) -> Reference:
        """Read from npz. Raises BrokenBundle."""
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                return cls(arrays["centroids"], arrays["mean"], arrays["axes"], arrays["rarity"])
        except (OSError, ValueError, KeyError, TypeError, EOFError, BadZipFile) as error:
            raise BrokenBundle(f"{path} cannot be read: {error}") from error


@dataclass(frozen=True)
class Predictions:
    """A batch of answers with their signals; arrays of n rows.

    probabilities (n, classes), calibrated; predicted (n,) class numbers; similarity: cosine to the nearest class
    centroid; rarity: mean -ln frequency of a text's tokens among the training part's; length: tokens; projected
    (n, PROJECTED) float16; entropy in nats.
    """

    probabilities: Floats
    predicted: NDArray[np.int64]
    confidence: Floats
    entropy: Floats
    margin: Floats
    similarity: Floats
    rarity: Floats
    length: Floats
    projected: NDArray[np.float16]

    def __len__(self) -> int:
        return len(self.predicted)

    def signal(self, name: str) -> Floats:
        """One of SIGNALS, (n,)."""
        return np.asarray(getattr(self, name), dtype=np.float64)


def read_signals(
    logits: NDArray[np.float32],
    embeddings: NDArray[np.float32],
    tokens: Sequence[Sequence[int]],
    *,
    temperature: float,
    reference: Reference,
) -> Predictions:
    """Turn logits (n, classes), embeddings (n, d) and the token ids of n texts into Predictions."""
    probabilities = _softmax(np.asarray(logits, dtype=np.float64) / temperature)
    ordered = np.sort(probabilities, axis=1)
    runner_up = ordered[:, -2] if probabilities.shape[1] > 1 else np.zeros(len(ordered))
    units = unit_length(embeddings)
    return Predictions(
        probabilities=probabilities,
        predicted=probabilities.argmax(axis=1),
        confidence=ordered[:, -1],
        entropy=np.maximum(-(probabilities * np.log(np.maximum(probabilities, 1e-12))).sum(axis=1), 0.0),
        margin=ordered[:, -1] - runner_up,
        similarity=(units @ reference.centroids.T).max(axis=1).astype(np.float64),
        rarity=reference.rarity_of(tokens),
        length=np.array([len(ids) for ids in tokens], dtype=np.float64),
        projected=((units - reference.mean) @ reference.axes).astype(np.float16),
    )


def unit_length(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows scaled to length one; zero rows stay zero."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(norms, 1e-12), dtype=np.float32)


def _softmax(logits: Floats) -> Floats:
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))
