"""Accuracy without labels: what the signals of a window's predictions say about how many of them are right.

A regression of correctness on the signals (confidence, entropy, margin, similarity to what was trained on, doubt) is
learnt where labels exist and averaged over the window. It is right about traffic that has slowly become stranger, and
flatters what is wholly new: there it extends what it has learnt to where it has learnt nothing. So answers in more
doubt than nearly all of the baseline's, as far as there are more of them than usual, count as wrong, by so much of them
as labels have not taught otherwise.

The interval joins three doubts: the luck of the draw, the regression's own, and the share of traffic that is unlike
anything labelled, about which it may be wholly wrong. No such method can see that the meaning of labels has changed
under unchanged signals (concept shift): only labels can.

Thresholds on doubt to estimate accuracy are from Garg et al., "Leveraging unlabeled data to predict out-of-distribution
performance" (ICLR 2022); there the threshold lies where the baseline's errors begin, which blames slow drift too.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Self

import numpy as np
import numpy.typing as npt
from scipy.special import expit, softmax
from scipy.stats import norm

from monitoring.stats.betting import FloatArray
from monitoring.stats.binning import finite_rows
from monitoring.stats.logistic import logistic_posterior
from monitoring.stats.support import EmpiricalReference, Unfamiliar, unfamiliar_traffic

Labelled = tuple[npt.ArrayLike, npt.ArrayLike, npt.ArrayLike | None]
"""Signals (n, d), correctness (n,) and sampling weights (n,), 1 / probability of being labelled, or None."""

INTERCEPT_DEVIATION = 5.0
SLOPE_DEVIATION = 2.0
DRIFT_PRIOR = {0.0: 0.5, 0.25: 0.125, 0.5: 0.125, 1.0: 0.125, 2.0: 0.125}
"""Belief in how far each coefficient has moved since the baseline, in standard deviations, before new labels."""
BEYOND_COMPARE = 0.98
"""Share of the baseline's answers that are less in doubt than what counts as new."""
LABELS_THAT_TEACH = 10.0
"""Labels of new answers after which half of what the regression claims for them is believed."""
FEWEST_LABELS = 30
FEWEST_ROWS = 30
TOLERATED_DOUBT = 0.15


@dataclass(frozen=True)
class AccuracyEstimate:
    """Estimated accuracy of a window in [0, 1], with bounds for the accuracy that its labels would show.

    Not `trustworthy`: `reason` begins with 'cannot tell' and the interval is wide. value is nan for an empty window.
    """

    value: float
    low: float
    high: float
    trustworthy: bool
    reason: str


