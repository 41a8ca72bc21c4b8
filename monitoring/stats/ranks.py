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
            bins: shape (scores, n): the bin of every score.
            uniforms: shape (scores, n): independent uniform numbers that break the ties.

        Memory and time grow with n squared: meant for batches of tens.
        """
        n = bins.shape[1]
        score = np.arange(len(bins))[:, None]
        seen_tied = self.counts[score, bins]
        seen_below = self.counts.cumsum(axis=1)[score, bins] - seen_tied
        small = bins.astype(np.int16)
        now, before = small[:, :, None], small[:, None, :]
        earlier = np.tri(n, k=-1)
        below = seen_below + np.einsum("stj,tj->st", before < now, earlier)
        tied = seen_tied + np.einsum("stj,tj->st", before == now, earlier) + 1
        ranks: FloatArray = (below + uniforms * tied) / (self.total + np.arange(1, n + 1))
        return ranks

    def add(self, bins: IntArray) -> None:
        """Count n predictions, shape (scores, n)."""
        np.add.at(self.counts, (np.arange(len(bins))[:, None], bins), 1)
        self.total += bins.shape[1]
