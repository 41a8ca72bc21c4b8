"""Online conformal ranks from bounded state.

The rank of a new score among everything seen before is uniform and independent of the earlier ranks as long as the
scores are exchangeable (Vovk, Gammerman & Shafer, *Algorithmic Learning in a Random World*, 2005). "Everything seen"
must include the stream itself: ranks against a baseline that stays fixed are biased given that baseline, and a long
stream bets on the bias. Counts over bins that were frozen before keep this exact with state that never grows: scores
of one bin are ties, and ties are broken at random.
"""

from __future__ import annotations

import numpy as np

from monitoring.stats.binning import FloatArray, IntArray


class RunningHistogram:
    """Counts of everything seen, for several scores: `counts` has shape (scores, bins), each row sums to `total`."""

    def __init__(self, counts: IntArray) -> None:
        self.counts = counts
        self.total = int(counts[0].sum())

    def ranks(self, bins: IntArray, uniforms: FloatArray) -> FloatArray:
        """Ranks in [0, 1] of predictions in order, each within all before it and itself.

        Args:
            bins: shape (n, scores): the bin of every score.
            uniforms: shape (n, scores): independent uniform numbers that break the ties.

        Memory and time grow with n squared: meant for batches of tens.
        """
        n, scores = bins.shape
        score = np.arange(scores)
        seen_below = np.cumsum(self.counts, axis=1) - self.counts
        by_score = np.ascontiguousarray(bins.T)
        now, before = by_score[:, :, None], by_score[:, None, :]
        earlier = np.tri(n, k=-1, dtype=bool)
        below = seen_below[score, bins] + ((before < now) & earlier).sum(axis=2).T
        tied = self.counts[score, bins] + ((before == now) & earlier).sum(axis=2).T + 1
        ranks: FloatArray = (below + uniforms * tied) / (self.total + np.arange(1, n + 1))[:, None]
        return ranks

    def add(self, bins: IntArray) -> None:
        """Count n predictions, shape (n, scores)."""
        np.add.at(self.counts, (np.arange(bins.shape[1]), bins), 1)
        self.total += len(bins)
