"""How far the accuracy estimate is from the truth, without labels and with a few of the new traffic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from monitoring.core.signals import SIGNALS
from monitoring.detect import LabelledRows, estimate_accuracy
from tests.benchmarks.verdicts.draws import ACCURACY_SCENARIOS, Extent, Scenario
from tests.benchmarks.verdicts.scored import Scored, load

N = 500
BASELINE_ROWS = 2_000
LABELS = 200


@dataclass(frozen=True)
class Estimates:
    """Of the windows under one scenario (w,) each: estimate, truth, whether the interval holds it, 'cannot tell'."""

    method: str
    scenario: str
    value: tuple[float, ...]
    truth: tuple[float, ...]
    covered: tuple[bool, ...]
    cannot_tell: tuple[bool, ...]

    @property
    def error(self) -> float:
        """Mean absolute, in points."""
        return 100 * float(np.nanmean(np.abs(np.array(self.value) - np.array(self.truth))))

    @property
    def bias(self) -> float:
        """Mean of estimate minus truth, in points."""
        return 100 * float(np.nanmean(np.array(self.value) - np.array(self.truth)))

    @property
    def coverage(self) -> float:
        """Share of intervals that hold the truth."""
        return float(np.mean(self.covered))


@dataclass(frozen=True)
class AccuracyTask:
    """Windows of these numbers under one scenario."""

    scored: Path
    scenario: Scenario
    baseline: int
    numbers: tuple[int, ...]


def tasks(scored: Path, extent: Extent) -> list[AccuracyTask]:
    """Some windows of every scenario for each baseline."""
    return [
        AccuracyTask(scored, scenario, number, tuple(range(number, extent.accuracy_windows, extent.accuracy_baselines)))
        for number in range(extent.accuracy_baselines)
        for scenario in ACCURACY_SCENARIOS
    ]


def measure(task: AccuracyTask) -> list[Estimates]:
    """Estimates without and with labels."""
    scored = load(task.scored)
    baseline = scored.baseline(BASELINE_ROWS, task.baseline)
    without, with_labels, truth = [], [], []
    for number in task.numbers:
        rows = scored.urns.window(N, task.scenario, number)
        window = scored.traffic(rows)
        labelled = _labelled(scored, scored.urns.labelled(LABELS, task.scenario, number))
        truth.append(float(scored.correct[rows].mean()))
        without.append(estimate_accuracy(baseline, window))
        with_labels.append(estimate_accuracy(baseline, window, labelled))
    return [
        Estimates(
            method,
            task.scenario.name,
            tuple(estimate.accuracy.value for estimate in estimates),
            tuple(truth),
            tuple(e.accuracy.low <= true <= e.accuracy.high for e, true in zip(estimates, truth, strict=True)),
            tuple(not estimate.trustworthy for estimate in estimates),
        )
        for method, estimates in {"without labels": without, f"with {LABELS} labels": with_labels}.items()
    ]


def _labelled(scored: Scored, rows: np.ndarray) -> LabelledRows:
    answers = scored.take(rows)
    return LabelledRows(
        {name: answers.signal(name) for name in SIGNALS}, scored.correct[rows], np.ones(len(rows), dtype=np.float64)
    )


def add_up(parts: Sequence[Estimates]) -> list[Estimates]:
    """One per method and scenario."""
    keys = dict.fromkeys((part.method, part.scenario) for part in parts)
    return [
        Estimates(
            *key,
            *(
                tuple(x for part in parts if (part.method, part.scenario) == key for x in getattr(part, field))
                for field in ("value", "truth", "covered", "cannot_tell")
            ),
        )
        for key in keys
    ]