@dataclass(frozen=True)
class AccuracyEstimator:
    """Regression of correctness on d signals, and the signals it was learnt on; a few kB whatever the data's size.

    The last of the signals is that of doubt: the higher it is, the stranger is the answer.
    """

    centre: FloatArray
    scale: FloatArray
    coefficients: FloatArray
    covariance: FloatArray
    labels: float
    baseline_accuracy: float
    baseline: EmpiricalReference
    learnt: EmpiricalReference

    @classmethod
    def fit(cls, signals: npt.ArrayLike, correct: npt.ArrayLike, reference: npt.ArrayLike | None = None) -> Self:
        """Learn from held-out or out-of-fold signals (n, d) and correctness (n,), never from rows trained on.

        `reference` (r, d): unlabelled signals of the same traffic, to know its usual range better. Rows that are not
        finite are left out. Works, and says so in its estimates, with few rows or none. Raises ValueError on a shape.
        """
        table, right, weights = _labelled_rows(signals, correct, None)
        usual = table if reference is None else _finite(_signal_table(reference, table.shape[1]))
        centre = usual.mean(axis=0) if len(usual) else np.zeros(table.shape[1])
        deviation = usual.std(axis=0) if len(usual) else np.ones(table.shape[1])
        scale = np.where(deviation > 1e-9 * (1.0 + np.abs(centre)), deviation, 1.0)
        size = table.shape[1] + 1
        prior_deviation = np.full(size, SLOPE_DEVIATION)
        prior_deviation[0] = INTERCEPT_DEVIATION
        features = _features(table, centre, scale)
        posterior = logistic_posterior(features, right, weights, np.zeros(size), np.diag(prior_deviation**2))
        accuracy = float(expit(_features(usual, centre, scale) @ posterior.mean).mean()) if len(usual) else 0.5
        baseline = EmpiricalReference.of(usual)
        nothing = EmpiricalReference.of(table[:0])
        return cls(centre, scale, posterior.mean, posterior.covariance, float(len(table)), accuracy, baseline, nothing)

    def refit_with(self, signals: npt.ArrayLike, correct: npt.ArrayLike, weights: npt.ArrayLike | None = None) -> Self:
        """The estimator after new labels: signals (n, d), correctness (n,), sampling weights (n,) or None.

        What was known is the prior, loosened by as much as the new labels show that it has gone stale (Bayesian model
        averaging over DRIFT_PRIOR). Labels must be outcome-blind: a random sample, or all. Raises ValueError.
        """
        table, right, row_weights = _labelled_rows(signals, correct, weights, len(self.centre))
        if len(table) == 0:
            return self
        features = _features(table, self.centre, self.scale)
        identity = np.eye(len(self.coefficients))
        guesses = [
            logistic_posterior(features, right, row_weights, self.coefficients, self.covariance + drift**2 * identity)
            for drift in DRIFT_PRIOR
        ]
        belief = softmax(np.log(list(DRIFT_PRIOR.values())) + [guess.log_evidence for guess in guesses])
        means = np.array([guess.mean for guess in guesses])
        mean = belief @ means
        between = (means - mean).T @ (belief[:, None] * (means - mean))
        within = np.tensordot(belief, np.array([guess.covariance for guess in guesses]), axes=1)
        return replace(
            self,
            coefficients=mean,
            covariance=within + between,
            labels=self.labels + float(row_weights.sum()),
            learnt=self.learnt.joined_with(table, row_weights),
        )

    def predict(self, signals: npt.ArrayLike) -> FloatArray:
        """Chance of being correct (m,) for each row of signals (m, d); nan where a signal is not finite."""
        table = _signal_table(signals, len(self.centre))
        chance: FloatArray = expit(_features(table, self.centre, self.scale) @ self.coefficients)
        return chance

    def estimate(
        self, signals: npt.ArrayLike, labelled: Labelled | None = None, alpha: float = 0.05
    ) -> AccuracyEstimate:
        """Accuracy of the window with signals (m, d), and bounds that hold it with confidence 1 - alpha.

        `labelled`: outcome-blind labels of the same or recent traffic, learnt from for this estimate only (see
        `refit_with`). Raises ValueError on a shape.
        """
        if labelled is not None:
            return self.refit_with(*labelled).estimate(signals, alpha=alpha)
        table = _signal_table(signals, len(self.centre))
        usable = _finite(table)
        if len(usable) == 0:
            return AccuracyEstimate(math.nan, 0.0, 1.0, False, "cannot tell: the window has no usable predictions")
        features = _features(usable, self.centre, self.scale)
        chance = self.predict(usable)
        value = float(chance.mean())
        low, high = self._sampling_bounds(features, chance, alpha)
        unfamiliar = unfamiliar_traffic(usable, self.baseline, self.learnt)
        low -= self._claimed(value, unfamiliar.most, unfamiliar.ignorance)
        high += self._unclaimed(value, unfamiliar.most, unfamiliar.ignorance)
        unfounded = self._unfounded(chance, usable[:, -1])
        value, low = value - unfounded, low - unfounded
        broken = 1.0 - len(usable) / len(table)
        low, high = max(0.0, low) * (1.0 - broken), min(1.0, high) * (1.0 - broken) + broken
        problem = self._problem(unfamiliar, broken, len(usable))
        return AccuracyEstimate(value, low, high, problem is None, problem or _assurance(unfamiliar))

    def to_arrays(self) -> dict[str, npt.NDArray[np.float64]]:
        """Everything as float arrays, for npz."""
        plain = {
            f.name: np.asarray(getattr(self, f.name)) for f in fields(self) if f.name not in ("baseline", "learnt")
        }
        return plain | self.baseline.to_arrays("baseline_") | self.learnt.to_arrays("learnt_")

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[np.float64]]) -> Self:
        """The inverse of `to_arrays`. Raises KeyError on a missing array."""
        return cls(
            centre=np.asarray(arrays["centre"]),
            scale=np.asarray(arrays["scale"]),
            coefficients=np.asarray(arrays["coefficients"]),
            covariance=np.asarray(arrays["covariance"]),
            labels=float(arrays["labels"]),
            baseline_accuracy=float(arrays["baseline_accuracy"]),
            baseline=EmpiricalReference.from_arrays(arrays, "baseline_"),
            learnt=EmpiricalReference.from_arrays(arrays, "learnt_"),
        )

    def _sampling_bounds(self, features: FloatArray, chance: FloatArray, alpha: float) -> tuple[float, float]:
        """Bounds from the luck of the draw and the regression's doubt about itself."""
        z = float(norm.isf(alpha / 2.0))
        value, rows = float(chance.mean()), len(chance)
        # The labels of the window are whole numbers: half a row is the usual correction for continuity.
        luck = z * math.sqrt(float((chance * (1.0 - chance)).sum())) / rows + 0.5 / rows
        slope = (chance * (1.0 - chance)) @ features / rows
        spread = self.covariance @ slope
        # The coefficients, at z deviations, that move the window's accuracy most.
        extreme = z * spread / math.sqrt(max(float(slope @ spread), 1e-300))
        pessimist = float(expit(features @ (self.coefficients - extreme)).mean())
        optimist = float(expit(features @ (self.coefficients + extreme)).mean())
        return value - math.hypot(luck, value - pessimist), value + math.hypot(luck, optimist - value)

    def _unfounded(self, chance: FloatArray, doubt: FloatArray) -> float:
        """What the regression's chances (n,) claim for answers in doubts (n,) that nothing labelled is like."""
        threshold = float(np.quantile(self.baseline.quantiles[-1], BEYOND_COMPARE))
        beyond = doubt > threshold
        excess = float(beyond.mean()) - self.baseline.share_above(threshold)
        if excess <= 0.0 or self.baseline.rows == 0:
            return 0.0
        taught = self.learnt.rows * max(self.learnt.share_above(threshold) - self.baseline.share_above(threshold), 0.0)
        return excess * float(chance[beyond].mean()) / (1.0 + taught / LABELS_THAT_TEACH)

    def _claimed(self, value: float, share: float, ignorance: float) -> float:
        """What the regression counts as right among the new share of the traffic, as far as it may be mistaken.

        The rest of the window is as right as the baseline, and what the value adds to that it claims for what is new.
        """
        return min(max(value - (1.0 - share) * self.baseline_accuracy, 0.0), share, share * ignorance)

    def _unclaimed(self, value: float, share: float, ignorance: float) -> float:
        """What it counts as wrong there, as far as it may be mistaken."""
        return min(max(1.0 - value - (1.0 - share) * (1.0 - self.baseline_accuracy), 0.0), share, share * ignorance)

    def _problem(self, unfamiliar: Unfamiliar, broken: float, rows: int) -> str | None:
        if self.labels < FEWEST_LABELS:
            return f"cannot tell: learnt from {self.labels:.0f} labels, and {FEWEST_LABELS} are the least"
        if rows < FEWEST_ROWS:
            return f"cannot tell: the window has {rows} usable predictions, and {FEWEST_ROWS} are the least"
        if broken > TOLERATED_DOUBT:
            return f"cannot tell: {broken:.0%} of the window's signals are not numbers"
        if unfamiliar.most * unfamiliar.ignorance > TOLERATED_DOUBT:
            return f"cannot tell: {_extent(unfamiliar)}; label some of it"
        return None


