"""How much of a window is unlike a reference: a lower bound on the share of traffic that is new."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from monitoring.stats.betting import FloatArray

LANDMARKS = 512
SIGNIFICANCE = 0.05


@dataclass(frozen=True)
class EmpiricalReference:
    """Distribution of each of d signals as LANDMARKS quantiles (d, LANDMARKS), and the number of rows behind it."""

    quantiles: FloatArray
    rows: float

    @classmethod
    def of(cls, table: FloatArray) -> Self:
        """The distribution of the rows of a finite table (n, d)."""
        return cls(_weighted_quantiles(table, np.ones(len(table))), float(len(table)))

    def joined_with(self, table: FloatArray, weights: FloatArray) -> Self:
        """The distribution after rows (n, d), n > 0, with weights (n,) in units of rows."""
        total = self.rows + float(weights.sum())
        if self.rows == 0:
            return type(self)(_weighted_quantiles(table, weights), total)
        both = np.concatenate((self.quantiles.T, table))
        mass = np.concatenate((np.full(LANDMARKS, self.rows / LANDMARKS), weights))
        return type(self)(_weighted_quantiles(both, mass), total)

    def share_at_or_below(self, values: FloatArray) -> FloatArray:
        """Share of the reference at or below values (m, d), signal by signal; 0 without rows."""
        if self.rows == 0:
            return np.zeros_like(values)
        columns = [np.searchsorted(q, v, side="right") for q, v in zip(self.quantiles, values.T, strict=True)]
        return np.column_stack(columns) / LANDMARKS

    def share_above(self, value: float) -> float:
        """Share of the reference above a value of the last signal; 0 without rows."""
        return float((self.quantiles[-1] > value).mean()) if self.rows else 0.0

    def to_arrays(self, prefix: str) -> dict[str, npt.NDArray[np.float64]]:
        """Float arrays for npz, named with a prefix."""
        return {f"{prefix}quantiles": self.quantiles, f"{prefix}rows": np.asarray(self.rows)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[np.float64]], prefix: str) -> Self:
        """The inverse of `to_arrays`."""
        return cls(np.asarray(arrays[f"{prefix}quantiles"]), float(arrays[f"{prefix}rows"]))


@dataclass(frozen=True)
class Unfamiliar:
    """Share of a window's traffic that is new to the baseline: what is proven, what it may well be, and its labels."""

    least: float
    most: float
    labels: float

    @property
    def ignorance(self) -> float:
        """How far off the accuracy of the new traffic may be: the standard error from its labels, 1 without any."""
        return 0.5 / math.sqrt(self.labels) if self.labels >= 1.0 else 1.0


def unfamiliar_traffic(window: FloatArray, baseline: EmpiricalReference, learnt: EmpiricalReference) -> Unfamiliar:
    """Find the tail of a signal that the window (m, d), m > 0, fills most beyond the baseline.

    Where that excess is more than chance (Kolmogorov-Smirnov at level SIGNIFICANCE over all signals and both tails),
    the window holds at least excess / (1 - baseline's share of the tail) of new traffic; otherwise none is claimed.
    `learnt` holds the signals labelled since, of which the excess over the baseline counts as labels of new traffic.
    Without a baseline all is new.
    """
    rows, signals = window.shape
    if baseline.rows == 0:
        return Unfamiliar(1.0, 1.0, learnt.rows)
    below = np.column_stack([np.searchsorted(np.sort(v), v, side="right") for v in window.T]) / rows
    usual = baseline.share_at_or_below(window)
    excess = below - usual
    lower = bool(excess.max() >= -excess.min())
    row, signal = np.unravel_index(np.argmax(excess if lower else -excess), excess.shape)
    found = abs(float(excess[row, signal]))
    by_chance = math.sqrt(math.log(2.0 * signals / SIGNIFICANCE) / 2.0 * (1.0 / rows + 1.0 / baseline.rows))
    if found <= by_chance + 1.0 / LANDMARKS:
        return Unfamiliar(0.0, 0.0, 0.0)
    usual_below = float(usual[row, signal])
    learnt_below = float(learnt.share_at_or_below(window[row : row + 1])[0, signal])
    taught = learnt_below - usual_below if lower else usual_below - learnt_below
    beyond = max(1.0 - usual_below if lower else usual_below, 1.0 / LANDMARKS)
    least, most = min(1.0, (found - by_chance) / beyond), min(1.0, (found + by_chance) / beyond)
    return Unfamiliar(least, most, max(0.0, learnt.rows * taught))


def _weighted_quantiles(table: FloatArray, weights: FloatArray) -> FloatArray:
    """LANDMARKS quantiles (d, LANDMARKS) of each column of a table (n, d); zeros where n = 0."""
    if len(table) == 0:
        return np.zeros((table.shape[1], LANDMARKS))
    order = np.argsort(table, axis=0, kind="stable")
    mass = np.cumsum(weights[order], axis=0)
    levels = (np.arange(LANDMARKS) + 0.5) / LANDMARKS
    picks = [np.searchsorted(column, levels * column[-1]) for column in mass.T]
    return np.stack([table[order[:, j], j][np.minimum(pick, len(table) - 1)] for j, pick in enumerate(picks)])
