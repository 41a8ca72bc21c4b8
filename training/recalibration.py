"""What a recalibration has shown: the same answers with their confidences before and after, measured side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monitoring.core.plain import plain
from monitoring.core.types import Interval
from monitoring.stats.calibration import LEAST_PROBABILITY, reliability_bins
from monitoring.stats.calibration_measures import class_calibration, probability_measures, weighted_ece
from training.evaluate import Answers, measure
from training.gates import GateResult, Recalibrated
from training.snapshot import Part

MAX_MEASURED = 2_000
RELIABILITY_BINS = 10


@dataclass(frozen=True)
class Answered:
    """The same labelled texts as the champion answers them, and as its recalibration does."""

    before: Answers
    after: Answers


def known_rows(part: Part, classes: Sequence[str]) -> NDArray[np.int64]:
    """Numbers of the rows whose label is one of `classes`: only they tell anything about a temperature."""
    return np.flatnonzero(np.isin(np.array([label or "" for label in part.labels], dtype=np.str_), list(classes)))


def recalibrated(recent: Answered) -> Recalibrated:
    """What the gates judge. Rows of a class that the model lacks count in the calibration error alone, as wrong."""
    before, after = (_known(side) for side in (recent.before, recent.after))
    everything = recent.after
    return Recalibrated(
        before=_nll(before),
        after=_nll(after),
        weights=after.part.weights,
        units=after.part.units,
        labels_changed=int((recent.before.predictions.predicted != everything.predictions.predicted).sum()),
        compared=len(everything),
        calibration_error=weighted_ece(everything.predictions.confidence, everything.correct, everything.part.weights)[
            1
        ],
    )


def measure_recalibration(
    *,
    gates: Sequence[GateResult],
    recent: Answered,
    old: Answered,
    temperatures: tuple[float, float],
    rows: Mapping[str, int],
    parity: Mapping[str, Any] | None,
    seconds: Mapping[str, float],
    rng: np.random.Generator,
) -> dict[str, Any]:
    """All of it as plain JSON, in the shape of a retraining's evidence, with a part `recalibration` of its own.

    `recent`: held out from the fit; `old`: the hold-out of the model's training, of which 2,000 rows are measured.
    """
    rows_told = {name: count for name, count in rows.items() if count}
    found = {
        "gates": gates,
        "metrics": {"candidate": measure(recent.after), "champion": measure(recent.before)},
        "slices": [],
        "parity": None if parity is None else {**parity, "temperature": temperatures[1]},
        "cost": {"total_seconds": round(sum(seconds.values()), 3), "steps": seconds},
        "changes": {"classes_added": [], "new_labels": sum(rows.values()), "rows": rows_told},
        "recalibration": {
            "temperature": {"before": temperatures[0], "after": temperatures[1]},
            "recent": _both(recent, rng),
            "old": _both(_sampled(old, rng), rng),
            "reliability": {"before": _reliability(recent.before), "after": _reliability(recent.after)},
            "classes": _classes(recent),
        },
    }
    return dict(plain(found))


def _both(answered: Answered, rng: np.random.Generator) -> dict[str, Any]:
    before, after = (_measures(side, rng) for side in (answered.before, answered.after))
    measures = {name: {"before": value, "after": after[name]} for name, value in before.items()}
    return {
        "n": len(answered.after),
        "unknown": len(answered.after) - len(_known(answered.after)),
        "measures": measures,
    }


def _measures(answers: Answers, rng: np.random.Generator) -> dict[str, Interval]:
    known = _known(answers)
    found = probability_measures(
        known.predictions.probabilities, _numbers(known), known.part.weights, _units(known), rng=rng
    )
    return {name: Interval(one.value, one.low, one.high) for name, one in found.items()}


def _classes(recent: Answered) -> list[dict[str, Any]]:
    """Each predicted class, the widest gap before the change first: what its answers promised, less what came true."""
    before, after = (
        class_calibration(side.predicted, side.predictions.confidence, side.correct, side.part.weights)
        for side in (recent.before, recent.after)
    )
    gaps = {one.label: one.gap for one in after}
    return [{"class": one.label, "n": one.n, "before": one.gap, "after": gaps[one.label]} for one in before]


def _reliability(answers: Answers) -> Sequence[Any]:
    return reliability_bins(answers.predictions.confidence, answers.correct, bins=RELIABILITY_BINS)


def _sampled(answered: Answered, rng: np.random.Generator) -> Answered:
    n = len(answered.after)
    if n <= MAX_MEASURED:
        return answered
    kept = np.zeros(n, dtype=np.bool_)
    kept[rng.choice(n, size=MAX_MEASURED, replace=False)] = True
    return Answered(answered.before.take(kept), answered.after.take(kept))


def _known(answers: Answers) -> Answers:
    kept = np.zeros(len(answers), dtype=np.bool_)
    kept[known_rows(answers.part, answers.classes)] = True
    return answers.take(kept)


def _numbers(answers: Answers) -> NDArray[np.int64]:
    number = {label: place for place, label in enumerate(answers.classes)}
    return np.array([number[label] for label in answers.part.labels if label is not None], dtype=np.int64)


def _units(answers: Answers) -> list[str]:
    """Hashed keys; a row of a file has none and is a unit of its own."""
    return [unit or f"row {row}" for row, unit in enumerate(answers.part.units)]


def _nll(answers: Answers) -> NDArray[np.float64]:
    of_truth = answers.predictions.probabilities[np.arange(len(answers)), _numbers(answers)]
    return np.asarray(-np.log(np.maximum(of_truth, LEAST_PROBABILITY)))
