"""Has a rate changed from what it was? Evidence from a stream alone, where no baseline rate is known beforehand.

A slice of the traffic may always have been harder than the rest, so that its error rate says little; a rise of it does.
The log e-value here is that of universal inference: the likelihood of the stream under a mixture over the moment of
the change and over the rates before and after it (Jeffreys' prior each), divided by the largest likelihood that any
constant rate gives. While the rate is constant, whatever it is, the chance that the e-value ever reaches 1/alpha is at
most alpha (Ville): one may look after every unit.

Units may be fractions in [0, 1], and weights in (0, 1] make up for a sampling probability: by convexity and Bernoulli's
inequality the likelihood ratio with fractional counts stays a supermartingale. Source: Wasserman, Ramdas &
Balakrishnan, "Universal inference" (PNAS 2020), section on anytime-valid use.
"""

import math

import numpy as np
import numpy.typing as npt
from scipy.special import betaln, logsumexp, xlogy

from monitoring.stats.betting import FloatArray, bounded_stream, sampling_weights

_HALF_TIME = 100.0
"""Units by which half of the prior on the moment of the change is spent."""


def log_evidence_of_change(values: npt.ArrayLike, probabilities: npt.ArrayLike | None = None) -> float:
    """Log e-value against 'the mean of the values (n,) in [0, 1], in order, never changes'; 0 without values.

    `probabilities` (n,): with which each unit was sampled (default: all were). Raises ValueError on bad input.

    >>> log_evidence_of_change([0.0, 0.0, 0.0, 1.0] * 50 + [1.0, 1.0, 0.0] * 20) > math.log(1 / 0.001)
    True
    """
    hits, misses = _running_counts(values, probabilities)
    if len(hits) < 2:
        return 0.0
    before = np.arange(len(hits) - 1)
    unspent = _HALF_TIME / (_HALF_TIME + np.array([0.0, *(before + 1.0)]))
    parts = np.log(-np.diff(unspent)) + _mixture(hits[:-1], misses[:-1])
    parts += _mixture(hits[-1] - hits[:-1], misses[-1] - misses[:-1])
    unchanged = math.log(unspent[-1]) + float(_mixture(hits[-1:], misses[-1:])[0])
    total = hits[-1] + misses[-1]
    constant = float(xlogy(hits[-1], hits[-1] / total) + xlogy(misses[-1], misses[-1] / total))
    return float(np.logaddexp(logsumexp(parts), unchanged)) - constant


def likeliest_change(values: npt.ArrayLike, probabilities: npt.ArrayLike | None = None) -> int:
    """The unit (0-based) from which on the rate was most likely another; 0 with fewer than two values.

    >>> likeliest_change([0.0] * 100 + [1.0] * 20)
    100
    """
    hits, misses = _running_counts(values, probabilities)
    if len(hits) < 2:
        return 0
    parts = _mixture(hits[:-1], misses[:-1]) + _mixture(hits[-1] - hits[:-1], misses[-1] - misses[:-1])
    return int(np.argmax(parts)) + 1


def _running_counts(values: npt.ArrayLike, probabilities: npt.ArrayLike | None) -> tuple[FloatArray, FloatArray]:
    """Weighted sums of the values and of their complements up to each unit, (n,) each."""
    checked = np.asarray(values, dtype=np.float64)
    weight = sampling_weights(probabilities, len(checked))
    stream = bounded_stream(checked, 0.0, 1.0, weight)
    return np.cumsum(stream.weight * stream.values), np.cumsum(stream.weight * (1.0 - stream.values))


def _mixture(hits: FloatArray, misses: FloatArray) -> FloatArray:
    """Log likelihood of counts (k,), averaged over the rate with Jeffreys' prior."""
    averaged: FloatArray = betaln(np.maximum(hits, 0.0) + 0.5, np.maximum(misses, 0.0) + 0.5) - betaln(0.5, 0.5)
    return averaged
