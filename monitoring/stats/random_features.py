"""Random Fourier features: a kernel's view of a distribution as the mean of a few numbers, which merges."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import numpy.typing as npt
from scipy.spatial.distance import pdist

from monitoring.stats.binning import FloatArray

_RIDGE = 0.01
"""Added to the variances when features are whitened, as a share of the largest."""


@dataclass(frozen=True)
class RandomFeatures:
    """Random Fourier features of the Gaussian kernel.

    Unless whitened, `transform(a) @ transform(b)` approximates `exp(-|a - b|^2 / (2 bandwidth^2))` and every row has
    length 1. Weights are drawn once and kept with the baseline: means compare only under the same.

    Source: Rahimi & Recht, "Random features for large-scale kernel machines" (NeurIPS 2007).
    """

    weights: FloatArray
    """Shape (dimension, size / 2)."""
    centre: FloatArray | None = None
    whitening: FloatArray | None = None
    """Shape (size, size); None for the plain features."""

    @classmethod
    def make(cls, dimension: int, size: int, bandwidth: float, rng: np.random.Generator) -> Self:
        """Draw weights for embeddings of `dimension` numbers; `size`, an even number, is that of features."""
        if size < 2 or size % 2:
            raise ValueError(f"size must be an even number of features, not {size}")
        if not (math.isfinite(bandwidth) and bandwidth > 0):
            raise ValueError(f"bandwidth must be a positive number, not {bandwidth}: see median_bandwidth")
        return cls(rng.normal(scale=1 / bandwidth, size=(dimension, size // 2)))

    def whitened(self, embeddings: npt.ArrayLike) -> Self:
        """The same features, turned and scaled to vary alike in all directions over `embeddings`, (n, dimension).

        Plain means drown in the few directions in which the known topics differ; whitened ones show a new topic at a
        much smaller share. As with bin edges, the embeddings must be apart from what is tested later.

        Source: Harchaoui, Bach & Moulines, "Testing for homogeneity with kernel Fisher discriminant analysis"
        (NeurIPS 2007).
        """
        plain = self.plain(embeddings)
        if len(plain) < 2:
            raise ValueError(f"embeddings has {len(plain)} rows: whitening needs 2 or more, and some hundreds to help")
        variances, directions = np.linalg.eigh(np.cov(plain, rowvar=False))
        kept = np.clip(variances, 0, None)
        scale = np.sqrt(kept + max(_RIDGE * float(kept.max()), 1e-12))
        return replace(self, centre=plain.mean(axis=0), whitening=directions / scale)

    def transform(self, embeddings: npt.ArrayLike) -> FloatArray:
        """Features of embeddings, shape (n, dimension) to (n, size)."""
        return self.turned(self.plain(embeddings))

    def plain(self, embeddings: npt.ArrayLike) -> FloatArray:
        """The same before they are whitened."""
        angles = (np.asarray(embeddings, dtype=np.float64) @ self.weights).astype(np.float32)  # ten times as fast
        features: FloatArray = np.concatenate([np.cos(angles), np.sin(angles)], axis=1, dtype=np.float64)
        features /= math.sqrt(self.weights.shape[1])
        return features

    def turned(self, sums: FloatArray, n: int = 1) -> FloatArray:
        """Whiten sums, (..., size), over n plain features each: as it is linear, once at the end is enough."""
        if self.centre is None or self.whitening is None:
            return sums
        whitened: FloatArray = (sums - n * self.centre) @ self.whitening
        return whitened

    def turned_back(self, direction: FloatArray) -> FloatArray:
        """Weights (size,) of the plain features whose sum is that along a direction (size,) of the whitened ones.

        But for a constant.
        """
        return direction if self.whitening is None else np.asarray(self.whitening @ direction)

    def to_arrays(self) -> dict[str, FloatArray]:
        """As arrays for npz."""
        parts = {"weights": self.weights, "centre": self.centre, "whitening": self.whitening}
        return {name: part for name, part in parts.items() if part is not None}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[np.float64]]) -> Self:
        """The inverse of `to_arrays`. Raises KeyError on missing weights."""
        return cls(arrays["weights"], arrays.get("centre"), arrays.get("whitening"))


def median_bandwidth(x: npt.ArrayLike, rng: np.random.Generator, sample: int = 1000) -> float:
    """The median heuristic: the median distance between rows of x, shape (n, d), of which at most `sample` are drawn.

    1.0 where that is no scale: fewer than two rows, or most of them alike.
    """
    rows = np.asarray(x, dtype=np.float64)
    if len(rows) > sample:
        rows = rows[rng.choice(len(rows), sample, replace=False)]
    if len(rows) < 2:
        return 1.0
    median = float(np.median(pdist(rows)))
    return median if median > 0 else 1.0
