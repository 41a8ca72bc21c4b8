"""How true the confidences of recent answers are, by outcome-blind labels: every figure with its interval.

An outcome holds the answer and its confidence, and the log no more than the likeliest classes. So live figures are of
the answered label alone: right or wrong, at the confidence stated. What needs the whole distribution (NLL and Brier
score over all classes, calibration class by class) is measured on hold-outs, where the model is run again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from monitoring.core.types import Interval, Outcome
from monitoring.quality import blind_outcomes
from monitoring.stats.calibration import wilson_interval
from monitoring.stats.calibration_measures import ClassCalibration, class_calibration, top_label_measures

MAX_LABELS = 5_000
LEAST_UNITS = 20
"""Of fewer callers, resampling them knows too little to bound anything: of one, it would claim to be certain."""
MEASURES: Mapping[str, str] = {
    "gap": "promised minus true accuracy",
    "ece_debiased": "calibration error, debiased",
    "smece": "calibration error, smoothed",
    "brier": "Brier score of the answer",
    "nll": "log loss of the answer, nats",
}


@dataclass(frozen=True)
class CalibrationReading:
    """Of the newest `labelled` answers: each of MEASURES, and how far each answered class is off, the worst first.

    Bounds are nan where so few callers were labelled that nothing can be said.
    """

    labelled: int
    measures: Mapping[str, Interval]
    classes: tuple[ClassCalibration, ...]


def read_calibration(outcomes: Sequence[Outcome], *, rng: np.random.Generator) -> CalibrationReading | None:
    """From the newest 5,000 outcome-blind labels, weighted by 1 / sampling probability; None without any.

    Answers whose confidence is no number promised nothing, and are left out.
    """
    stated = [outcome for outcome in blind_outcomes(outcomes) if math.isfinite(outcome.confidence)]
    kept = sorted(stated, key=lambda outcome: (outcome.predicted_at, outcome.prediction_id))[-MAX_LABELS:]
    if not kept:
        return None
    confidence = np.array([outcome.confidence for outcome in kept])
    correct = np.array([outcome.correct for outcome in kept])
    weights = np.array([1.0 / outcome.sampling_probability for outcome in kept])
    units = [outcome.unit for outcome in kept]
    found = top_label_measures(confidence, correct, weights, units, rng=rng)
    enough = len(set(units)) >= LEAST_UNITS
    if correct.all() or not correct.any():  # resampling draws the same again and again; the next answer may differ
        share, promised = float(correct[0]), float(np.average(confidence, weights=weights))
        low, high = wilson_interval(share, len(set(units)))
        gap = found["gap"]
        found["gap"] = replace(gap, low=min(gap.low, promised - high), high=max(gap.high, promised - low))
    return CalibrationReading(
        labelled=len(kept),
        measures={
            name: Interval(one.value, one.low, one.high) if enough else Interval(one.value, math.nan, math.nan)
            for name, one in found.items()
        },
        classes=class_calibration([outcome.predicted for outcome in kept], confidence, correct, weights),
    )
