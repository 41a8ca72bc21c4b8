"""Rows that come in clusters count for fewer: one client's ten messages are not ten witnesses."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from monitoring.stats.binning import as_column


def design_effect(values: npt.ArrayLike, clusters: npt.ArrayLike) -> float:
    """How many rows of values (n,) in these clusters (n,) tell as much as one independent row; 1 or more.

    `1 + correlation * (mean cluster size - 1)`, the mean taken over rows, with the correlation within clusters
    estimated by the analysis of variance. A test that is told `n / design_effect` rows holds its level (Rao & Scott,
    "The analysis of categorical data from complex sample surveys", JASA 1981). Where clusters are rows, or all rows
    are one cluster, nothing can be learnt about the correlation: 1 in the first case, and n in the second.

    >>> rng = np.random.default_rng(0)
    >>> alone, shared = rng.normal(size=1000), np.repeat(rng.normal(size=100), 10)
    >>> clusters = np.arange(1000) // 10
    >>> design_effect(alone, clusters) < 1.3, round(design_effect(shared, clusters))
    (True, 10)
    """
    column = as_column(values)
    _, cluster, sizes = np.unique(np.asarray(clusters), return_inverse=True, return_counts=True)
    n, groups = len(column), len(sizes)
    if groups == n:
        return 1.0
    if groups == 1:
        return float(n)
    means = np.bincount(cluster, weights=column) / sizes
    between = float(sizes @ np.square(means - column.mean())) / (groups - 1)
    within = float(np.square(column - means[cluster]).sum()) / (n - groups)
    typical = (n - float(sizes @ sizes) / n) / (groups - 1)
    spread = between + (typical - 1) * within
    correlation = 0.0 if spread <= 0 or math.isnan(spread) else min(max((between - within) / spread, 0.0), 1.0)
    return 1.0 + correlation * (float(sizes @ sizes) / n - 1.0)
