"""A change detector that looks at every prediction: conformal ranks, bets on them, Shiryaev-Roberts sums.

Each score of a prediction becomes a rank that is uniform while nothing changes (`ranks`), several bettors stake on that
rank (`rank_bets`), and a bettor's e-values `e_1, e_2, ...` feed the sum

    R_t = (1 + R_{t-1}) e_t,

the total wealth of gamblers of whom one starts with one coin before every prediction. Under the null `R_t - t` has mean
zero at every stopping time, so the first time that R reaches the threshold c comes after c predictions or more on
average; after a change the gamblers who began at the change grow rich, and the delay is about log(c) divided by the
wealth's growth per prediction. The statistic is the average of the sums of all bettors and scores.

The null: the predictions, baseline included, are exchangeable; and once two weeks have shown the week's cycle, within
each hour of the week (`cycle`). Bursts break it unless they are bounded before; slow change is partly absorbed by the
ranks and is left to the window tests. The bound is exact for one score. Averaged over several, the sums
of one score are stopped by those of another, whose past ranks it does not know (Choe & Ramdas, "Combining evidence
across filtrations", 2024): no effect of this shows in simulation, where the mean is 1.4 to 1.7 times c; a threshold of
`scores * c` would rule it out, at the cost of `log(scores)` more evidence per alarm.

**Re-arming.** After an alarm every sum restarts from zero and the learning bettors forget, so that the next alarm needs
evidence of its own and again comes after c predictions or more on average under the null; the histograms stay and hold
what was seen. A change of baseline is a new detector.

Source: Shin, Ramdas & Rinaldo, "E-detectors: a nonparametric framework for sequential change detection" (New England
Journal of Statistics in Data Science, 2023).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from monitoring.stats import rank_bets
from monitoring.stats.binning import FloatArray, IntArray, as_column, bin_count, bin_edges, bin_indices, count_bins
from monitoring.stats.cycle import MERGED, WeeklyHistogram, hour_of_week
from monitoring.stats.ranks import RunningHistogram

__all__ = ["DetectorAlarm", "EDetector", "bin_edges"]

_FORMAT = 4


@dataclass(frozen=True)
class DetectorAlarm:
    """The statistic reached its threshold."""

    index: int
    """Position of the prediction within the `update` call that raised the alarm."""
    n_seen: int
    """Predictions since the detector's start, this one included."""
    log_statistic: float
    leading_score: str
    """The score with the largest share of the statistic."""
    onset_back: int
    """How many predictions before the alarm the change is estimated to have begun."""
    cycle_learned: bool
    """Whether the prediction was ranked among those of its hour of the week."""


