"""The week's cycle: what is usual on a Monday at nine is not on a Sunday at three.

A cycle breaks the exchangeability that ranks rest on. Within one hour of the week it does not: so scores are ranked
among those of the same hour of earlier weeks as soon as two weeks have shown it and it holds enough of them; until then
among those of the same hour of all working days, or of both days of the weekend; and until two weeks have shown even
that, among everything, when the cycle is not learned yet. Which of them depends on the clock and on counts alone, never
on a score.

The null is then: within each hour of the week, scores are exchangeable from week to week, and independent of those of
other hours. A histogram may begin with predictions of before the stream, as where a span of traffic was made the
baseline: ranks stay exact, as long as these, too, are exchangeable with the stream's of the same hours, and were taken
by a rule blind to their scores. Hours are those of UTC.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from monitoring.stats.binning import IntArray

HOURS = 168
LEAST_WEEKS = 2
LEAST_ROWS = 500
MERGED = 4
"""Neighbouring bins that are counted as one, so that a week of histograms takes no more than some hundred kB."""

_MONDAY = 4 * 24  # hours from the epoch, a Thursday, to the first Monday
_SECONDS = 3600


def hour_of_week(at: npt.ArrayLike) -> tuple[IntArray, IntArray]:
    """Number of the week, and of the hour since its Monday 00:00 UTC, of moments (n,) in seconds since the epoch.

    >>> [part.tolist() for part in hour_of_week([1767614400])]  # Monday 2026-01-05, 12:00
    [[2922], [12]]
    """
    hours = np.asarray(at, dtype=np.int64) // _SECONDS - _MONDAY
    return hours // HOURS, hours % HOURS


@dataclass
class WeeklyHistogram:
    """Counts of everything seen since the start, by hour of the week.

    `counts` (HOURS, scores, bins / MERGED); `weeks` (HOURS,): in how many weeks an hour has had rows; `latest`
    (HOURS,): the last of them, -1 for none.
    """

    counts: npt.NDArray[np.uint32]
    weeks: npt.NDArray[np.int64]
    latest: npt.NDArray[np.int64]

    @classmethod
    def empty(cls, scores: int, bins: int) -> Self:
        """Nothing seen, of scores that have `bins` bins."""
        merged = (bins - 1) // MERGED + 1
        nothing = np.zeros(HOURS, dtype=np.int64)
        return cls(np.zeros((HOURS, scores, merged), dtype=np.uint32), nothing, nothing - 1)

    def usual(self, hour: int) -> IntArray | None:
        """Counts (scores, bins / MERGED) to rank a score of that hour among; None while the cycle is not learned."""
        for alike in (np.array([hour]), _same_kind_of_day(hour)):
            rows = int(self.counts[alike, 0].sum())
            if rows >= LEAST_ROWS and int(self.weeks[alike].min()) >= LEAST_WEEKS:
                return np.asarray(self.counts[alike].sum(axis=0), dtype=np.int64)
        return None

    def add(self, week: int, hour: int, bins: IntArray) -> None:
        """Count predictions (scores, n) of one hour. A clock that jumps back adds rows to a week that was seen."""
        if week > self.latest[hour]:
            self.weeks[hour] += 1
            self.latest[hour] = week
        np.add.at(self.counts[hour], (np.arange(len(bins))[:, None], bins // MERGED), 1)

    def add_span(self, at: npt.ArrayLike, bins: IntArray) -> None:
        """Count predictions (scores, n) made at moments (n,) in seconds since the epoch, in any order."""
        weeks, hours = hour_of_week(at)
        numbers, place = np.unique(weeks * HOURS + hours, return_inverse=True)  # in order of time
        for position, number in enumerate(numbers.tolist()):
            week, hour = divmod(number, HOURS)
            self.add(week, hour, bins[:, place == position])

    def learned(self) -> int:
        """Of how many hours of the week the cycle is learned, at most HOURS."""
        return sum(self.usual(hour) is not None for hour in range(HOURS))

    def copy(self) -> Self:
        """One that goes on counting by itself."""
        return type(self)(self.counts.copy(), self.weeks.copy(), self.latest.copy())

    def to_arrays(self) -> dict[str, npt.NDArray[Any]]:
        """As arrays for npz."""
        return {"counts": self.counts.copy(), "weeks": self.weeks.copy(), "latest": self.latest.copy()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> Self:
        """The inverse of `to_arrays`. Raises KeyError on a missing array."""
        return cls(np.array(arrays["counts"]), np.array(arrays["weeks"]), np.array(arrays["latest"]))


def _same_kind_of_day(hour: int) -> IntArray:
    """That hour on all working days, or on both days of the weekend."""
    day, of_day = divmod(hour, 24)
    days = np.arange(5) if day < 5 else np.arange(5, 7)
    return np.asarray(days * 24 + of_day, dtype=np.int64)
