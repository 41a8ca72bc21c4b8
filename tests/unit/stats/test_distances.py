import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from monitoring.stats.distances import hellinger, jensen_shannon, psi, total_variation

BOUNDED = [jensen_shannon, hellinger, total_variation]
counts = st.lists(st.integers(0, 1000), min_size=4, max_size=4).filter(any)


@pytest.mark.parametrize("distance", BOUNDED)
@given(p=counts, q=counts, r=counts)
def test_a_metric_within_0_and_1(distance, p, q, r):
    assert 0 <= distance(p, q) <= 1
    assert distance(p, q) == pytest.approx(distance(q, p))
    assert distance(p, r) <= distance(p, q) + distance(q, r) + 1e-7


@pytest.mark.parametrize("distance", BOUNDED)
@given(p=counts, scale=st.floats(0.001, 1000))
def test_only_shares_matter(distance, p, scale):
    assert distance(p, np.array(p) * scale) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("distance", BOUNDED)
def test_nothing_in_common_is_1_and_nothing_at_all_is_nan(distance):
    assert distance([3, 0, 0], [0, 1, 4]) == pytest.approx(1)
    assert math.isnan(distance([0, 0], [1, 2]))


@given(counts, counts)
def test_the_distances_agree_on_what_is_large(p, q):
    """Bounds that hold between them, and so catch a wrong constant in any."""
    assert hellinger(p, q) ** 2 <= total_variation(p, q) + 1e-9
    assert total_variation(p, q) <= math.sqrt(2) * hellinger(p, q) + 1e-9
    assert jensen_shannon(p, q) ** 2 <= total_variation(p, q) + 1e-9


@given(counts, counts)
def test_psi_is_finite_and_symmetric_even_with_empty_bins(p, q):
    assert math.isfinite(psi(p, q))
    assert psi(p, q) >= 0
    assert psi(p, q) == pytest.approx(psi(q, p))


@given(counts, counts)
def test_psi_needs_less_smoothing_the_more_there_is(p, q):
    assume(all(p) and all(q))
    shares_p, shares_q = np.array(p) / sum(p), np.array(q) / sum(q)
    exact = float(((shares_p - shares_q) * np.log(shares_p / shares_q)).sum())
    assert psi(np.array(p) * 10**9, np.array(q) * 10**9) == pytest.approx(exact, abs=1e-6)


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="p has 2 bins and q has 3"):
        jensen_shannon([1, 2], [1, 2, 3])
    with pytest.raises(ValueError, match="q holds a negative"):
        hellinger([1, 2], [1, -2])
    with pytest.raises(ValueError, match="p holds a negative or non-finite"):
        total_variation([math.nan, 2], [1, 2])
