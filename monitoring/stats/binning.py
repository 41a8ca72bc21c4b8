"""Frozen bins: how a stream of real-valued scores becomes counts that never grow.

Edges are made once, on data apart from whatever is counted later. A value `v` falls into bin `k` when
`edges[k-1] <= v < edges[k]`, so a value that many rows share lies in one bin whole. NaN has the last bin to itself: a
signal that stops being computed is a change like any other, and can be ranked and counted as one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


def bin_edges(values: npt.ArrayLike, bins: int = 256) -> FloatArray:
    """Quantile bin edges that resolve the tails, where new traffic shows first.

    A quarter of the bins narrow geometrically towards the two extremes, a sixteenth lies beyond the range seen, so that
    something never seen before gets a bin of its own, and the rest cut the middle into equal shares.

    Args:
        values: shape (n,); NaN and infinities are left out.
        bins: upper limit of the number of bins; ties among the values leave fewer.

    Returns:
        Strictly increasing edges, at most `bins - 1`; empty when no value is finite (one bin takes all).

    >>> edges = bin_edges(np.arange(1000.0), bins=64)
    >>> len(edges), bool(edges[0] < 0), bool(edges[-1] > 999)
    (63, True, True)
    >>> bin_edges([2.0, 2.0, 2.0])
    array([2.])
    """
    if bins < 8:
        raise ValueError(f"bins must be at least 8, not {bins}")
    column = as_column(values)
    finite = column[np.isfinite(column)]
    if finite.size == 0:
        return np.empty(0)
    tail = np.geomspace(min(0.5 / finite.size, 0.025), 0.05, bins // 8 + 1)[:-1]
    beyond = np.geomspace(0.03, 2.0, bins // 32)
    middle = np.linspace(0.05, 0.95, bins - 1 - 2 * len(tail) - 2 * len(beyond))
    inside = np.quantile(finite, np.concatenate([tail, middle, 1 - tail]))
    low, lower_decile, upper_decile, high = np.quantile(finite, [0.0, 0.1, 0.9, 1.0])
    below, above = low - beyond * (lower_decile - low), high + beyond * (high - upper_decile)
    edges: FloatArray = np.unique(np.concatenate([below, inside, above]))
    return edges


def bin_count(edges: FloatArray) -> int:
    """Number of bins that `edges` make, the bin of NaN included."""
    return len(edges) + 2


def bin_indices(values: npt.ArrayLike, edges: FloatArray) -> IntArray:
    """Bin of each value, shape (n,), in `range(bin_count(edges))`; NaN falls into the last.

    >>> bin_indices([-1.0, 2.0, 2.5, 9.0, np.nan], np.array([2.0, 3.0])).tolist()
    [0, 1, 1, 2, 3]
    """
    column = as_column(values)
    indices: IntArray = np.searchsorted(edges, column, side="right").astype(np.int64, copy=False)
    indices += np.isnan(column)  # which is sorted behind the last edge, like what lies above it
    return indices


def count_bins(values: npt.ArrayLike, edges: FloatArray) -> IntArray:
    """How many values fall into each bin, shape (bin_count(edges),)."""
    counts: IntArray = np.bincount(bin_indices(values, edges), minlength=bin_count(edges)).astype(np.int64)
    return counts


def finite_rows(table: npt.NDArray[np.floating[Any]]) -> IntArray:
    """Numbers of the rows of a table (n, d) that hold finite numbers only.

    >>> finite_rows(np.array([[1.0, 2.0], [np.nan, 0.0], [0.0, np.inf]])).tolist()
    [0]
    """
    return np.flatnonzero(np.isfinite(table).all(axis=1))


def as_column(values: npt.ArrayLike, name: str = "values") -> FloatArray:
    """`values` as a one-dimensional float64 array; ValueError where they have another shape."""
    column: FloatArray = np.asarray(values, dtype=np.float64)
    if column.ndim != 1:
        raise ValueError(f"{name} must be one-dimensional, shape (n,), not {column.shape}")
    return column
