"""Calibration of weighted rows that hang together in units, every figure with a 95 % interval.

Weights are inverse sampling probabilities. Intervals come from the bootstrap over units (Efron 1979; whole units, since
rows of one caller share a cause of failure): each resample only weighs the rows anew. A debiased measure of a resample
subtracts the noise of its own effective number of rows, so resamples scatter around the truth, not above it. Whether an
error differs from none is asked by redrawing the truth as promised (Broecker & Smith 2007).

Two kinds of rows: (confidence, correct) is all that an outcome holds, and any label can be judged by it. Full
probabilities, which a hold-out has, also tell NLL and Brier score over all classes, and calibration class by class.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import norm

from monitoring.stats.betting import FloatArray
from monitoring.stats.calibration import LEAST_PROBABILITY, smooth_ece, wilson_interval
from monitoring.stats.comparison import Interval

BINS = 15
CLASS_BINS = 5
RESAMPLES, REDRAWN = 200, 100
NOTHING = Interval(float("nan"), float("nan"), float("nan"))
ERRORS = ("ece_debiased", "smece", "classwise_ece")
Measure = Callable[[npt.NDArray[Any], FloatArray], float]
"""Of a truth (n,) and weights (n,)."""


@dataclass(frozen=True)
class ClassCalibration:
    """The answers of one class: how often they came true, less what they promised (`gap`: promised minus true)."""

    label: str
    n: int
    mean_confidence: float
    accuracy: Interval
    gap: Interval


def top_label_measures(
    confidence: npt.ArrayLike,
    correct: npt.ArrayLike,
    weights: npt.ArrayLike,
    units: npt.ArrayLike,
    *,
    rng: np.random.Generator,
) -> dict[str, Interval]:
    """`gap` (mean confidence minus accuracy), `ece_debiased`, `smece`, `brier` and `nll` of the answered label alone.

    All arguments (n,); `nll` is that of 'right' or 'wrong' at the stated confidence. nan without rows.
    """
    stated = np.asarray(confidence, dtype=np.float64)
    measures: dict[str, Measure] = {
        "gap": lambda right, given: _mean(stated - right, given),
        "ece_debiased": lambda right, given: weighted_ece(stated, right, given)[1],
        "smece": lambda right, given: smooth_ece(stated, right, given),
        "brier": lambda right, given: _mean((stated - right) ** 2, given),
        "nll": lambda right, given: _mean(_surprise(np.where(right > 0, stated, 1.0 - stated)), given),
    }
    right = np.asarray(correct, dtype=np.float64)
    return _intervals(
        measures, right, np.asarray(weights, dtype=np.float64), units, lambda: rng.random(len(stated)) < stated, rng
    )


def probability_measures(
    probabilities: npt.ArrayLike,
    labels: npt.ArrayLike,
    weights: npt.ArrayLike,
    units: npt.ArrayLike,
    *,
    rng: np.random.Generator,
) -> dict[str, Interval]:
    """`nll` in nats, `brier` over all classes (0 to 2), `ece_debiased` and `smece` of the first label, `classwise_ece`.

    `probabilities` (n, k); `labels` (n,) name their columns. Rows whose label has none cannot be judged by these.
    """
    table, truth = np.asarray(probabilities, dtype=np.float64), np.asarray(labels, dtype=np.intp)
    rows, first, confidence = np.arange(len(truth)), table.argmax(axis=1), table.max(axis=1, initial=0.0)
    squares, heaped = (table**2).sum(axis=1), table.cumsum(axis=1)
    measures: dict[str, Measure] = {
        "nll": lambda named, given: _mean(_surprise(table[rows, named]), given),
        "brier": lambda named, given: _mean(squares - 2.0 * table[rows, named] + 1.0, given),
        "ece_debiased": lambda named, given: weighted_ece(confidence, first == named, given)[1],
        "smece": lambda named, given: smooth_ece(confidence, first == named, given),
        "classwise_ece": lambda named, given: classwise_ece(table, named, given),
    }

    def as_promised() -> npt.NDArray[np.intp]:
        passed = heaped < rng.random((len(truth), 1)) * heaped[:, -1:]
        return np.asarray(passed.sum(axis=1), dtype=np.intp)

    return _intervals(measures, truth, np.asarray(weights, dtype=np.float64), units, as_promised, rng)


def class_calibration(
    predicted: npt.ArrayLike, confidence: npt.ArrayLike, correct: npt.ArrayLike, weights: npt.ArrayLike
) -> tuple[ClassCalibration, ...]:
    """Calibration of the answers of each predicted class, the widest gap first, with Wilson intervals.

    All arguments (n,). Needs no more than an outcome holds. Source: Gupta & Ramdas, "Top-label calibration and
    multiclass-to-binary reductions" (ICLR 2022), here with one bin a class.
    """
    named = np.asarray(predicted, dtype=np.str_)
    stated, right, weight = (np.asarray(values, dtype=np.float64) for values in (confidence, correct, weights))
    found = []
    for label in np.unique(named).tolist():
        rows = named == label
        share = float(np.average(right[rows], weights=weight[rows]))
        promised = float(np.average(stated[rows], weights=weight[rows]))
        low, high = wilson_interval(share, float(weight[rows].sum() ** 2 / (weight[rows] ** 2).sum()))
        gap = Interval(promised - share, promised - high, promised - low)
        found.append(ClassCalibration(label, int(rows.sum()), promised, Interval(share, low, high), gap))
    return tuple(sorted(found, key=lambda one: (-abs(one.gap.value), one.label)))


def classwise_ece(probabilities: FloatArray, labels: npt.NDArray[np.intp], weights: FloatArray) -> float:
    """Mean over the classes of the debiased ECE of 'this class or not'; in [0, 1], nan without rows.

    Kull et al., "Beyond temperature scaling" (NeurIPS 2019), debiased as in `weighted_ece`. Most rows give a class next
    to nothing, so few bins, and the noise of a bin is read at what it promises, not pulled towards one half.
    """
    if len(labels) == 0:
        return float("nan")
    of_classes = [
        _binned(column, (labels == number).astype(np.float64), weights, CLASS_BINS, prior=None)[1]
        for number, column in enumerate(probabilities.T)
    ]
    return float(np.mean(of_classes))


def weighted_ece(confidence: npt.ArrayLike, correct: npt.ArrayLike, weights: npt.ArrayLike) -> tuple[float, float]:
    """ECE of weighted rows over 15 bins of equal mass: as it reads, and less the bias that noise adds to it.

    With equal weights the second is `calibration.debiased_ece` (Kumar, Liang & Ma, NeurIPS 2019). nan without rows.
    """
    stated, right, weight = (np.asarray(values, dtype=np.float64) for values in (confidence, correct, weights))
    if len(stated) == 0:
        return float("nan"), float("nan")
    return _binned(stated, right, weight, BINS, prior=0.5)


def _intervals(
    measures: Mapping[str, Measure],
    truth: npt.NDArray[Any],
    weights: FloatArray,
    units: npt.ArrayLike,
    as_promised: Callable[[], npt.NDArray[Any]],
    rng: np.random.Generator,
) -> dict[str, Interval]:
    """Each measure of `truth` (n,) at `weights` (n,), with its interval over resamples of the `units` (n,).

    A calibration error cannot be below zero, where the bootstrap fails: the interval begins at zero unless the error is
    larger than 97.5 % of those read where confidences are right by construction (`as_promised` draws such a truth).
    """
    if len(weights) == 0:
        return dict.fromkeys(measures, NOTHING)
    values = {name: measure(truth, weights) for name, measure in measures.items()}
    _, unit = np.unique(np.asarray(units, dtype=np.str_), return_inverse=True)
    kinds = int(unit.max()) + 1
    resampled: dict[str, list[float]] = {name: [] for name in measures}
    for _ in range(RESAMPLES):
        kept = weights * np.bincount(rng.integers(kinds, size=kinds), minlength=kinds)[unit]
        for name, measure in measures.items():
            resampled[name].append(measure(truth, kept))
    bounds = {name: np.quantile(drawn, (0.025, 0.975)) for name, drawn in resampled.items()}
    errors = [name for name in measures if name in ERRORS]
    by_chance: dict[str, list[float]] = {name: [] for name in errors}
    for _ in range(REDRAWN):
        redrawn = as_promised()
        for name in errors:
            by_chance[name].append(measures[name](redrawn, weights))
    for name in errors:
        if values[name] <= np.quantile(by_chance[name], 0.975):
            bounds[name][0] = 0.0
    return {
        name: Interval(value, min(float(bounds[name][0]), value), max(float(bounds[name][1]), value))
        for name, value in values.items()
    }


def _mean(values: FloatArray, weights: FloatArray) -> float:
    return float(np.average(values, weights=weights))


def _surprise(probability: FloatArray) -> FloatArray:
    """-ln p, in nats."""
    return np.asarray(-np.log(np.maximum(probability, LEAST_PROBABILITY)))


def _binned(
    stated: FloatArray, right: FloatArray, weights: FloatArray, bins: int, *, prior: float | None
) -> tuple[float, float]:
    """ECE and debiased ECE over bins of equal mass. `prior`: where an accuracy is pulled to; None: to what was stated.

    Rows of weight zero count nowhere.
    """
    kept = weights > 0
    stated, right, weights = stated[kept], right[kept], weights[kept]
    order = np.argsort(stated, kind="stable")
    mass = np.cumsum(weights[order]) / weights.sum()
    inner = stated[order][np.minimum(np.searchsorted(mass, np.arange(1, bins) / bins), len(order) - 1)]
    where = np.searchsorted(np.unique(inner), stated, side="right")
    weight = np.bincount(where, weights=weights)
    filled = weight > 0
    hits = np.bincount(where, weights=weights * right)[filled]
    promised = np.bincount(where, weights=weights * stated)[filled]
    # Kish's effective number of rows
    weight, rows = weight[filled], weight[filled] ** 2 / np.bincount(where, weights=weights**2)[filled]
    gaps = np.abs(promised - hits) / weight
    # Laplace's rule keeps the noise of a small bin without mistakes above zero
    towards = promised / weight if prior is None else prior
    accuracy = np.clip((hits / weight * rows + 2.0 * towards) / (rows + 2.0), LEAST_PROBABILITY, 1.0)
    noise = np.sqrt(np.maximum(accuracy * (1.0 - accuracy), LEAST_PROBABILITY) / rows)
    read_as = 2.0 * noise * norm.pdf(gaps / noise) + gaps * (1.0 - 2.0 * norm.cdf(-gaps / noise))
    share = weight / weight.sum()
    return float(share @ gaps), float(np.clip(share @ (2.0 * gaps - read_as), 0.0, 1.0))
