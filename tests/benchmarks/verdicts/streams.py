"""Our detector on streams: false alarms against their bound, and the delay until a change is found."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2

from monitoring.budget import alarm_budget
from monitoring.core.settings import MonitorSettings
from monitoring.stats.sequential import EDetector
from tests.benchmarks.verdicts.draws import (
    AFTER_CHANGE,
    BEFORE_CHANGE,
    STREAM_SCENARIOS,
    Extent,
    Rows,
    Scenario,
    Urns,
)
from tests.benchmarks.verdicts.scored import load

THRESHOLD = 1e6
LOW_THRESHOLD = 1e4
"""At which false alarms are frequent enough to show how tight the bound is."""
BUSY_DAY = 1_000_000
STREAM_LENGTHS = {300: 100_000, 2_000: 100_000, 20_000: 200_000}
"""Length of the null streams by the baseline's size: ten times that or more."""
LOW_STREAMS = 5
"""One in so many null streams is also watched at the low threshold."""
DELAY_BASELINE = 20_000
TICK = 500
CHUNK = 10_000

Scores = Mapping[str, NDArray[np.float64]]


@dataclass(frozen=True)
class NullStreams:
    """False alarms in streams without drift, at a threshold and a size of the baseline."""

    baseline: int
    threshold: float
    predictions: int
    alarms: int

    @property
    def bound(self) -> float:
        """The most alarms that are promised on average."""
        return self.predictions / self.threshold

    @property
    def interval(self) -> tuple[float, float]:
        """For the mean number of alarms in so many predictions, 95 %."""
        return poisson_interval(self.alarms)


@dataclass(frozen=True)
class Delay:
    """Predictions after the change until the alarm, inf where none came; and alarms before the change."""

    detector: str
    scenario: str
    delays: tuple[float, ...]
    early: int

    @property
    def found(self) -> float:
        """Share of streams with an alarm after the change."""
        return float(np.isfinite(self.delays).mean())

    def quantile(self, q: float) -> float:
        """Of the delays; inf where so many streams have none."""
        return float(np.quantile(self.delays, q, method="higher"))


@dataclass(frozen=True)
class NullTask:
    """One null stream, against a baseline of its own of that size, at a threshold."""

    scored: Path
    baseline: int
    number: int
    threshold: float


@dataclass(frozen=True)
class DelayTask:
    """All streams with a change that are watched from the baseline of that number."""

    scored: Path
    extent: Extent
    number: int


def null_tasks(scored: Path, extent: Extent) -> list[NullTask]:
    """Every null stream at the bench's threshold, and some of them at the low one."""
    tasks = []
    for size, length in STREAM_LENGTHS.items():
        count = extent.null_streams(length, len(STREAM_LENGTHS))
        tasks += [NullTask(scored, size, number, THRESHOLD) for number in range(count)]
        tasks += [NullTask(scored, size, number, LOW_THRESHOLD) for number in range(0, count, LOW_STREAMS)]
    return tasks


def delay_tasks(scored: Path, extent: Extent) -> list[DelayTask]:
    """One for each baseline."""
    return [DelayTask(scored, extent, number) for number in range(extent.baselines)]


def default_threshold() -> float:
    """Of the default yearly budget with a million predictions a day."""
    return alarm_budget(MonitorSettings(predictions_per_day=BUSY_DAY)).sequential_threshold


def count_false_alarms(task: NullTask) -> NullStreams:
    """Watch one null stream."""
    scored, length = load(task.scored), STREAM_LENGTHS[task.baseline]
    baseline = scored.baseline(task.baseline, task.number)
    detector = EDetector.start(baseline.edges, baseline.scores(), task.threshold)
    scores = scored.detector_scores(baseline)
    rows = scored.urns.null_stream(length, task.baseline, task.number)
    rng = np.random.default_rng([task.number, task.baseline])
    alarms = sum(len(detector.update(_at(scores, part), rng)) for part in np.array_split(rows, length // CHUNK))
    return NullStreams(task.baseline, task.threshold, length, alarms)


def measure_delays(task: DelayTask) -> list[Delay]:
    """Under every scenario, at the bench's threshold and at the default budget's."""
    scored = load(task.scored)
    baseline = scored.baseline(DELAY_BASELINE, task.number)
    scores, own = scored.detector_scores(baseline), baseline.scores()
    measured = []
    for threshold in (THRESHOLD, default_threshold()):
        for scenario in STREAM_SCENARIOS:
            delays, early = [], 0
            for number in range(task.number, task.extent.delays, task.extent.baselines):
                detector = EDetector.start(baseline.edges, own, threshold)
                rng = np.random.default_rng([number, *scenario.key])
                delay, false = delay_of(detector, scores, change_stream(scored.urns, scenario, number), rng)
                delays.append(delay)
                early += false
            measured.append(Delay(detector_name(threshold), scenario.name, tuple(delays), early))
    return measured


def change_stream(urns: Urns, scenario: Scenario, number: int) -> Rows:
    """Rows of a stream that changes after BEFORE_CHANGE predictions."""
    return urns.stream(BEFORE_CHANGE + AFTER_CHANGE, scenario, number, change=BEFORE_CHANGE)


def delay_of(detector: EDetector, scores: Scores, rows: Rows, rng: np.random.Generator) -> tuple[float, int]:
    """Predictions from the change to the first alarm after it, and the alarms before it."""
    early = 0
    for start in range(0, len(rows), TICK):
        part = rows[start : start + TICK]
        for alarm in detector.update(_at(scores, part), rng):
            if alarm.n_seen > BEFORE_CHANGE:
                return float(alarm.n_seen - BEFORE_CHANGE), early
            early += 1
    return math.inf, early


def _at(scores: Scores, rows: Rows) -> Scores:
    return {name: values[rows] for name, values in scores.items()}


def detector_name(threshold: float) -> str:
    """As the tables write it."""
    return f"Leeway, c = {threshold:.2g}"


def add_up_nulls(parts: Sequence[NullStreams]) -> list[NullStreams]:
    """One per threshold and baseline."""
    keys = dict.fromkeys((part.baseline, part.threshold) for part in parts)
    same = {key: [part for part in parts if (part.baseline, part.threshold) == key] for key in keys}
    return [
        NullStreams(*key, sum(part.predictions for part in of), sum(part.alarms for part in of))
        for key, of in same.items()
    ]


def add_up_delays(parts: Sequence[Delay]) -> list[Delay]:
    """One per detector and scenario."""
    keys = dict.fromkeys((part.detector, part.scenario) for part in parts)
    same = {key: [part for part in parts if (part.detector, part.scenario) == key] for key in keys}
    return [
        Delay(*key, tuple(delay for part in of for delay in part.delays), sum(part.early for part in of))
        for key, of in same.items()
    ]


def poisson_interval(count: int, level: float = 0.95) -> tuple[float, float]:
    """Garwood's exact interval for the mean of a Poisson count (1936).

    >>> [round(bound, 2) for bound in poisson_interval(3)]
    [0.62, 8.77]
    """
    tail = (1 - level) / 2
    low = float(chi2.ppf(tail, 2 * count) / 2) if count else 0.0
    return low, float(chi2.isf(tail, 2 * count + 2) / 2)
