"""Which rows make up a baseline, a window, a stream: pure functions of a name, so that all judges see the same ones.

A baseline, the windows and the streams without drift are drawn from one pool, independently and with replacement: none
of them has drifted, and whatever alarms on them is a false alarm. Under drift a share of the rows is of a new topic.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]
NONE, FAR, NEAR = "none", "far", "near"
BEFORE_CHANGE = 2_000
AFTER_CHANGE = 10_000
_BASELINE, _WINDOW, _STREAM, _LABELLED, _NULL_STREAM = range(5)


@dataclass(frozen=True)
class Scenario:
    """What the traffic is like: a `share` of it, in [0, 1], is of the new `topic`."""

    topic: str = NONE
    share: float = 0.0

    @property
    def name(self) -> str:
        """As the tables and the rivals' results write it.

        >>> Scenario("far", 0.05).name, Scenario().name
        ('far 5 %', 'none')
        """
        return NONE if self.topic == NONE else f"{self.topic} {100 * self.share:.0f} %"

    @property
    def key(self) -> tuple[int, int]:
        """For a seed."""
        return (NONE, FAR, NEAR).index(self.topic), round(1e6 * self.share)


NO_DRIFT = Scenario()
WINDOW_SIZES = (100, 500, 2_000, 20_000)
WINDOW_SCENARIOS = (NO_DRIFT, Scenario(FAR, 0.05), Scenario(FAR, 0.2), Scenario(FAR, 0.5))
STREAM_SCENARIOS = tuple(
    Scenario(*of) for of in ((FAR, 0.01), (FAR, 0.05), (FAR, 0.2), (FAR, 0.5), (NEAR, 0.05), (NEAR, 0.2))
)
ACCURACY_SCENARIOS = (*WINDOW_SCENARIOS, Scenario(NEAR, 0.2), Scenario(NEAR, 0.5))


@dataclass(frozen=True)
class Urns:
    """The numbers of the rows to draw from, by topic: NONE is the pool."""

    rows: Mapping[str, Rows]
    seed: int = 0

    def baseline(self, size: int, number: int) -> Rows:
        """Rows (size,) of the baseline of that number."""
        rng = np.random.default_rng([self.seed, _BASELINE, size, number])
        return rng.choice(self.rows[NONE], size)

    def window(self, size: int, scenario: Scenario, number: int) -> Rows:
        """Rows (size,) of a window; each is of the new topic with the scenario's probability."""
        rng = np.random.default_rng([self.seed, _WINDOW, size, *scenario.key, number])
        return self._mixed(size, scenario, 0, rng)

    def labelled(self, size: int, scenario: Scenario, number: int) -> Rows:
        """Rows (size,) of the same traffic as the window of that number, whose labels have come."""
        rng = np.random.default_rng([self.seed, _LABELLED, size, *scenario.key, number])
        return self._mixed(size, scenario, 0, rng)

    def stream(self, size: int, scenario: Scenario, number: int, *, change: int = 0) -> Rows:
        """Rows (size,) of a stream that is the pool's for `change` predictions and the scenario's from then on."""
        rng = np.random.default_rng([self.seed, _STREAM, size, *scenario.key, number])
        return self._mixed(size, scenario, change, rng)

    def null_stream(self, size: int, baseline: int, number: int) -> Rows:
        """Rows (size,) without drift, others for each size of the baseline."""
        rng = np.random.default_rng([self.seed, _NULL_STREAM, size, baseline, number])
        return rng.choice(self.rows[NONE], size)

    def _mixed(self, size: int, scenario: Scenario, change: int, rng: np.random.Generator) -> Rows:
        rows = rng.choice(self.rows[NONE], size)
        if scenario.topic == NONE:
            return rows
        new = (rng.random(size) < scenario.share) & (np.arange(size) >= change)
        return np.where(new, rng.choice(self.rows[scenario.topic], size), rows)


@dataclass(frozen=True)
class Extent:
    """How much is played, from the number of null windows per size; at 1,000 the false-alarm figures are firm.

    >>> Extent(1000).null_predictions, Extent(1000).rival_windows, Extent(50).power_windows(20_000)
    (10000000, 100, 5)
    """

    runs: int

    @property
    def baselines(self) -> int:
        """Different baselines that windows and streams are judged against."""
        return max(2, min(20, self.runs // 25))

    @property
    def null_predictions(self) -> int:
        """Of streams without drift, at least."""
        return 10_000 * self.runs

    @property
    def delays(self) -> int:
        """Streams with a change, per scenario."""
        return max(20, self.runs // 5)

    @property
    def accuracy_windows(self) -> int:
        """Windows per scenario of the accuracy table."""
        return max(40, self.runs)

    @property
    def accuracy_baselines(self) -> int:
        """Different labelled baselines that they are estimated from: a baseline's error is in all of its windows."""
        return max(2, min(100, self.runs // 10))

    @property
    def class_windows(self) -> int:
        """Null windows for each number of classes."""
        return max(2, self.runs // 2)

    @property
    def largest_windows(self) -> int:
        """Null windows of a million rows: twenty seconds each."""
        return max(2, self.runs // 200)

    @property
    def rival_estimates(self) -> int:
        """Windows per scenario that a rival estimates."""
        return max(40, self.runs // 5)

    @property
    def rival_windows(self) -> int:
        """Null windows per size for a rival; many of them are slow."""
        return max(5, self.runs // 10)

    def power_windows(self, size: int) -> int:
        """Windows with drift per scenario of that size."""
        return max(5, self.runs // (20 if size > 10_000 else 5))

    def rival_power_windows(self, size: int) -> int:
        """The same for a rival."""
        return max(3, min(self.power_windows(size) // 5, 40))

    def null_streams(self, length: int, parts: int) -> int:
        """Streams of that length that make up one of `parts` equal parts of the null predictions."""
        return max(1, math.ceil(self.null_predictions / parts / length))
