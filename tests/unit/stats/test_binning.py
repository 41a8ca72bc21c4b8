import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from monitoring.stats.binning import bin_count, bin_edges, bin_indices, count_bins

numbers = arrays(np.float64, st.integers(0, 60), elements=st.floats(-1e6, 1e6) | st.just(np.nan))


@given(numbers, st.integers(8, 64))
def test_edges_increase_and_keep_to_the_number_of_bins(values, bins):
    edges = bin_edges(values, bins)
    assert len(edges) < bins
    assert (np.diff(edges) > 0).all()
    assert np.isfinite(edges).all()


@given(numbers, numbers)
def test_every_value_is_counted_once(made_on, counted):
    edges = bin_edges(made_on, 32)
    counts = count_bins(counted, edges)
    assert counts.shape == (bin_count(edges),)
    assert counts.sum() == len(counted)
    assert counts[-1] == np.isnan(counted).sum()


@given(st.lists(st.floats(allow_nan=False), min_size=2, max_size=40))
def test_bins_keep_the_order_of_values(values):
    ordered = np.sort(np.array(values))
    assert (np.diff(bin_indices(ordered, np.array([-1.0, 0.0, 2.5]))) >= 0).all()


def test_tails_are_cut_finer_than_the_middle_and_the_unseen_has_bins(rng):
    seen = rng.normal(size=5000)
    edges = bin_edges(seen, 256)
    shares = count_bins(seen, edges)[:-1] / len(seen)
    assert len(edges) == 255
    assert shares[100:150].min() > 0.003
    outer_percent = np.quantile(seen, 0.99)
    assert (edges > outer_percent).sum() > 20
    assert (edges > seen.max()).sum() == 8


def test_a_value_that_many_share_lies_in_one_bin():
    edges = bin_edges([0.0, 1.0, 1.0, 1.0, 2.0], 32)
    assert np.unique(bin_indices([1.0, 1.0], edges)).size == 1


def test_wrong_shape_is_named():
    with pytest.raises(ValueError, match="one-dimensional"):
        bin_edges(np.zeros((3, 2)))
    with pytest.raises(ValueError, match="at least 8"):
        bin_edges([1.0], bins=4)
