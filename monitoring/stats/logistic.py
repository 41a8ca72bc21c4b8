"""Bayesian logistic regression by Laplace's method: what labels say about the chance of being correct."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from monitoring.stats.betting import FloatArray

MAX_STEPS = 50
CONVERGED = 1e-8


@dataclass(frozen=True)
class LogisticPosterior:
    """Normal approximation of the posterior of coefficients (p,), with the log evidence of the labels seen."""

    mean: FloatArray
    covariance: FloatArray
    log_evidence: float


def logistic_posterior(
    features: FloatArray, outcome: FloatArray, weights: FloatArray, prior_mean: FloatArray, prior_covariance: FloatArray
) -> LogisticPosterior:
    """Update a normal prior (p,), (p, p) by weighted outcomes (n,) in [0, 1] with features (n, p).

    Newton's method with halved steps on the log posterior, which is concave, so it cannot miss the mode. The log
    evidence is Laplace's approximation (MacKay 1992).
    """
    prior_precision = np.asarray(np.linalg.inv(prior_covariance), dtype=np.float64)

    def log_joint(candidate: FloatArray) -> float:
        score = features @ candidate
        off = candidate - prior_mean
        return float(weights @ (outcome * score - np.logaddexp(0.0, score)) - 0.5 * off @ prior_precision @ off)

    def precision_at(candidate: FloatArray) -> FloatArray:
        chance = expit(features @ candidate)
        information = weights * chance * (1.0 - chance)
        return np.asarray((features * information[:, None]).T @ features + prior_precision, dtype=np.float64)

    mean, height = prior_mean, log_joint(prior_mean)
    for _ in range(MAX_STEPS):
        gradient = features.T @ (weights * (outcome - expit(features @ mean))) - prior_precision @ (mean - prior_mean)
        step = np.linalg.solve(precision_at(mean), gradient)
        if gradient @ step < CONVERGED:
            break
        mean, height = _climb(log_joint, mean, height, step)
    precision = precision_at(mean)
    covariance = np.asarray(np.linalg.inv(precision), dtype=np.float64)
    log_evidence = height + 0.5 * (_log_determinant(prior_precision) - _log_determinant(precision))
    return LogisticPosterior(mean, covariance, log_evidence)


def _climb(
    log_joint: Callable[[FloatArray], float], mean: FloatArray, height: float, step: FloatArray
) -> tuple[FloatArray, float]:
    """The first of full, half, quarter ... steps that leads higher; stays where none does."""
    for halvings in range(MAX_STEPS):
        candidate = np.asarray(mean + step * 0.5**halvings, dtype=np.float64)
        reached = log_joint(candidate)
        if reached > height:
            return candidate, reached
    return mean, height


def _log_determinant(matrix: FloatArray) -> float:
    return float(np.linalg.slogdet(matrix)[1])
