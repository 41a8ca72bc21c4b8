"""Calibration: does a confidence of 0.8 come true four times in five?

`confidence` is the probability of the predicted label, `correct` whether that label was right. Every measure is nan
where it is undefined: without rows, or where a confidence or probability is not a number. Labels that the model lacks
have no column in `probabilities`; measure those rows by (confidence, correct), with correct = 0.

A plain binned ECE reads 0.045 on 500 rows of a perfectly calibrated model; prefer `debiased_ece` or `smooth_ece`, and
`calibration_drift_test` for a verdict.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.fft import dct, idct
from scipy.optimize import brentq, minimize_scalar
from scipy.special import logsumexp
from scipy.special import softmax as exact_softmax
from scipy.stats import norm

from monitoring.stats.betting import TILTS, FloatArray, log_tilt_evidence_of_rise

TEMPERATURES = (0.05, 20.0)
LEAST_PROBABILITY = 1e-12
GRID_CELLS = 2048
NARROWEST_KERNEL = 1.0 / GRID_CELLS


@dataclass(frozen=True)
class ReliabilityBin:
    """Rows with low <= confidence < high (the last bin holds 1.0), with a 95 % Wilson interval for their accuracy."""

    low: float
    high: float
    n: int
    mean_confidence: float
    accuracy: float
    accuracy_low: float
    accuracy_high: float


@dataclass(frozen=True)
class CalibrationDrift:
    """Evidence that confidences are off by more than a tolerance; valid at every look as labels come.

    `gap` is mean confidence minus accuracy (nan without rows). The log e-values speak against 'nowhere overconfident /
    underconfident by more than the tolerance'; `p_value` is for both together.
    """

    n: int
    gap: float
    log_e_overconfident: float
    log_e_underconfident: float
    p_value: float


def softmax(logits: npt.ArrayLike, temperature: float = 1.0) -> FloatArray:
    """Probabilities (n, k), or (k,), from logits of the same shape. Raises ValueError unless temperature > 0."""
    if not temperature > 0.0:
        raise ValueError(f"temperature is {temperature:g}: it must be positive")
    return np.asarray(exact_softmax(np.asarray(logits, dtype=np.float64) / temperature, axis=-1), dtype=np.float64)


def fit_temperature(logits: npt.ArrayLike, labels: npt.ArrayLike, weights: npt.ArrayLike | None = None) -> float:
    """The temperature in [0.05, 20] that minimises the NLL of held-out logits (n, k) and labels (n,).

    `weights` (n,): inverse sampling probabilities. 1.0, which changes nothing, where the NLL does not improve or there
    is nothing to fit on. Raises ValueError on a label without a column. Source: Guo et al., "On calibration of modern
    neural networks" (ICML 2017).
    """
    scores, truth = _labelled_rows(logits, labels, "logits")
    if len(scores) == 0 or not np.isfinite(scores).all():
        return 1.0
    rows = np.arange(len(truth))
    share = None if weights is None else np.asarray(weights, dtype=np.float64)

    def nll(log_temperature: float) -> float:
        scaled = scores * math.exp(-log_temperature)
        return float(np.average(logsumexp(scaled, axis=1) - scaled[rows, truth], weights=share))

    # The NLL is convex in 1/T, hence has one minimum in log T.
    best = minimize_scalar(nll, bounds=tuple(np.log(TEMPERATURES)), method="bounded", options={"xatol": 1e-6})
    return math.exp(best.x) if best.fun < nll(0.0) - 1e-9 else 1.0


def negative_log_likelihood(probabilities: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """Mean of -ln p(label) in nats, for probabilities (n, k) and labels (n,); p is floored at 1e-12."""
    scores, truth = _labelled_rows(probabilities, labels, "probabilities")
    if len(scores) == 0 or np.isnan(scores).any():
        return math.nan
    return float(-np.log(np.maximum(scores[np.arange(len(truth)), truth], LEAST_PROBABILITY)).mean())


def brier_score(probabilities: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """Mean squared distance between probabilities (n, k) and the one-hot labels (n,): 0 is best, 2 worst."""
    scores, truth = _labelled_rows(probabilities, labels, "probabilities")
    if len(scores) == 0:
        return math.nan
    missed = scores.copy()
    missed[np.arange(len(truth)), truth] -= 1.0
    return float((missed**2).sum(axis=1).mean())


def top_label_brier(confidence: npt.ArrayLike, correct: npt.ArrayLike) -> float:
    """Mean of (confidence - correct)^2: 0 is best, 1 worst."""
    stated, right = _outcomes(confidence, correct)
    return float(((stated - right) ** 2).mean()) if len(stated) else math.nan


def expected_calibration_error(confidence: npt.ArrayLike, correct: npt.ArrayLike, bins: int = 15) -> float:
    """Plain ECE over `bins` of equal width, in [0, 1]; biased upwards by about sqrt(bins / n).

    Source: Naeini et al. (AAAI 2015). Comparable with published figures; judge by the other two.
    """
    stated, right = _outcomes(confidence, correct)
    if len(stated) == 0 or np.isnan(stated).any():
        return math.nan
    where = _equal_width_bin(stated, bins)
    return float(np.abs(np.bincount(where, weights=stated - right)).sum() / len(stated))


def debiased_ece(confidence: npt.ArrayLike, correct: npt.ArrayLike, bins: int = 15) -> float:
    """ECE over `bins` of equal mass, less the bias that the noise of each bin's accuracy adds; in [0, 1].

    Kumar, Liang & Ma, "Verified uncertainty calibration" (NeurIPS 2019), estimate the bias by redrawing each bin's
    accuracy from a normal distribution; its mean is known in closed form (folded normal), so nothing is drawn here.
    """
    stated, right = _outcomes(confidence, correct)
    if len(stated) == 0 or np.isnan(stated).any():
        return math.nan
    inner_edges = np.unique(np.quantile(stated, np.arange(1, bins) / bins))
    where = np.searchsorted(inner_edges, stated, side="right")
    counts, hits = np.bincount(where), np.bincount(where, weights=right)
    gaps = np.abs(np.bincount(where, weights=stated) - hits) / np.maximum(counts, 1)
    # Laplace's rule keeps the noise of a small bin with no mistakes above zero.
    likely_accuracy = (hits + 1.0) / (counts + 2.0)
    noise = np.sqrt(likely_accuracy * (1.0 - likely_accuracy) / np.maximum(counts, 1))
    debiased = counts @ (2.0 * gaps - _folded_normal_mean(gaps, noise)) / len(stated)
    return float(min(max(debiased, 0.0), 1.0))


def smooth_ece(confidence: npt.ArrayLike, correct: npt.ArrayLike, weights: npt.ArrayLike | None = None) -> float:
    """smECE in [0, 1]: the kernel-smoothed ECE whose value equals its own bandwidth; no bins to choose.

    `weights` (n,): inverse sampling probabilities.

    Residuals are smoothed with a Gaussian reflected at 0 and 1, which is a product in the cosine basis. Bandwidths stop
    at 1/2048, the grid's resolution. Source: Blasiok & Nakkiran, "Smooth ECE" (2023).

    >>> round(smooth_ece([0.8] * 100, [True] * 60 + [False] * 40), 3)
    0.2
    """
    stated, right = _outcomes(confidence, correct)
    if len(stated) == 0 or np.isnan(stated).any():
        return math.nan
    share = np.ones(len(stated)) if weights is None else np.asarray(weights, dtype=np.float64)
    spectrum = dct(_on_grid(stated, (right - stated) * share / share.sum()))
    squared_frequency = (math.pi * np.arange(GRID_CELLS)) ** 2

    def excess(bandwidth: float) -> float:
        smoothed = idct(spectrum * np.exp(-0.5 * bandwidth**2 * squared_frequency))
        return float(np.abs(smoothed).sum()) - bandwidth

    if excess(NARROWEST_KERNEL) <= 0.0:
        return excess(NARROWEST_KERNEL) + NARROWEST_KERNEL
    return float(brentq(excess, NARROWEST_KERNEL, 1.0, xtol=1e-6)) if excess(1.0) < 0.0 else 1.0


def reliability_bins(confidence: npt.ArrayLike, correct: npt.ArrayLike, bins: int = 15) -> tuple[ReliabilityBin, ...]:
    """The reliability diagram, from low to high confidence, over `bins` of equal width; empty bins are left out."""
    stated, right = _outcomes(confidence, correct)
    if np.isnan(stated).any():
        return ()
    where = _equal_width_bin(stated, bins)
    return tuple(
        _reliability_bin(index / bins, (index + 1) / bins, stated[where == index], right[where == index])
        for index in np.unique(where)
    )


def calibration_drift_test(
    confidence: npt.ArrayLike, correct: npt.ArrayLike, tolerance: float = 0.02
) -> CalibrationDrift:
    """Test by betting that every confidence is right within `tolerance`, in [0, 0.5).

    Each label is bet on at the odds of its own confidence, moved by the tolerance, against log-odds that are shifted
    up or down, from any label on: a long calibrated past does not hide what comes late. It sees shifts of one
    direction, the common kind; labels must be outcome-blind and in order of arrival.
    Without usable rows the log e-values are 0 and the p-value 1.
    """
    if not 0.0 <= tolerance < 0.5:
        raise ValueError(f"tolerance is {tolerance:g}: it must lie in [0, 0.5)")
    stated, right = _outcomes(confidence, correct)
    stated, right = stated[~np.isnan(stated)], right[~np.isnan(stated)]
    highest, lowest = 1.0 - 1e-6, 1e-6
    least_accuracy = np.minimum(stated - tolerance, highest)
    most_accuracy = np.maximum(stated + tolerance, lowest)
    # A null that reaches 0 or 1 cannot be refuted from that side: no bet is placed on such a row.
    over = log_tilt_evidence_of_rise(right[least_accuracy > 0], least_accuracy[least_accuracy > 0], -TILTS)
    under = log_tilt_evidence_of_rise(right[most_accuracy < 1], most_accuracy[most_accuracy < 1], TILTS)
    gap = float((stated - right).mean()) if len(stated) else math.nan
    p_value = min(1.0, 2.0 * math.exp(-float(np.logaddexp(over, under))))
    return CalibrationDrift(len(stated), gap, over, under, p_value)


def _reliability_bin(low: float, high: float, confidence: FloatArray, correct: FloatArray) -> ReliabilityBin:
    accuracy = float(correct.mean())
    bounds = wilson_interval(accuracy, len(correct))
    return ReliabilityBin(low, high, len(correct), float(confidence.mean()), accuracy, *bounds)


def wilson_interval(share: float, n: float, alpha: float = 0.05) -> tuple[float, float]:
    """Wilson's score interval for a binomial share out of n > 0 (Wilson 1927)."""
    z = float(norm.isf(alpha / 2.0))
    centre = (share + z * z / (2.0 * n)) / (1.0 + z * z / n)
    reach = z / (1.0 + z * z / n) * math.sqrt(share * (1.0 - share) / n + z * z / (4.0 * n * n))
    return max(0.0, centre - reach), min(1.0, centre + reach)


