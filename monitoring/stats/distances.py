"""Distances between two distributions over the same bins or classes: effect sizes that people can read.

Each takes counts or probabilities, shape (k,), and scales them to sum to 1. A distance between two samples is never 0
and shrinks as they grow: whether it is more than chance is for `two_sample` to say. Where a side has no mass at all the
distance is undefined: nan.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy.special import rel_entr

from monitoring.stats.binning import FloatArray, as_column


def jensen_shannon(p: npt.ArrayLike, q: npt.ArrayLike) -> float:
    """Jensen-Shannon distance with logarithms to base 2: 0 for equal shapes, 1 where no bin is shared.

    The square root of the divergence, and so a metric (Endres & Schindelin, IEEE Trans. Inf. Theory 2003).

    >>> jensen_shannon([3, 1], [6, 2])
    0.0
    >>> jensen_shannon([1, 0], [0, 1])
    1.0
    """
    p, q = _shares(p, q)
    middle = (p + q) / 2
    divergence = float(rel_entr(p, middle).sum() + rel_entr(q, middle).sum()) / (2 * math.log(2))
    return math.sqrt(_clip(divergence))


def hellinger(p: npt.ArrayLike, q: npt.ArrayLike) -> float:
    """Hellinger distance: 0 for equal shapes, 1 where no bin is shared.

    >>> hellinger([1, 1], [1, 1])
    0.0
    >>> hellinger([1, 0], [0, 1])
    1.0
    """
    p, q = _shares(p, q)
    return math.sqrt(_clip(float(np.square(np.sqrt(p) - np.sqrt(q)).sum()) / 2))


def total_variation(p: npt.ArrayLike, q: npt.ArrayLike) -> float:
    """Total variation: the share of the mass that would have to move, in [0, 1].

    >>> total_variation([50, 50], [75, 25])
    0.25
    """
    p, q = _shares(p, q)
    return _clip(float(np.abs(p - q).sum()) / 2)


def psi(p: npt.ArrayLike, q: npt.ArrayLike, smoothing: float = 0.5) -> float:
    """Population stability index of counts, in nats: the symmetrised Kullback-Leibler divergence, from 0 up.

    `smoothing` is added to every bin of both sides, so that an empty bin does not make it infinite: this one wants
    counts, not probabilities.

    >>> psi([10, 10], [10, 10])
    0.0
    >>> round(psi([500, 500], [700, 300]), 2)
    0.17
    >>> round(psi([100, 100, 0], [100, 90, 10]), 2)
    0.16
    """
    p, q = _shares(p, q, smoothing)
    return float(((p - q) * np.log(p / q)).sum())


def _shares(p: npt.ArrayLike, q: npt.ArrayLike, smoothing: float = 0.0) -> tuple[FloatArray, FloatArray]:
    left, right = as_column(p, "p"), as_column(q, "q")
    if len(left) != len(right):
        raise ValueError(f"p has {len(left)} bins and q has {len(right)}: count both with the same edges")
    return _normalised(left, "p", smoothing), _normalised(right, "q", smoothing)


def _normalised(mass: FloatArray, name: str, smoothing: float) -> FloatArray:
    if not (np.isfinite(mass).all() and (mass >= 0).all()):
        raise ValueError(f"{name} holds a negative or non-finite entry: give counts or probabilities")
    total = mass.sum()
    if total == 0:
        return np.full(len(mass), math.nan)
    smoothed: FloatArray = (mass + smoothing) / (total + smoothing * len(mass))
    return smoothed


def _clip(value: float) -> float:
    """Into [0, 1], past which rounding can lead; nan stays."""
    return value if math.isnan(value) else min(max(value, 0.0), 1.0)
