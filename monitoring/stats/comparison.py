"""Anytime-valid verdicts from labels: accuracy, candidate against champion, sample ratio, rise of the error rate.

The unit of every test is the assignment key: the caller averages all predictions of a key into one value, which enters
once, when it has matured, in the order of maturity. (Per request, sticky keys with uneven failure rates make an A/A
test alarm most of the time.) Looking after every unit is safe; see `betting` for why.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from monitoring.stats.betting import (
    TILTS,
    BoundedStream,
    FloatArray,
    as_vector,
    bounded_stream,
    check_alpha,
    confidence_bounds,
    likeliest_start,
    log_evidence_above,
    log_evidence_below,
    log_evidence_of_rise,
    log_tilt_evidence,
    sampling_weights,
)

Verdict = Literal["better", "worse", "inconclusive"]


@dataclass(frozen=True)
class Interval:
    """A point estimate (nan without data) and the bounds around it."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Comparison:
    """Candidate minus champion, in accuracy (-1 to 1), after n matured units.

    `low` and `high` bound the difference, each at confidence 1 - alpha and at every look at once, so that 'better' is
    proven just where `low` lies above -margin, and 'worse' where `high` lies below. `log_e_better` is the log
    e-value against 'difference <= -margin', `log_e_harm` against 'difference >= -margin'; the verdict follows from
    the one that reaches log(1/alpha), harm first. `difference` is nan until it can be estimated.
    """

    n: int
    n_candidate: int
    n_champion: int
    difference: float
    low: float
    high: float
    log_e_better: float
    log_e_harm: float
    verdict: Verdict


def mean_confidence_sequence(
    values: npt.ArrayLike,
    sampling_probability: npt.ArrayLike | None = None,
    *,
    alpha: float = 0.05,
    low: float = 0.0,
    high: float = 1.0,
    smallest_probability: float | None = None,
) -> Interval:
    """Confidence sequence for the mean of values (n,) in [low, high], such as accuracy from matured labels.

    `sampling_probability` (n,) in (0, 1] is the chance with which each unit was chosen for labelling (default: all
    were); only outcome-blind labels may enter. `smallest_probability`: see `betting.sampling_weights`. Without values
    the interval is [low, high] and its value nan. Raises ValueError on values outside of the bounds and on bad
    probabilities. Source: Waudby-Smith & Ramdas (2024); here with a mixture over fixed stakes.
    """
    check_alpha(alpha)
    checked = as_vector(values, "values")
    weight = sampling_weights(sampling_probability, len(checked), smallest_probability)
    stream = bounded_stream(checked, low, high, weight)
    bounds = confidence_bounds(stream, alpha, (low, high))
    return Interval(_propensity_mean(checked, sampling_probability), *bounds)


def paired_comparison(
    differences: npt.ArrayLike,
    probabilities: npt.ArrayLike | None = None,
    *,
    alpha: float = 0.05,
    margin: float = 0.0,
    smallest_probability: float | None = None,
) -> Comparison:
    """Compare two models on the same inputs (shadow): exact on discordant pairs.

    `differences` (n,) in [-1, 1]: per unit, the mean of candidate-correct minus champion-correct. `probabilities` (n,):
    sampling probability of the unit's labels (default: all labelled). 'better' means that difference > -margin is
    proven at alpha, 'worse' that difference < -margin is. Raises ValueError on bad input.

    >>> paired_comparison([1.0] * 30 + [0.0] * 70).verdict  # the candidate wins all 30 discordant pairs
    'better'
    """
    _check_test(alpha, margin)
    checked = as_vector(differences, "differences")
    weight = sampling_weights(probabilities, len(checked), smallest_probability)
    stream = bounded_stream(checked, -1.0, 1.0, weight)
    difference = _propensity_mean(checked, probabilities)
    return _compare(stream, difference, len(checked), len(checked), alpha, margin)


def unpaired_comparison(
    arm: npt.ArrayLike,
    values: npt.ArrayLike,
    share: npt.ArrayLike,
    probabilities: npt.ArrayLike | None = None,
    *,
    alpha: float = 0.05,
    margin: float = 0.0,
    smallest_probability: float | None = None,
) -> Comparison:
    """Compare two models on split traffic (A/B), while the split may change.

    `arm` (n,): whether the unit is the candidate's; `values` (n,) in [0, 1]: its mean correctness; `share` in (0, 1),
    number or (n,): the candidate's traffic share when the unit was assigned; `probabilities` as for
    `paired_comparison`. Each unit gives an unbiased guess of the difference,
    Z = A (X - m) / share - (1 - A) (Y - m) / (1 - share), with m the champion's mean over earlier units, which only
    lowers the variance. Verdicts as for `paired_comparison`. Raises ValueError on bad input.
    """
    _check_test(alpha, margin)
    correct = bounded_stream(values, 0.0, 1.0, 1.0).values
    is_candidate, candidate_share = _assignment(arm, share, len(correct))
    weight = sampling_weights(probabilities, len(correct), smallest_probability)
    stream = _difference_stream(is_candidate, correct, candidate_share, weight)
    chance = np.where(is_candidate, candidate_share, 1.0 - candidate_share)
    chance = chance if probabilities is None else chance * np.asarray(probabilities, dtype=np.float64)
    difference = _propensity_mean(correct[is_candidate], chance[is_candidate]) - _propensity_mean(
        correct[~is_candidate], chance[~is_candidate]
    )
    n_candidate = int(is_candidate.sum())
    return _compare(stream, difference, n_candidate, len(correct) - n_candidate, alpha, margin)


