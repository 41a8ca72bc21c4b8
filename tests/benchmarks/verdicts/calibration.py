"""What the calibration measures read on a model that is perfectly calibrated: ideally nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from monitoring.stats.calibration import debiased_ece, expected_calibration_error, smooth_ece
from tests.benchmarks.verdicts.draws import NO_DRIFT, WINDOW_SIZES, Extent
from tests.benchmarks.verdicts.scored import load

MEASURES: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "ECE, 15 bins": expected_calibration_error,
    "debiased ECE": debiased_ece,
    "smECE": smooth_ece,
}
MOST_ROWS = 2_000_000


@dataclass(frozen=True)
class Reading:
    """Mean and 95th percentile over `windows` windows of n rows."""

    measure: str
    n: int
    mean: float
    high: float
    windows: int


def read(task: tuple[Path, Extent, int]) -> list[Reading]:
    """Every measure on windows of that size, whose answers come true exactly as often as their confidence says."""
    path, extent, n = task
    scored = load(path)
    windows = max(20, min(extent.runs, MOST_ROWS // n))
    rng = np.random.default_rng(n)
    readings: dict[str, list[float]] = {name: [] for name in MEASURES}
    for number in range(windows):
        confidence = scored.predictions.confidence[scored.urns.window(n, NO_DRIFT, number)]
        correct = rng.random(n) < confidence
        for name, measure in MEASURES.items():
            readings[name].append(measure(confidence, correct))
    return [
        Reading(name, n, float(np.mean(values)), float(np.quantile(values, 0.95)), windows)
        for name, values in readings.items()
    ]


def tasks(scored: Path, extent: Extent) -> list[tuple[Path, Extent, int]]:
    """One per size."""
    return [(scored, extent, n) for n in WINDOW_SIZES]
