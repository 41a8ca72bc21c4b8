"""Two-sample tests: has this window the distribution of that baseline?

Both sides are samples, so the tests stay right for baselines of any size: a small baseline makes them blind to small
shifts (`smallest_detectable_shift` says to which), never trigger-happy. Every test returns the evidence (`p_value`) and
an effect size, because a million rows make any shift significant and few shifts matter.

The null of each: all rows of both samples are independent draws from one distribution. Rows of y that come in clusters
are worth fewer independent ones: tests that take `worth` are told how many each row is (`design_effect`), or can ask it
of the very difference that they found. With an empty sample nothing can be said: statistic, p-value and effect are nan,
and nan is never rejected.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt
from scipy.special import chdtrc, kolmogi, kolmogorov, ndtri, xlogy
from scipy.stats import hypergeom

from monitoring.stats.binning import FloatArray, as_column
from monitoring.stats.distances import jensen_shannon
from monitoring.stats.mmd import FeatureMoments, mmd_moments_test, mmd_rff_test
from monitoring.stats.random_features import RandomFeatures, median_bandwidth
from monitoring.stats.result import TestResult, Worth, worth_along

__all__ = [
    "FeatureMoments",
    "RandomFeatures",
    "TestResult",
    "class_shift_test",
    "holm",
    "ks_test",
    "ks_test_binned",
    "median_bandwidth",
    "mmd_moments_test",
    "mmd_rff_test",
    "smallest_detectable_shift",
    "tail_shift_test",
]

_TAILS = (0.003, 0.01, 0.03, 0.1)
"""Shares of the pooled rows that `tail_shift_test` looks at, on either side."""

_LEAST_EXPECTED = 5.0
"""Expected count, in the smaller sample, below which a class is pooled with the other rare ones."""


def ks_test(x: npt.ArrayLike, y: npt.ArrayLike, worth: Worth = 1.0) -> TestResult:
    """Kolmogorov-Smirnov test of two samples, shapes (n_x,) and (n_y,); NaN is left out.

    `worth` may be asked of a score of each row of y, NaN included: 1 below the value of the largest difference, else 0.

    The p-value is Kolmogorov's limit, which errs on the safe side for small samples and for ties. Statistic and effect
    are the KS distance: the largest difference between the shares of the two samples below any one value.

    >>> result = ks_test(np.arange(100), np.arange(100) + 40)
    >>> round(result.effect, 2), result.p_value < 1e-6
    (0.4, True)
    """
    column = as_column(y, "y")
    x, y = _without_nan(x, "x"), _without_nan(y, "y")
    both = np.concatenate([x, y])
    below_x = np.searchsorted(np.sort(x), both, side="right")
    below_y = np.searchsorted(np.sort(y), both, side="right")
    return _ks_result(below_x, below_y, len(x), len(y), worth, lambda place: column <= both[place])


def ks_test_binned(counts_x: npt.ArrayLike, counts_y: npt.ArrayLike, worth: Worth = 1.0) -> TestResult:
    """`ks_test` from counts over the same ordered bins, shape (k,): safe, and weaker the coarser the bins are.

    >>> ks_test_binned([10, 10, 10], [10, 10, 10]).p_value
    1.0
    """
    x, y = _counts(counts_x, counts_y)
    bins = np.arange(len(x))
    return _ks_result(np.cumsum(x), np.cumsum(y), int(x.sum()), int(y.sum()), worth, lambda place: bins <= place)


def smallest_detectable_shift(n_x: int, n_y: int, alpha: float, power: float = 0.9) -> float:
    """KS distance that `ks_test` at level `alpha` finds with probability `power` or more.

    By the normal limit of the difference at the point where the two distributions lie furthest apart, with its largest
    variance. At most 1, which means that no shift is sure to be found; nan with an empty sample.

    >>> round(smallest_detectable_shift(20_000, 2_000, alpha=0.003), 3)
    0.057
    """
    if not (0 < alpha < 1 and 0 < power < 1):
        raise ValueError(f"alpha and power must lie between 0 and 1, not {alpha} and {power}")
    if n_x < 1 or n_y < 1:
        return math.nan
    return min(1.0, float(kolmogi(alpha) + 0.5 * ndtri(power)) * math.sqrt(1 / n_x + 1 / n_y))


def tail_shift_test(counts_x: npt.ArrayLike, counts_y: npt.ArrayLike, worth: Worth = 1.0) -> TestResult:
    """Test whether y has more rows in a tail than x has, from counts over the same ordered bins, shape (k,).

    A new topic gathers in the tails, where the KS distance is the last to look. Tails are cut from the pooled counts,
    each is tested by Fisher's exact test, and the p-value is the smallest of them times their number (Bonferroni):
    right at any sample size.

    The effect is the largest excess of y over x beyond any one value, as a share of all rows: at least so much of y is
    new. The statistic is the share of y in the tail that speaks loudest.

    >>> result = tail_shift_test([10, 970, 10, 10], [10, 920, 10, 60])
    >>> result.p_value < 1e-6, round(result.effect, 2)
    (True, 0.05)
    """
    x, y = _counts(counts_x, counts_y)
    n_x, n_y = int(x.sum()), int(y.sum())
    if n_x == 0 or n_y == 0:
        return TestResult.undefined(n_x, n_y)
    tails = np.concatenate([_lower_tails(x + y), _lower_tails((x + y)[::-1])[:, ::-1]])
    if len(tails) == 0:
        return TestResult(0.0, 1.0, 0.0, n_x, n_y)
    in_x, in_y = tails @ x, tails @ y
    worths = np.array([worth_along(worth, tail) for tail in tails])
    witnesses, size = np.floor(in_y * worths), np.ceil(n_y * worths)  # rounded to the safe side
    p_values = hypergeom.sf(witnesses - 1, n_x + size, in_x + witnesses, size)
    best = int(np.argmin(p_values))
    p_value = min(1.0, float(p_values[best]) * len(p_values))
    excess = float(np.abs(np.cumsum(y) / n_y - np.cumsum(x) / n_x).max())
    return TestResult(float(in_y[best]) / n_y, p_value, excess, n_x, n_y)


def class_shift_test(counts_x: npt.ArrayLike, counts_y: npt.ArrayLike, worth: Worth = 1.0) -> TestResult:
    """Chi-squared test that two vectors of class counts, shape (k,), come from the same class shares.

    Classes whose expected count in the smaller sample is below 5 are pooled. The statistic is Pearson's. With counts
    near 5 and at the level of an alarm (1e-4), Pearson's test alone rejects up to four times too often, and the
    likelihood-ratio (G) test with Williams' correction twice: the p-value is the larger of the two, which holds.

    The effect is the Jensen-Shannon distance (base 2) over the pooled classes, less what sampling alone adds to it:
    about 0 under the null for any sample size.

    >>> class_shift_test([500, 300, 200], [52, 31, 17]).p_value > 0.5
    True
    >>> result = class_shift_test([500, 300, 200], [200, 300, 500])
    >>> result.p_value < 1e-6, round(result.effect, 2)
    (True, 0.31)
    """
    x, y = _counts(counts_x, counts_y)
    n_x, n_y = int(x.sum()), int(y.sum())
    if n_x == 0 or n_y == 0:
        return TestResult.undefined(n_x, n_y)
    table = _pool_rare(np.stack([x, y * worth_along(worth, _overrepresented(x, y))]))
    freedom = table.shape[1] - 1
    if freedom == 0:
        return TestResult(0.0, 1.0, 0.0, n_x, n_y)
    n, columns, rows = float(table.sum()), table.sum(axis=0), table.sum(axis=1, keepdims=True)
    expected = columns * rows / n
    pearson = float((np.square(table - expected) / expected).sum())
    likelihood_ratio = 2 * float(xlogy(table, table / expected).sum())
    williams = 1 + float(((n / rows).sum() - 1) * ((n / columns).sum() - 1)) / (6 * n * freedom)
    by_chance = freedom * float((1 / rows).sum()) / (8 * math.log(2))
    return TestResult(
        statistic=pearson,
        p_value=float(chdtrc(freedom, min(pearson, likelihood_ratio / williams))),
        effect=math.sqrt(max(jensen_shannon(table[0], table[1]) ** 2 - by_chance, 0.0)),
        n_x=n_x,
        n_y=n_y,
    )


def holm(p_values: Mapping[str, float], alpha: float) -> frozenset[str]:
    """Names of the hypotheses that Holm's step-down procedure rejects, at a family-wise error of `alpha`.

    A nan p-value is never rejected and still counts as a hypothesis.

    >>> sorted(holm({"length": 0.001, "confidence": 0.02, "labels": 0.4}, alpha=0.05))
    ['confidence', 'length']
    """
    rejected: list[str] = []
    ranked = sorted(p_values.items(), key=lambda item: math.inf if math.isnan(item[1]) else item[1])
    for name, p_value in ranked:
        if not p_value <= alpha / (len(p_values) - len(rejected)):
            break
        rejected.append(name)
    return frozenset(rejected)


def _ks_result(
    below_x: npt.NDArray[np.int64],
    below_y: npt.NDArray[np.int64],
    n_x: int,
    n_y: int,
    worth: Worth,
    below: Callable[[int], npt.NDArray[np.bool_]],
) -> TestResult:
    """`below`: what lies below the value (or bin) at that place of `below_x` and `below_y`."""
    if n_x == 0 or n_y == 0:
        return TestResult.undefined(n_x, n_y)
    apart = np.abs(below_x / n_x - below_y / n_y)
    place = int(apart.argmax())
    distance = float(apart[place])
    witnesses = n_y * worth_along(worth, below(place).astype(np.float64))
    p_value = float(kolmogorov(distance / math.sqrt(1 / n_x + 1 / witnesses)))
    return TestResult(distance, p_value, distance, n_x, n_y)


def _lower_tails(counts: FloatArray) -> FloatArray:
    """For each of _TAILS the longest run of bins that the share allows, shape (tails, k): 1 for its bins, else 0.

    And the shortest that it does not: what is new can lie in one bin that no share allows.
    """
    pooled = np.cumsum(counts)
    ends = np.searchsorted(pooled, np.array(_TAILS) * pooled[-1], side="right")
    ends = np.unique(np.minimum([*ends, ends[-1] + 1], len(pooled)))
    filled = [end for end in ends.tolist() if end > 0 and pooled[end - 1] > 0]
    tails: FloatArray = (np.arange(len(counts)) < np.array(filled)[:, None]).astype(np.float64).reshape(-1, len(counts))
    return tails


def _overrepresented(x: FloatArray, y: FloatArray) -> FloatArray:
    """How far y has more of each class than x, (k,), as Pearson's test weighs it: against what is expected."""
    n_x, n_y = x.sum(), y.sum()
    expected = np.maximum((x + y) / (n_x + n_y), _LEAST_EXPECTED / min(n_x, n_y))
    surplus: FloatArray = (y / n_y - x / n_x) / expected
    return surplus


