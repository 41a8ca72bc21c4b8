"""How good a version is on labelled rows that it never saw, as the serving runtime answers them, never torch.

Weights are inverse sampling probabilities, so that figures speak of all traffic, not of what happened to be labelled. A
label that the version lacks counts as wrong.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monitoring.core.runtime import concatenate
from monitoring.core.signals import Predictions
from monitoring.stats.calibration_measures import weighted_ece
from training.snapshot import Part

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
LENGTHS: Mapping[str, tuple[int, int]] = {
    "up to 8 tokens": (0, 8),
    "9 to 16 tokens": (9, 16),
    "17 to 32 tokens": (17, 32),
    "33 tokens and more": (33, 1_000_000),
}


@dataclass(frozen=True)
class ClassMetrics:
    """One class; nan where it was never predicted (precision) or never true (recall). `n` counts its rows."""

    precision: float
    recall: float
    f1: float
    n: int


@dataclass(frozen=True)
class Metrics:
    """Figures over n rows. `macro_f1` averages the classes that occur, as truth or as answer."""

    n: int
    accuracy: float
    macro_f1: float
    ece: float
    ece_debiased: float
    brier: float
    per_class: Mapping[str, ClassMetrics]


@dataclass(frozen=True)
class Answers:
    """What one version, over its `classes`, answered to the n labelled rows of `part`."""

    part: Part
    predictions: Predictions
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.part)

    @property
    def predicted(self) -> tuple[str, ...]:
        """Labels (n,)."""
        return tuple(self.classes[number] for number in self.predictions.predicted)

    @property
    def correct(self) -> Flags:
        """(n,)"""
        return np.array([said == true for said, true in zip(self.predicted, self.part.labels, strict=True)], np.bool_)

    def take(self, kept: Flags) -> Answers:
        """The rows where `kept` (n,) is true."""
        rows = np.flatnonzero(kept)
        return Answers(self.part.take(rows), concatenate([self.predictions], rows), self.classes)


def judge(predictions: Predictions, classes: Sequence[str], part: Part) -> Answers:
    """Set predictions beside the labels of `part`; rows without a label are left out."""
    labelled = np.array([row for row, label in enumerate(part.labels) if label is not None], dtype=np.int64)
    return Answers(part.take(labelled), concatenate([predictions], labelled), tuple(classes))


def measure(answers: Answers) -> Metrics:
    """All figures; nan where there are no rows."""
    if len(answers) == 0:
        return Metrics(0, np.nan, np.nan, np.nan, np.nan, np.nan, {})
    per_class = _per_class(answers)
    scores = [found.f1 for found in per_class.values()]
    weights = answers.part.weights
    plain, debiased = weighted_ece(answers.predictions.confidence, answers.correct, weights)
    return Metrics(
        n=len(answers),
        accuracy=float(np.average(answers.correct, weights=weights)),
        macro_f1=float(np.mean(scores)),
        ece=plain,
        ece_debiased=debiased,
        brier=float(np.average(_brier(answers), weights=weights)),
        per_class=per_class,
    )


def slices(candidate: Answers, champion: Answers | None, parts: Mapping[str, Flags]) -> list[dict[str, Any]]:
    """Accuracy of both on the named `parts` of the rows, on each class and each length; empty slices are left out."""
    chosen = dict(parts)
    truth, length = np.array(candidate.part.labels, dtype=np.str_), candidate.predictions.length
    chosen |= {f"class: {label}": truth == label for label in np.unique(truth)}
    chosen |= {name: (low <= length) & (length <= high) for name, (low, high) in LENGTHS.items()}
    return [
        {
            "slice": name,
            "n": int(rows.sum()),
            "candidate": _accuracy(candidate, rows),
            "champion": None if champion is None else _accuracy(champion, rows),
        }
        for name, rows in chosen.items()
        if rows.any()
    ]


def _accuracy(answers: Answers, rows: Flags) -> float:
    return float(np.average(answers.correct[rows], weights=answers.part.weights[rows]))


def _brier(answers: Answers) -> Floats:
    """Squared distance (n,) between probabilities and the one-hot truth; a class that is lacked has probability 0."""
    column: dict[str | None, int] = {label: place for place, label in enumerate(answers.classes)}
    known = np.array([column.get(label, -1) for label in answers.part.labels])
    of_truth = np.where(known >= 0, answers.predictions.probabilities[np.arange(len(answers)), known], 0.0)
    return np.asarray((answers.predictions.probabilities**2).sum(axis=1) - 2.0 * of_truth + 1.0)


def _per_class(answers: Answers) -> dict[str, ClassMetrics]:
    truth, predicted = np.array(answers.part.labels, np.str_), np.array(answers.predicted, np.str_)
    weights = answers.part.weights
    found = {}
    for label in np.union1d(truth, predicted).tolist():
        true, said = truth == label, predicted == label
        hit = float(weights[true & said].sum())
        of_true, of_said = float(weights[true].sum()), float(weights[said].sum())
        found[label] = ClassMetrics(
            precision=hit / of_said if of_said else np.nan,
            recall=hit / of_true if of_true else np.nan,
            f1=2.0 * hit / (of_true + of_said),
            n=int(true.sum()),
        )
    return found