class EDetector:
    """Watches several scores of a stream of predictions; its state is bounded, whatever the length of the stream.

    >>> rng = np.random.default_rng(0)
    >>> edges = {"confidence": bin_edges(rng.beta(8, 1, 1000))}
    >>> detector = EDetector.start(edges, {"confidence": rng.beta(8, 1, 1000)}, threshold=1e6)
    >>> detector.update({"confidence": rng.beta(8, 1, 2000)}, rng)
    []
    >>> alarm, *_ = detector.update({"confidence": rng.beta(2, 1, 100)}, rng)
    >>> alarm.index < 50, alarm.leading_score
    (True, 'confidence')
    """

    def __init__(
        self,
        edges: Mapping[str, FloatArray],
        histogram: RunningHistogram,
        threshold: float,
        *,
        sums: FloatArray,
        onsets: FloatArray,
        memory: FloatArray,
        n_seen: int,
        week: WeeklyHistogram,
    ) -> None:
        self._edges = dict(edges)
        self._histogram = histogram
        self._threshold = threshold
        self._sums = sums  # (scores, bettors): the Shiryaev-Roberts sums
        self._onsets = onsets  # (scores, bettors): the same, each gambler weighted by when it started
        self._memory = memory
        self._n_seen = n_seen
        self._week = week
        self._cycle_learned = False

    @classmethod
    def start(
        cls,
        edges: Mapping[str, npt.ArrayLike],
        baseline: Mapping[str, npt.ArrayLike],
        threshold: float,
        week: WeeklyHistogram | None = None,
    ) -> Self:
        """A detector that has seen the baseline and no prediction.

        Args:
            edges: bin edges by score, made on data apart from the baseline (`bin_edges`).
            baseline: scores of the reference predictions by name, each of shape (m,); m = 0 is allowed, and slow.
            threshold: c > 1, the lower bound on the mean number of predictions to a false alarm.
            week: what earlier traffic has shown of the week's cycle, in the bins of `edges`.
        """
        if not (math.isfinite(threshold) and threshold > 1):
            raise ValueError(f"threshold must be a finite number above 1, not {threshold}")
        if not edges:
            raise ValueError("edges is empty: name at least one score to watch")
        frozen = {name: as_column(values, f"edges of {name!r}") for name, values in edges.items()}
        columns = _columns(baseline, frozen)
        counts = np.zeros((len(frozen), max(map(bin_count, frozen.values()))), dtype=np.int64)
        for row, (name, values) in zip(counts, columns.items(), strict=True):
            row[: bin_count(frozen[name])] = count_bins(values, frozen[name])
        nothing = np.zeros((len(frozen), rank_bets.BETTORS))
        return cls(
            frozen,
            RunningHistogram(counts),
            float(threshold),
            sums=nothing,
            onsets=nothing,
            memory=rank_bets.no_memory(len(frozen)),
            n_seen=0,
            week=WeeklyHistogram.empty(*counts.shape) if week is None else week.copy(),
        )

    @property
    def threshold(self) -> float:
        """c: a false alarm comes after c predictions or more on average."""
        return self._threshold

    @property
    def n_seen(self) -> int:
        """Predictions since the start, the baseline not counted."""
        return self._n_seen

    @property
    def statistic(self) -> float:
        """log(1 + the mixture of sums): 0 at the start and after an alarm; an alarm is due at log(1 + c)."""
        return math.log1p(float(self._wealth().sum()))

    @property
    def onset_back(self) -> int:
        """How many predictions ago the change began that the statistic speaks for; 0 while it speaks for none."""
        total = float((self._sums @ rank_bets.SHARES).sum())
        onset = float((self._onsets @ rank_bets.SHARES).sum()) / total if total else self._n_seen
        return round(self._n_seen - onset)

    def contributions(self) -> dict[str, float]:
        """Share of each score in the statistic; they sum to 1, or are all 0 while there is none."""
        wealth = self._wealth()
        total = float(wealth.sum())
        return {name: float(part) / total if total else 0.0 for name, part in zip(self._edges, wealth, strict=True)}

    def update(
        self, scores: Mapping[str, npt.ArrayLike], rng: np.random.Generator, at: npt.ArrayLike | None = None
    ) -> list[DetectorAlarm]:
        """Take n predictions in order; returns the alarms among them.

        Args:
            scores: the watched scores by name, each of shape (n,). NaN is allowed and ranks above every number.
            rng: breaks the ties; independent of the scores.
            at: when they were made, (n,) in seconds since the epoch; without, no cycle is learned.

        Raises:
            ValueError: a score is missing, unknown, of another length or not one-dimensional.
        """
        columns = _columns(scores, self._edges)
        bins = np.stack([bin_indices(values, self._edges[name]) for name, values in columns.items()])
        uniforms = rng.random(bins.shape[::-1]).T  # one prediction after the other, however many come at once
        n = bins.shape[1]
        weeks, hours = hour_of_week(np.full(n, -1) if at is None else at)
        ends_of_hours = np.append(np.flatnonzero(np.diff(weeks) | np.diff(hours)) + 1, n)
        alarms: list[DetectorAlarm] = []
        done = 0
        while done < n:
            end = int(ends_of_hours[np.searchsorted(ends_of_hours, done, side="right")])
            batch = slice(done, min(done + rank_bets.BATCH, end))
            hour = None if at is None else (int(weeks[done]), int(hours[done]))
            taken, raised = self._take(bins[:, batch], uniforms[:, batch], hour)
            done += taken
            if raised:
                alarms.append(self._alarm(index=done - 1))
                self._rearm()
        return alarms

    def _take(self, bins: IntArray, uniforms: FloatArray, hour: tuple[int, int] | None) -> tuple[int, bool]:
        """Take predictions of one hour (week, hour of the week; None: unknown) up to the first alarm.

        Returns how many were taken, and whether the last raised it.
        """
        e_values, memory = rank_bets.play(rank_bets.cells_of(self._ranks(bins, uniforms, hour)), self._memory)
        growth = np.multiply.accumulate(e_values, axis=0)
        staked = np.ones_like(growth)  # what a gambler's one coin is worth in coins of the first prediction
        np.divide(1.0, growth[:-1], out=staked[1:])
        taken, alarmed = self._first_alarm(e_values, growth, staked)
        grown = growth[taken - 1]
        when = np.arange(self._n_seen, self._n_seen + taken, dtype=np.float64)
        self._sums = grown * (self._sums + staked[:taken].sum(axis=0))
        self._onsets = grown * (self._onsets + np.tensordot(when, staked[:taken], axes=1))
        self._memory = memory  # an alarm clears it
        self._histogram.add(bins[:, :taken])
        if hour is not None:
            self._week.add(*hour, bins[:, :taken])
        self._n_seen += taken
        return taken, alarmed

    def _first_alarm(self, e_values: FloatArray, growth: FloatArray, staked: FloatArray) -> tuple[int, bool]:
        """How many of n predictions, (n, scores, bettors), come up to the first alarm; and whether there is one.

        Nearly always a bound on the sums tells that none can, at a fraction of the cost of all of them.
        """
        threshold = self._threshold * len(self._edges)
        most = np.maximum(e_values, 1.0).prod(axis=0) * (self._sums + len(e_values))
        if (most @ rank_bets.SHARES).sum() < threshold:
            return len(growth), False
        with np.errstate(over="ignore"):  # only past the alarm, in what is not taken
            sums = growth * (self._sums + np.cumsum(staked, axis=0))
        reached = np.flatnonzero((sums @ rank_bets.SHARES).sum(axis=1) >= threshold)
        return (int(reached[0]) + 1, True) if len(reached) else (len(growth), False)

    def _ranks(self, bins: IntArray, uniforms: FloatArray, hour: tuple[int, int] | None) -> FloatArray:
        """Among those of the same hour of the week, or among all while its cycle is not learned."""
        usual = None if hour is None else self._week.usual(hour[1])
        self._cycle_learned = usual is not None
        if usual is None:
            return self._histogram.ranks(bins, uniforms)
        return RunningHistogram(usual).ranks(bins // MERGED, uniforms)

    def _alarm(self, index: int) -> DetectorAlarm:
        shares = self.contributions()
        return DetectorAlarm(
            index=index,
            n_seen=self._n_seen,
            log_statistic=self.statistic,
            leading_score=max(shares, key=shares.__getitem__),
            onset_back=self.onset_back,
            cycle_learned=self._cycle_learned,
        )

    def _rearm(self) -> None:
        self._sums = np.zeros_like(self._sums)
        self._onsets = np.zeros_like(self._onsets)
        self._memory = rank_bets.no_memory(len(self._edges))

    def _wealth(self) -> FloatArray:
        """Each score's part of the mixture, shape (scores,)."""
        wealth: FloatArray = self._sums @ rank_bets.SHARES / len(self._edges)
        return wealth

    def to_arrays(self) -> dict[str, npt.NDArray[Any]]:
        """The whole state as arrays for `np.savez`; no pickles."""
        names = list(self._edges)
        return {
            "format": np.array(_FORMAT),
            "names": np.array(names, dtype=np.str_),
            "threshold": np.array(self._threshold),
            "n_seen": np.array(self._n_seen),
            "counts": self._histogram.counts.copy(),
            "sums": self._sums.copy(),
            "onsets": self._onsets.copy(),
            "memory": self._memory.copy(),
            **{f"edges_{i}": self._edges[name].copy() for i, name in enumerate(names)},
            **{f"week_{name}": values for name, values in self._week.to_arrays().items()},
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> Self:
        """The detector whose `to_arrays` this is; ValueError when the state is of another format."""
        if "format" not in arrays or int(arrays["format"]) != _FORMAT:
            raise ValueError(f"detector state is not of format {_FORMAT}: start the detector anew from its baseline")
        return cls(
            {str(name): np.array(arrays[f"edges_{i}"]) for i, name in enumerate(arrays["names"])},
            RunningHistogram(np.array(arrays["counts"])),
            float(arrays["threshold"]),
            sums=np.array(arrays["sums"]),
            onsets=np.array(arrays["onsets"]),
            memory=np.array(arrays["memory"]),
            n_seen=int(arrays["n_seen"]),
            week=WeeklyHistogram.from_arrays({name: arrays[f"week_{name}"] for name in ("counts", "weeks", "latest")}),
        )


def _columns(scores: Mapping[str, npt.ArrayLike], edges: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
    """The scores as columns of one length, in the order of `edges`."""
    if scores.keys() != edges.keys():
        raise ValueError(f"scores must be {sorted(edges)}, not {sorted(scores)}")
    columns = {name: as_column(scores[name], f"score {name!r}") for name in edges}
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"scores must be of one length, not {lengths}")
    return columns
