"""One score out of several: how far a prediction lies in the tails of all of them at once.

What is new to a model is a little unsure, a little unlike every class and a little oddly worded; each signal alone
shows the half of it, and a detector that looks at each alone divides its money between the halves. The score adds up
the tails' logarithms, as Fisher's method for combining p-values does (*Statistical Methods for Research Workers*,
1925). Only its order matters: it is ranked or counted like any other score, so that the signals may well depend on
each other.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from monitoring.stats.binning import FloatArray, bin_edges, bin_indices, count_bins


@dataclass(frozen=True)
class TailScore:
    """-ln of the share of reference rows at or above a value, by bins of that reference."""

    edges: FloatArray
    surprise: FloatArray
    """Shape (bins,), rising."""

    @classmethod
    def of(cls, reference: npt.ArrayLike) -> Self:
        """Learn from values (n,); without any, every value scores alike."""
        edges = bin_edges(reference)
        counts = count_bins(reference, edges)
        at_or_above = np.cumsum(counts[::-1])[::-1]
        return cls(edges, -np.log((at_or_above + 0.5) / (counts.sum() + 1.0)))

    def __call__(self, values: npt.ArrayLike) -> FloatArray:
        """Score values (n,); NaN scores as high as the highest."""
        scores: FloatArray = self.surprise[bin_indices(values, self.edges)]
        return scores


@dataclass(frozen=True)
class Strangeness:
    """The sum of the tail scores of several signals, for each the tail in which what is strange lies.

    >>> rng = np.random.default_rng(0)
    >>> usual = {"entropy": rng.gamma(2.0, 1.0, 1000), "similarity": rng.beta(8, 2, 1000)}
    >>> strangeness = Strangeness.of(usual, {"entropy": +1, "similarity": -1})
    >>> plain, odd = strangeness({"entropy": [1.0, 9.0], "similarity": [0.9, 0.3]})
    >>> bool(plain < 1.5 < 9.0 < odd)
    True
    """

    tails: Mapping[str, TailScore]
    directions: Mapping[str, int]
    """By signal: +1 where high values are strange, -1 where low ones are."""

    @classmethod
    def of(cls, reference: Mapping[str, npt.ArrayLike], directions: Mapping[str, int]) -> Self:
        """Learn from reference signals (n,) each, apart from what is ranked later."""
        return cls({name: TailScore.of(_turned(reference[name], to)) for name, to in directions.items()}, directions)

    def __call__(self, signals: Mapping[str, npt.ArrayLike], among: Collection[str] | None = None) -> FloatArray:
        """Score n predictions by their signals, (n,) each: by all of them, or only those `among`."""
        named = self.tails.items() if among is None else [(name, self.tails[name]) for name in among]
        parts = [tail(_turned(signals[name], self.directions[name])) for name, tail in named]
        total: FloatArray = np.sum(parts, axis=0)
        return total

    def to_arrays(self) -> dict[str, FloatArray]:
        """As arrays for npz; the directions are the caller's to know."""
        named = self.tails.items()
        return {f"edges_{name}": tail.edges for name, tail in named} | {name: tail.surprise for name, tail in named}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[np.float64]], directions: Mapping[str, int]) -> Self:
        """The inverse of `to_arrays`. Raises KeyError on a missing array."""
        return cls({name: TailScore(arrays[f"edges_{name}"], arrays[name]) for name in directions}, directions)


def _turned(values: npt.ArrayLike, direction: int) -> FloatArray:
    return direction * np.asarray(values, dtype=np.float64)
