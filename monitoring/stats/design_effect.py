"""Rows that come in clusters count for fewer: ten messages of a client are not ten witnesses, nor is a minute's burst.

Clusters are of several kinds: the rows of a client, and those of a block of time. Rows of one cluster may depend on
each other in any way; those of different clusters are taken for independent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from monitoring.stats.binning import FloatArray, IntArray, as_column

BLOCK_SECONDS = 120.0
LEAST_BLOCKS = 32


@dataclass(frozen=True)
class Dependence:
    """Which of n rows may depend on each other: for each kind of cluster the number of each row's, (n,), from 0 on."""

    kinds: tuple[IntArray, ...] = ()

    @classmethod
    def of(cls, clients: Sequence[object] | npt.NDArray[np.generic], seconds: npt.ArrayLike | None) -> Self:
        """By `clients` (n,) and by `time_blocks` of `seconds` (n,) since the epoch; None: when is not known."""
        by_client = np.unique(np.asarray(clients), return_inverse=True)[1]
        blocks = () if seconds is None else time_blocks(seconds)
        kinds = (by_client, *(np.unique(block, return_inverse=True)[1] for block in blocks))
        return cls(tuple(kind for kind in kinds if kind.max(initial=-1) + 1 < len(kind)))

    def worth(self, score: npt.ArrayLike) -> float:
        """How many independent rows a row is worth to a test that looks at the mean of score (n,); at most 1.

        The kind of cluster that inflates the variance most decides.
        """
        column = as_column(score, "score")
        return 1.0 / max([1.0, *(_inflation(column, kind) for kind in self.kinds)])


def shared_worth(rows: int, own: float, others: int, theirs: float) -> float:
    """What one of `rows`, each worth `own`, is worth to a test that takes the `others` for independent.

    What they lack, each worth `theirs`, is taken from it.
    """
    return 1 / (1 / own + rows / others * (1 / theirs - 1))


def spread(scores: FloatArray, rows: IntArray, n: int) -> FloatArray:
    """Scores (k,) of these `rows` (k,) as those of all n rows, of which the others speak for nothing."""
    column = np.full(n, scores.mean() if len(scores) else 0.0)
    column[rows] = scores
    return column


def time_blocks(seconds: npt.ArrayLike) -> tuple[IntArray, IntArray]:
    """Number of the block of time of each row (n,), by two grids half a block apart.

    So whatever lasts no longer than half a block lies in one block of either grid. A block is two minutes, or as much
    less as it takes that `LEAST_BLOCKS` of them make up the time from the first row to the last.
    """
    passed = as_column(seconds, "seconds")
    passed = passed - passed.min(initial=np.inf)
    block = min(BLOCK_SECONDS, float(passed.max(initial=0.0)) / LEAST_BLOCKS) or BLOCK_SECONDS
    first, second = ((passed / block + shift).astype(np.int64) for shift in (0.0, 0.5))
    return first, second


def design_effect(values: npt.ArrayLike, clusters: npt.ArrayLike) -> float:
    """How much wider the mean of values (n,) in these clusters (n,) varies than that of n independent rows.

    The variance that is robust to any dependence within clusters, over that of independent rows. It is the jackknife's:
    by how much the mean changes when a cluster is left out (Cameron & Miller, "A practitioner's guide to
    cluster-robust inference", Journal of Human Resources 2015). A test that is told `n / design_effect` rows holds its
    level (Rao & Scott, "The analysis of categorical data from complex sample surveys", JASA 1981): in particular, one
    cluster alone, however large and far off, never makes it reject. Where all rows are one cluster nothing can be
    learnt: n.

    >>> rng = np.random.default_rng(0)
    >>> alone, shared = rng.normal(size=1000), np.repeat(rng.normal(size=100), 10)
    >>> clusters = np.arange(1000) // 10
    >>> design_effect(alone, clusters) < 1.3, round(design_effect(shared, clusters))
    (True, 10)
    """
    return _inflation(as_column(values), np.unique(np.asarray(clusters), return_inverse=True)[1])


def _inflation(column: FloatArray, cluster: IntArray) -> float:
    """The same for clusters that are numbered from 0 on, without gaps."""
    n, groups = len(column), int(cluster.max(initial=-1)) + 1
    if groups == n:
        return 1.0
    if groups == 1:
        return float(n)
    apart = column - column.mean()
    independent = float(apart @ apart)
    if not independent > 0.0:  # equal values, or not a number among them
        return 1.0
    missed = np.bincount(cluster, weights=apart) / (1.0 - np.bincount(cluster) / n)
    return float(missed @ missed) / independent * (groups - 1) / groups