def _pool_rare(counts: FloatArray) -> FloatArray:
    """Columns of counts, shape (2, k), with the rare ones added up, and added to the next rarest while still rare."""
    smaller_share = counts.sum(axis=1).min() / counts.sum()
    ascending = counts[:, np.argsort(counts.sum(axis=0), kind="stable")]
    expected = ascending.sum(axis=0) * smaller_share
    rare = int(np.searchsorted(expected, _LEAST_EXPECTED))
    if rare == 0:
        return ascending
    pooled = max(rare, int(np.searchsorted(np.cumsum(expected), _LEAST_EXPECTED)) + 1)
    return np.concatenate([ascending[:, :pooled].sum(axis=1, keepdims=True), ascending[:, pooled:]], axis=1)


def _counts(counts_x: npt.ArrayLike, counts_y: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
    x, y = as_column(counts_x, "counts_x"), as_column(counts_y, "counts_y")
    if len(x) != len(y):
        raise ValueError(f"counts_x has {len(x)} bins and counts_y has {len(y)}: count both with the same edges")
    if not all(np.isfinite(side).all() and (side >= 0).all() for side in (x, y)):
        raise ValueError("counts_x and counts_y must be finite and not negative")
    return x, y


def _without_nan(values: npt.ArrayLike, name: str) -> FloatArray:
    column = as_column(values, name)
    return column[~np.isnan(column)]
