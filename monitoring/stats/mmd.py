"""Maximum mean discrepancy: do the embeddings of this window come from the distribution of that baseline?

Both tests compare means of features (`random_features`). The statistic is the squared distance of the means. The effect
is the correlation ratio: the square root of the share of the features' variance, in a half-and-half mix of the two
samples, that lies between them, less what sampling alone adds: about 0 under the null, 1 where each sample is a point.

Source: Gretton et al., "A kernel two-sample test" (JMLR 2012).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
from scipy.special import gammaincc

from monitoring.stats.binning import FloatArray, as_column, finite_rows
from monitoring.stats.result import TestResult, Worth, worth_along

_CELLS_AT_ONCE = 4_000_000
"""Bound on the permutation matrix, in entries: 32 MB at a time."""


def mmd_rff_test(
    features_x: npt.ArrayLike, features_y: npt.ArrayLike, rng: np.random.Generator, permutations: int = 1000
) -> TestResult:
    """Test features of shapes (n_x, size) and (n_y, size) by permutation of the rows: exact at any sample size.

    The smallest p-value is `1 / (permutations + 1)`. Rows may be means over blocks of equally many predictions (of one
    client, of one hour): then blocks are permuted, and dependence within a block does no harm.
    """
    x, y = np.asarray(features_x, dtype=np.float64), np.asarray(features_y, dtype=np.float64)
    n_x, n_y = len(x), len(y)
    if n_x == 0 or n_y == 0:
        return TestResult.undefined(n_x, n_y)
    rows = np.concatenate([x, y])
    rows = rows - rows.mean(axis=0)  # then the sum over one sample tells the sum over the other
    scale = (1 / n_x + 1 / n_y) ** 2
    statistic = float(np.square(rows[:n_x].sum(axis=0)).sum()) * scale
    permuted = _permuted_squares(rows, min(n_x, n_y), rng, permutations) * scale
    as_large = int((permuted >= statistic * (1 - 1e-9)).sum())
    pooled = float(np.square(rows).sum() - n_x * n_y / (n_x + n_y) * statistic) / max(n_x + n_y - 2, 1)
    effect = _correlation_ratio(statistic, pooled, n_x, n_y)
    return TestResult(statistic, (1 + as_large) / (1 + permutations), effect, n_x, n_y)


@dataclass(frozen=True)
class FeatureMoments:
    """What a baseline keeps of its features for `mmd_moments_test`."""

    n: int
    mean: FloatArray
    """Shape (size,)."""
    covariance: FloatArray
    """Shape (size, size)."""

    @classmethod
    def of(cls, features: npt.ArrayLike) -> Self:
        """Moments of features, shape (n, size) with n of 2 or more; rows that are not finite are left out.

        Where fewer than two are left, mean and covariance are nan.
        """
        rows = np.asarray(features, dtype=np.float64)
        if rows.ndim != 2 or len(rows) < 2:
            raise ValueError(f"features must have shape (n, size) with n of 2 or more, not {rows.shape}")
        size, rows = rows.shape[1], rows[finite_rows(rows)]
        if len(rows) < 2:
            return cls(len(rows), np.full(size, np.nan), np.full((size, size), np.nan))
        return cls(len(rows), rows.mean(axis=0), np.atleast_2d(np.cov(rows, rowvar=False)))


def mmd_moments_test(baseline: FeatureMoments, feature_sum: npt.ArrayLike, n_y: int, worth: Worth = 1.0) -> TestResult:
    """Test a window of which only the sum of features, shape (size,), and their number are left: cheap and mergeable.

    Under the null, `(mean_x - mean_y)^2 / (1/n_x + 1/n_y)` is a sum of chi-squared variables weighted by the
    eigenvalues of the features' covariance. The p-value is the tail of the gamma distribution with the same three first
    cumulants (Buckley & Eagleson, Australian Journal of Statistics 1988); it has no smallest value. The rows must be
    independent and not just a few (use `mmd_rff_test` below about 50), or `worth` so many independent ones each.
    """
    total = as_column(feature_sum, "feature_sum")
    if n_y == 0 or not np.isfinite(baseline.mean).all():
        return TestResult.undefined(baseline.n, n_y)
    difference = total / n_y - baseline.mean
    statistic = float(np.square(difference).sum())
    eigenvalues = np.clip(np.linalg.eigvalsh(baseline.covariance), 0, None)
    first, second, third = (float((eigenvalues**power).sum()) for power in (1, 2, 3))
    effect = _correlation_ratio(statistic, first, baseline.n, n_y)
    if third == 0:  # a baseline of equal rows
        return TestResult(statistic, 1.0 if statistic < 1e-18 else 0.0, effect, baseline.n, n_y)
    shape = second**3 / third**2 / 2
    witnesses = n_y * worth_along(worth, difference)
    standardised = (statistic / (1 / baseline.n + 1 / witnesses) - first) / math.sqrt(2 * second)
    p_value = float(gammaincc(shape, max(shape + standardised * math.sqrt(shape), 0.0)))
    return TestResult(statistic, p_value, effect, baseline.n, n_y)


def _permuted_squares(rows: FloatArray, chosen: int, rng: np.random.Generator, permutations: int) -> FloatArray:
    """Squared length of the sum over `chosen` rows drawn at random, shape (permutations,)."""
    squares = np.empty(permutations)
    at_once = max(1, _CELLS_AT_ONCE // len(rows))
    for start in range(0, permutations, at_once):
        part = squares[start : start + at_once]
        drawn = rng.permuted(np.tile(np.arange(len(rows)) < chosen, (len(part), 1)), axis=1)
        part[:] = np.square(drawn.astype(np.float64) @ rows).sum(axis=1)
    return squares


def _correlation_ratio(squared_distance: float, variance: float, n_x: int, n_y: int) -> float:
    """From the means' squared distance and the total variance within the samples."""
    between = max(squared_distance - variance * (1 / n_x + 1 / n_y), 0.0) / 4
    return math.sqrt(between / (between + variance)) if between > 0 else 0.0
