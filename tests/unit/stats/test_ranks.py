import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from monitoring.stats.binning import bin_edges, bin_indices, count_bins
from monitoring.stats.ranks import RunningHistogram

bins_of_two_scores = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=12)


def histogram(rows):
    return RunningHistogram(np.array([np.bincount([row[s] for row in rows], minlength=5) for s in (0, 1)]))


@given(bins_of_two_scores, bins_of_two_scores, st.integers(0, 2**32 - 1))
def test_a_rank_is_the_place_among_all_before_with_ties_at_random(baseline, stream, seed):
    uniforms = np.random.default_rng(seed).random((2, len(stream)))
    ranks = histogram(baseline).ranks(np.array(stream).T, uniforms)
    for t, row in enumerate(stream):
        for s, own in enumerate(row):
            seen = [other[s] for other in baseline + stream[: t + 1]]
            expected = sum(bin < own for bin in seen) + uniforms[s, t] * seen.count(own)
            assert np.isclose(ranks[s, t], expected / len(seen))


@given(bins_of_two_scores, bins_of_two_scores)
def test_counting_a_batch_at_once_or_one_by_one_is_the_same(baseline, stream):
    at_once, one_by_one = histogram(baseline), histogram(baseline)
    at_once.add(np.array(stream).T)
    for row in stream:
        one_by_one.add(np.array([row]).T)
    assert np.array_equal(at_once.counts, one_by_one.counts)
    assert at_once.total == one_by_one.total == len(baseline) + len(stream)


def test_ranks_are_uniform_and_independent_on_a_stream_far_longer_than_the_baseline(rng):
    """A small baseline, skewed and tied scores: what ranks against a fixed baseline get wrong."""
    draw = lambda n: np.round(rng.exponential(size=n), 1)  # noqa: E731
    edges = bin_edges(draw(200), 64)
    seen = RunningHistogram(count_bins(draw(100), edges)[None])
    ranks = []
    for _ in range(400):
        bins = bin_indices(draw(50), edges)[None]
        ranks.append(seen.ranks(bins, rng.random(bins.shape)))
        seen.add(bins)
    flat = np.concatenate(ranks, axis=1).ravel()
    assert stats.kstest(flat, "uniform").pvalue > 0.01
    pairs, *_ = np.histogram2d(flat[:-1:2], flat[1::2], bins=8)
    assert stats.chisquare(pairs.ravel()).pvalue > 0.01