def sample_ratio_e_value(arm: npt.ArrayLike, share: npt.ArrayLike) -> float:
    """Log e-value against 'units were assigned with the stated probability': a sample-ratio mismatch when large.

    `arm` (n,): whether the unit went to the candidate; `share` in (0, 1), number or (n,): its stated probability. All
    assigned units count, labelled or not. Reaching log(1/alpha) at any look is an alarm at level alpha.
    """
    assigned = np.atleast_1d(np.asarray(arm, dtype=bool))
    is_candidate, candidate_share = _assignment(assigned, share, len(assigned))
    return log_tilt_evidence(is_candidate.astype(np.float64), candidate_share, np.concatenate((-TILTS, TILTS)))


def error_rate_rise(
    errors: npt.ArrayLike,
    baseline_rate: float,
    probabilities: npt.ArrayLike | None = None,
    *,
    smallest_probability: float | None = None,
) -> float:
    """Log e-value against 'the error rate never exceeds `baseline_rate`', for a rise that may begin at any unit.

    `errors` (n,) in [0, 1], in order of maturity. The baseline is taken as known: give the upper bound of its interval.
    With complaints among the labels the rate is too high by nature, so the result may alarm but never promote.

    >>> error_rate_rise([0.0] * 200 + [1.0] * 10, baseline_rate=0.1) > math.log(1 / 0.001)
    True
    """
    return log_evidence_of_rise(
        _error_stream(errors, baseline_rate, probabilities, smallest_probability), baseline_rate
    )


def error_rate_rise_start(
    errors: npt.ArrayLike, baseline_rate: float, probabilities: npt.ArrayLike | None = None
) -> int:
    """The unit (0-based) at which a rise above `baseline_rate` most likely began; arguments as `error_rate_rise`.

    >>> error_rate_rise_start([0.0] * 200 + [1.0] * 10, baseline_rate=0.1)
    200
    """
    return likeliest_start(_error_stream(errors, baseline_rate, probabilities, None), baseline_rate)


def _error_stream(
    errors: npt.ArrayLike, baseline_rate: float, probabilities: npt.ArrayLike | None, smallest: float | None
) -> BoundedStream:
    if not 0.0 < baseline_rate < 1.0:
        raise ValueError(f"baseline_rate is {baseline_rate:g}: it must lie strictly between 0 and 1")
    checked = as_vector(errors, "errors")
    return bounded_stream(checked, 0.0, 1.0, sampling_weights(probabilities, len(checked), smallest))


def _difference_stream(
    is_candidate: npt.NDArray[np.bool_], correct: FloatArray, share: FloatArray, weight: FloatArray
) -> BoundedStream:
    """Unbiased guesses of the difference, one a unit, with the bounds known before each."""
    centre = _earlier_mean(correct, weight * ~is_candidate)
    deviation = correct - centre
    guess = np.where(is_candidate, deviation / share, -deviation / (1.0 - share))
    least = -np.maximum(centre / share, (1.0 - centre) / (1.0 - share))
    most = np.maximum((1.0 - centre) / share, centre / (1.0 - share))
    return bounded_stream(guess, least, most, weight)


def _earlier_mean(values: FloatArray, weight: FloatArray) -> FloatArray:
    """Weighted mean of the values before each one, starting from a faint one half."""
    total = np.cumsum(weight * values) - weight * values
    count = np.cumsum(weight) - weight
    return np.clip((total + 0.5) / (count + 1.0), 0.0, 1.0)


def _compare(
    stream: BoundedStream, difference: float, n_candidate: int, n_champion: int, alpha: float, margin: float
) -> Comparison:
    log_e_better = log_evidence_above(stream, -margin)
    log_e_harm = log_evidence_below(stream, -margin)
    low, high = confidence_bounds(stream, 2 * alpha, (-1.0, 1.0))  # each side spends alpha, as its test does
    verdict = _verdict(log_e_better, log_e_harm, alpha)
    return Comparison(len(stream), n_candidate, n_champion, difference, low, high, log_e_better, log_e_harm, verdict)


def _verdict(log_e_better: float, log_e_harm: float, alpha: float) -> Verdict:
    threshold = math.log(1.0 / alpha)
    if log_e_harm >= threshold:
        return "worse"
    if log_e_better >= threshold:
        return "better"
    return "inconclusive"


def _propensity_mean(values: FloatArray, probabilities: npt.ArrayLike | None) -> float:
    """Self-normalised inverse-propensity mean (Hajek); nan without values."""
    if len(values) == 0:
        return math.nan
    weights = None if probabilities is None else 1.0 / np.asarray(probabilities, dtype=np.float64)
    return float(np.average(values, weights=weights))


def _assignment(arm: npt.ArrayLike, share: npt.ArrayLike, n: int) -> tuple[npt.NDArray[np.bool_], FloatArray]:
    is_candidate = np.asarray(arm, dtype=bool)
    if is_candidate.shape != (n,):
        raise ValueError(f"arm has shape {is_candidate.shape} for {n} values: give one entry for each unit")
    candidate_share = np.broadcast_to(np.asarray(share, dtype=np.float64), (n,))
    if not ((candidate_share > 0.0) & (candidate_share < 1.0)).all():
        raise ValueError("share must lie strictly between 0 and 1: leave out units that had no choice of arm")
    return is_candidate, candidate_share


def _check_test(alpha: float, margin: float) -> None:
    check_alpha(alpha)
    if not 0.0 <= margin < 1.0:
        raise ValueError(f"margin is {margin:g}: it must lie in [0, 1)")
