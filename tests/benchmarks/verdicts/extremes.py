"""Windows without drift where few or many classes are, and where a window holds a million predictions.

The model's own classes are made fewer by merging them, and more by cutting each at random; a row is in the same part
wherever it is drawn, so that baseline and windows stay of one pool.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from monitoring.detect import signal_findings
from monitoring.signals import Traffic
from tests.benchmarks.verdicts.draws import NO_DRIFT, Extent, Rows
from tests.benchmarks.verdicts.scored import MOMENT, Scored, load
from tests.benchmarks.verdicts.windows import ALPHA, BASELINE_ROWS

LEEWAY = 0.1
CLASS_COUNTS = (2, 10, 77, 200)
MANY_CLASSES_N = 500
LARGEST = 1_000_000
KEPT = ("confidence", "entropy", "margin")


@dataclass(frozen=True)
class Extreme:
    """`alarms` of `windows` windows of `n` rows without drift, with any significant finding; None: the model's own."""

    classes: int | None
    n: int
    alarms: int
    windows: int

    @property
    def interval(self) -> tuple[float, float]:
        """Of the share of alarms, 95 %, exact.

        >>> [round(bound, 4) for bound in Extreme(2, 500, 0, 1000).interval]
        [0.0, 0.0037]
        """
        found = binomtest(self.alarms, self.windows).proportion_ci(0.95, method="exact")
        return float(found.low), float(found.high)


@dataclass(frozen=True)
class Task:
    """The windows of these `numbers`, each against the baseline of the task's own number."""

    scored: Path
    classes: int | None
    n: int
    number: int
    numbers: Sequence[int]


def tasks(scored: Path, extent: Extent) -> list[Task]:
    """The largest windows first, each against another baseline; then those of each number of classes, each its own."""
    each = extent.class_windows
    large = [Task(scored, None, LARGEST, number, [number]) for number in range(extent.largest_windows)]
    return large + [
        Task(scored, classes, MANY_CLASSES_N, number, range(first + number, first + each, extent.baselines))
        for first, classes in zip(range(0, len(CLASS_COUNTS) * each, each), CLASS_COUNTS, strict=True)
        for number in range(extent.baselines)
    ]


def judge(task: Task) -> Extreme:
    """Windows with any significant finding, counted."""
    scored = load(task.scored) if task.classes is None else _of_classes(task.scored, task.classes)
    baseline = scored.baseline(BASELINE_ROWS, task.number)
    alarms = 0
    for number in task.numbers:
        window = _traffic(scored, scored.urns.window(task.n, NO_DRIFT, number))
        findings = signal_findings(baseline, window, leeway=LEEWAY, alpha=ALPHA)
        alarms += any(finding.significant for finding in findings)
    return Extreme(task.classes, task.n, alarms, len(task.numbers))


def add_up(parts: Sequence[Extreme]) -> list[Extreme]:
    """One per number of classes and size, in the order of their first appearance.

    >>> add_up([Extreme(2, 500, 1, 50), Extreme(None, 1000000, 0, 1), Extreme(2, 500, 2, 50)])[0]
    Extreme(classes=2, n=500, alarms=3, windows=100)
    """
    return [
        Extreme(*key, sum(part.alarms for part in of), sum(part.windows for part in of))
        for key in dict.fromkeys((part.classes, part.n) for part in parts)
        if (of := [part for part in parts if (part.classes, part.n) == key])
    ]


def with_classes(scored: Scored, count: int) -> Scored:
    """The same answers of a model that tells so many classes apart."""
    known = len(scored.classes)
    names = tuple(f"class {number}" for number in range(count))
    answers, labels = scored.predictions, _numbers(scored)
    if count <= known:
        merged = answers.probabilities @ np.eye(count)[np.arange(known) % count]
        ordered = np.sort(merged, axis=1)
        signals = {
            "confidence": ordered[:, -1],
            "entropy": -(merged * np.log(np.maximum(merged, 1e-12))).sum(axis=1),
            "margin": ordered[:, -1] - ordered[:, -2],
        }
        predicted, told = merged.argmax(axis=1), labels % count
    else:
        merged, signals = answers.probabilities, {name: getattr(answers, name) for name in KEPT}
        parts = count // known + (np.arange(known) < count % known)
        place = np.random.default_rng(count).random(len(labels))
        first = np.cumsum(parts) - parts
        predicted, told = (first[of] + (place * parts[of]).astype(np.int64) for of in (answers.predicted, labels))
    return replace(
        scored,
        classes=names,
        labels=np.where(labels < 0, scored.labels, np.asarray(names)[told]),
        predictions=replace(answers, probabilities=merged, predicted=predicted, **signals),
    )


@lru_cache(maxsize=1)
def _of_classes(path: Path, count: int) -> Scored:
    return with_classes(load(path), count)


def _numbers(scored: Scored) -> NDArray[np.int64]:
    """The class number of every label, -1 for those of new topics."""
    number = {name: place for place, name in enumerate(scored.classes)}
    return np.array([number.get(label, -1) for label in scored.labels.tolist()], dtype=np.int64)


def _traffic(scored: Scored, rows: Rows) -> Traffic:
    """As `Scored.traffic`, without the probabilities, of which a million rows would fill the memory."""
    answers = replace(scored.predictions, probabilities=np.empty((len(scored.predictions), 0)))
    return replace(scored, predictions=answers).traffic(rows, start=MOMENT, end=MOMENT)