def _assurance(unfamiliar: Unfamiliar) -> str:
    if unfamiliar.most > 0.0:
        return f"{_extent(unfamiliar)}, which the interval allows for"
    return "the traffic is like the baseline"


def _extent(unfamiliar: Unfamiliar) -> str:
    labels = (
        f"and {unfamiliar.labels:.0f} labels come from it" if unfamiliar.labels >= 1.0 else "and none of it labelled"
    )
    return f"between {unfamiliar.least:.0%} and {unfamiliar.most:.0%} of the traffic is unlike the baseline {labels}"


def _features(table: FloatArray, centre: FloatArray, scale: FloatArray) -> FloatArray:
    return np.column_stack((np.ones(len(table)), (table - centre) / scale))


def _signal_table(signals: npt.ArrayLike, columns: int | None = None) -> FloatArray:
    table = np.asarray(signals, dtype=np.float64)
    if table.ndim != 2 or columns not in (None, table.shape[1]):
        raise ValueError(f"signals have shape {table.shape}: give (rows, {columns or 'signals'})")
    return table


def _finite(table: FloatArray) -> FloatArray:
    return table[finite_rows(table)]


def _labelled_rows(
    signals: npt.ArrayLike, correct: npt.ArrayLike, weights: npt.ArrayLike | None, columns: int | None = None
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Finite rows, their correctness, and weights that add up to the effective number of rows (Kish)."""
    table = _signal_table(signals, columns)
    right = np.asarray(correct, dtype=np.float64)
    weight = np.ones(len(table)) if weights is None else np.asarray(weights, dtype=np.float64)
    if right.shape != (len(table),) or weight.shape != (len(table),):
        raise ValueError(f"correct {right.shape} and weights {weight.shape} must match {len(table)} rows of signals")
    if not (np.isfinite(weight).all() and (weight > 0.0).all()):
        raise ValueError("weights must be positive numbers: leave out rows that were not sampled at random")
    if ((right < 0.0) | (right > 1.0)).any():
        raise ValueError("correct must hold true or false, or shares in [0, 1]")
    kept = np.isfinite(table).all(axis=1) & np.isfinite(right)
    table, right, weight = table[kept], right[kept], weight[kept]
    return table, right, weight * weight.sum() / (weight @ weight) if len(weight) else weight