def _equal_width_bin(confidence: FloatArray, bins: int) -> npt.NDArray[np.intp]:
    return np.minimum((confidence * bins).astype(np.intp), bins - 1)


def _folded_normal_mean(mean: FloatArray, deviation: FloatArray) -> FloatArray:
    """E|X| for X normal with a positive deviation."""
    ratio = mean / deviation
    folded: FloatArray = 2.0 * deviation * norm.pdf(ratio) + mean * (1.0 - 2.0 * norm.cdf(-ratio))
    return folded


def _on_grid(position: FloatArray, mass: FloatArray) -> FloatArray:
    """Masses at positions in [0, 1], shared out between the two nearest cell centres."""
    place = np.clip(position * GRID_CELLS - 0.5, 0.0, GRID_CELLS - 1.0)
    left = np.minimum(place.astype(np.intp), GRID_CELLS - 2)
    to_right = (place - left) * mass
    grid = np.zeros(GRID_CELLS)
    np.add.at(grid, left, mass - to_right)
    np.add.at(grid, left + 1, to_right)
    return grid


def _outcomes(confidence: npt.ArrayLike, correct: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
    stated, right = np.asarray(confidence, dtype=np.float64), np.asarray(correct, dtype=np.float64)
    if stated.ndim != 1 or stated.shape != right.shape:
        raise ValueError(f"confidence {stated.shape} and correct {right.shape} must be vectors of one length")
    if ((stated < 0.0) | (stated > 1.0)).any():
        raise ValueError("confidence must lie in [0, 1]: pass probabilities, not logits or percentages")
    if not ((right == 0.0) | (right == 1.0)).all():
        raise ValueError("correct must hold only true or false")
    return stated, right


def _labelled_rows(scores: npt.ArrayLike, labels: npt.ArrayLike, name: str) -> tuple[FloatArray, npt.NDArray[np.intp]]:
    table, truth = np.asarray(scores, dtype=np.float64), np.asarray(labels)
    if table.ndim != 2 or truth.shape != table.shape[:1]:
        raise ValueError(f"{name} {table.shape} must be (n, k) and labels {truth.shape} (n,)")
    truth = truth.astype(np.intp)
    if len(truth) and not (0 <= truth.min() and truth.max() < table.shape[1]):
        raise ValueError(f"labels must index the {table.shape[1]} columns of {name}: leave out labels without one")
    return table, truth
