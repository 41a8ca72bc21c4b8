"""Bets against the uniformity of a rank: what a detector stakes on every prediction.

A bet is a density on (0, 1), constant on CELLS that are fine near 0 and 1 and coarse in the middle, because what is new
to a model shows first as scores in the tails. Under the null the rank is uniform and independent of the past, so the
density at the rank has mean 1 whatever the past made the bettor choose: it is an e-value.

Two kinds of bettor, both bounded in state:

- *Fixed*: a stake on one tail, for several tail sizes and stakes; it wins from the first prediction on.
- *Learning*: the recent histogram of ranks itself, forgotten at several rates; it finds changes of any shape, later.
"""

from __future__ import annotations

import numpy as np

from monitoring.stats.binning import FloatArray, IntArray

_TAILS: FloatArray = np.array([0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3])
_STAKES: FloatArray = np.array([0.01, 0.05, 0.25])
"""Shares of the stake put on a tail; each suits a change that moves about this share of the traffic."""

_FORGETTING: FloatArray = np.array([0.01, 0.001, 0.0001])
"""Share of a learning bettor's memory that each prediction takes away."""

_PRIOR_RANKS = 50.0
"""Weight, in ranks, of the uniform histogram that a learning bettor starts from."""

_LEARNED_STAKE = 0.9
_LEARNERS_SHARE = 0.25

BATCH = 64
"""Most predictions at a time; a product of this many e-values neither over- nor underflows."""

_TWENTIETHS: FloatArray = np.arange(3, 18) / 20
_CUTS: FloatArray = np.unique(np.concatenate([_TAILS, _TWENTIETHS, 1 - _TAILS]))
WIDTHS: FloatArray = np.diff(_CUTS, prepend=0.0, append=1.0)
CELLS = len(WIDTHS)
_TICKS = 10_000
_CELL_OF_TICK: IntArray = np.searchsorted(_CUTS, (np.arange(_TICKS) + 0.5) / _TICKS).astype(np.int64)
"""Every cut is a whole number of ticks, so that the cell of a rank is looked up instead of searched for."""
LEARNERS = len(_FORGETTING)


def _tail_bets() -> FloatArray:
    """Densities (bettor, cell): `1 - stake` everywhere, and the stake spread over a lower or an upper tail."""
    bets = []
    for tail in _TAILS:
        in_tail = np.cumsum(WIDTHS) < tail * (1 + 1e-9)
        for stake in _STAKES:
            density = 1 - stake + stake / tail * in_tail
            bets += [density, density[::-1]]
    return np.array(bets)


_FIXED: FloatArray = _tail_bets()
BETTORS = len(_FIXED) + LEARNERS
SHARES: FloatArray = np.concatenate(
    [np.full(len(_FIXED), (1 - _LEARNERS_SHARE) / len(_FIXED)), np.full(LEARNERS, _LEARNERS_SHARE / LEARNERS)]
)
"""How the mixture divides its stake between the bettors; sums to 1."""


_BETS: FloatArray = np.ascontiguousarray(np.vstack([_FIXED, np.ones((LEARNERS, CELLS))]).T)
"""What the fixed bettors have put on each cell, with room for the learning ones: shape (CELLS, BETTORS)."""

_FADED: FloatArray = (1 - _FORGETTING[:, None]) ** np.arange(BATCH + 1)
"""What each learning bettor keeps of a rank after k further predictions, shape (LEARNERS, BATCH + 1)."""

_AGE = np.arange(BATCH + 1)[:, None] - np.arange(BATCH) - 1
_WEIGHTS: FloatArray = np.where(_AGE >= 0, _FADED[:, np.maximum(_AGE, 0)], 0.0)
"""What rank j of a batch counts when prediction t of it comes, shape (LEARNERS, t, j)."""

_WEIGHTS_BY_TIME: FloatArray = np.ascontiguousarray(_WEIGHTS.transpose(1, 2, 0))
_EARNED: FloatArray = _WEIGHTS.sum(axis=2)


def cells_of(ranks: FloatArray) -> IntArray:
    """Cell of each rank in [0, 1], of any shape."""
    ticks = np.minimum((ranks * _TICKS).astype(np.int64), _TICKS - 1)
    cells: IntArray = _CELL_OF_TICK[ticks]
    return cells


def no_memory(scores: int) -> FloatArray:
    """What the learning bettors remember before any rank: faded counts, shape (LEARNERS, scores, CELLS)."""
    return np.zeros((LEARNERS, scores, CELLS))


def play(cells: IntArray, memory: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Let every bettor stake on predictions in order.

    Args:
        cells: shape (scores, n), n at most BATCH: the cells of the predictions' ranks.
        memory: what the learning bettors remember before the first of them.

    Returns:
        The e-values, shape (n, scores, BETTORS), each bet by what came before its prediction only; and the memory
        after the last prediction.
    """
    scores, n = cells.shape
    e_values: FloatArray = _BETS[cells.T]
    faded = _FADED[:, None, :n]
    met = _met_before(cells) + faded * memory[:, np.arange(scores)[:, None], cells]
    total = _EARNED[:, None, :n] + faded * memory[:, :1].sum(axis=2, keepdims=True)
    density = (met / WIDTHS[cells] + _PRIOR_RANKS) / (total + _PRIOR_RANKS)
    e_values[..., -LEARNERS:] = (1 - _LEARNED_STAKE + _LEARNED_STAKE * density).T
    return e_values, _FADED[:, n, None, None] * memory + _left_by(cells)


def _met_before(cells: IntArray) -> FloatArray:
    """Faded count of each prediction's own cell among those of the batch before it, shape (LEARNERS, scores, n)."""
    n = cells.shape[1]
    small = cells.astype(np.int8)
    same = (small.T[:, :, None] == small).astype(np.float64)  # (t, scores, j)
    met: FloatArray = (same @ _WEIGHTS_BY_TIME[:n, :n]).transpose(2, 1, 0)
    return met


def _left_by(cells: IntArray) -> FloatArray:
    """Faded counts of the batch's cells after its last prediction, shape (LEARNERS, scores, CELLS)."""
    scores, n = cells.shape
    places = (cells + np.arange(scores)[:, None] * CELLS).T.ravel()
    weights = np.repeat(_WEIGHTS[:, n, :n], scores, axis=1)
    return np.reshape([np.bincount(places, mine, scores * CELLS) for mine in weights], (LEARNERS, scores, CELLS))
