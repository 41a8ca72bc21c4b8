import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from monitoring.stats.binning import bin_edges, count_bins
from monitoring.stats.two_sample import (
    class_shift_test,
    holm,
    ks_test,
    ks_test_binned,
    smallest_detectable_shift,
    tail_shift_test,
)

samples = st.lists(st.floats(-100, 100), min_size=1, max_size=40)
p_values = st.dictionaries(st.text(min_size=1, max_size=3), st.floats(0, 1), max_size=8)


def rejections(p_values, level):
    return float(np.mean(np.array(p_values) <= level))


@given(samples, samples)
def test_ks_distance_is_the_largest_gap_between_the_shares_below_any_value(x, y):
    gaps = [abs(np.mean(np.array(x) <= value) - np.mean(np.array(y) <= value)) for value in [*x, *y]]
    assert ks_test(x, y).effect == pytest.approx(max(gaps))


def test_ks_p_value_is_close_to_the_exact_one_and_on_the_safe_side(rng):
    for shift in (0.0, 0.2, 0.4):
        x, y = rng.normal(size=200), rng.normal(size=100) + shift
        exact, ours = stats.ks_2samp(x, y, method="exact").pvalue, ks_test(x, y).p_value
        assert exact <= ours <= 1.5 * exact


@given(samples, samples)
def test_binned_ks_sees_all_when_every_value_has_a_bin(x, y):
    edges = np.unique([*x, *y])
    binned, full = ks_test_binned(count_bins(x, edges), count_bins(y, edges)), ks_test(x, y)
    assert binned.p_value == pytest.approx(full.p_value)
    assert binned.effect == pytest.approx(full.effect)


@given(samples, samples, st.lists(st.floats(-100, 100), max_size=5))
def test_coarser_bins_never_find_more(x, y, edges):
    edges = np.unique(edges)
    assert ks_test_binned(count_bins(x, edges), count_bins(y, edges)).effect <= ks_test(x, y).effect + 1e-12


@pytest.mark.parametrize(("n_x", "n_y"), [(300, 100), (2000, 500)])
def test_under_the_null_no_test_rejects_more_often_than_its_level(rng, n_x, n_y):
    edges = bin_edges(rng.normal(size=1000))
    shares = rng.dirichlet(np.full(77, 0.6))
    found = {"ks": [], "binned": [], "tails": [], "classes": []}
    for _ in range(1000):
        x, y = rng.normal(size=n_x), rng.normal(size=n_y)
        bins = count_bins(x, edges), count_bins(y, edges)
        found["ks"].append(ks_test(x, y).p_value)
        found["binned"].append(ks_test_binned(*bins).p_value)
        found["tails"].append(tail_shift_test(*bins).p_value)
        found["classes"].append(class_shift_test(rng.multinomial(n_x, shares), rng.multinomial(n_y, shares)).p_value)
    for level in (0.2, 0.05, 0.01):
        noise = 3 * math.sqrt(level / 1000)
        assert {name: p for name, p in found.items() if rejections(p, level) > level + noise} == {}
    assert min(rejections(p, 0.5) for p in found.values()) > 0.05  # conservative, not blind


def test_the_stated_smallest_shift_is_found_as_often_as_stated(rng):
    n_x, n_y, alpha = 2000, 500, 0.01
    shift = smallest_detectable_shift(n_x, n_y, alpha)
    edges = np.array([0.5])
    found = 0
    for _ in range(300):
        x, y = rng.random(n_x), np.where(rng.random(n_y) < 0.5 + shift, 0.0, 1.0)
        found += ks_test_binned(count_bins(x, edges), count_bins(y, edges)).p_value <= alpha
    assert found / 300 >= 0.87


def test_the_smallest_shift_shrinks_with_either_sample_and_says_when_there_is_none():
    assert smallest_detectable_shift(1000, 1000, 0.01) > smallest_detectable_shift(1000, 10_000, 0.01)
    assert smallest_detectable_shift(1000, 1000, 0.01) > smallest_detectable_shift(10_000, 1000, 0.01)
    assert smallest_detectable_shift(10, 10, 0.001) == 1.0
    assert math.isnan(smallest_detectable_shift(0, 10, 0.01))


def test_tails_find_a_small_new_topic_where_ks_is_blind(rng):
    edges = bin_edges(rng.normal(size=2000))
    baseline = count_bins(rng.normal(size=2000), edges)
    window = count_bins(np.where(rng.random(2000) < 0.05, rng.normal(3.5, 1, 2000), rng.normal(size=2000)), edges)
    tails = tail_shift_test(baseline, window)
    assert ks_test_binned(baseline, window).p_value > 0.001
    assert tails.p_value < 1e-9
    assert tails.effect == pytest.approx(0.045, abs=0.015)


@pytest.mark.parametrize("new", [100, 500])
def test_tails_find_a_large_new_topic_that_lies_in_one_bin(new):
    baseline, window = [300, 500, 200, 0], [300, 500, 200, new]
    found = tail_shift_test(baseline, window)
    assert found.p_value < 1e-20
    assert found.effect == pytest.approx(new / (1000 + new))


@given(st.lists(st.integers(0, 50), min_size=3, max_size=3), st.lists(st.integers(0, 50), min_size=3, max_size=3))
def test_tails_are_symmetric_in_direction(x, y):
    left, right = tail_shift_test(x, y), tail_shift_test(x[::-1], y[::-1])
    assert (left.p_value == pytest.approx(right.p_value)) or (math.isnan(left.p_value) and math.isnan(right.p_value))


def test_class_shift_is_found_with_its_size_and_its_size_is_not_a_matter_of_n(rng):
    shares = rng.dirichlet(np.full(77, 0.6))
    moved = 0.8 * shares + 0.2 * np.eye(77)[np.argsort(shares)[60]]
    effects = []
    for n in (500, 5000, 50_000):
        same = class_shift_test(rng.multinomial(20_000, shares), rng.multinomial(n, shares))
        shifted = class_shift_test(rng.multinomial(20_000, shares), rng.multinomial(n, moved))
        assert same.effect < 0.08
        assert shifted.p_value < 1e-9
        effects.append(shifted.effect)
    assert effects == pytest.approx([effects[-1]] * 3, abs=0.05)


def test_rare_classes_are_pooled_and_not_judged_alone():
    many_rare = [1000, *[1] * 200]
    assert class_shift_test(many_rare, [500, *[0] * 199, 100]).p_value < 1e-6  # their sum has moved
    assert class_shift_test([1000, 3, 0], [100, 0, 1]) == class_shift_test([1000, 0, 3], [100, 1, 0])
    assert class_shift_test([1000, 2], [100, 1]).p_value == 1.0  # nothing is left to compare


def test_unseen_class_is_evidence():
    assert class_shift_test([500, 500, 0], [400, 400, 200]).p_value < 1e-9


@pytest.mark.parametrize("test", [ks_test_binned, tail_shift_test, class_shift_test])
def test_an_empty_side_gives_nan_and_bad_counts_an_error(test):
    empty = test([0, 0, 0], [1, 2, 3])
    assert math.isnan(empty.p_value)
    assert math.isnan(empty.effect)
    assert (empty.n_x, empty.n_y) == (0, 6)
    with pytest.raises(ValueError, match="counts_x has 2 bins"):
        test([1, 2], [1, 2, 3])
    with pytest.raises(ValueError, match="not negative"):
        test([1, -2], [1, 2])


def test_nan_is_left_out_of_samples():
    assert ks_test([1.0, math.nan, 2.0], [1.0, 2.0]).n_x == 2
    assert math.isnan(ks_test([math.nan], [1.0]).p_value)


@given(p_values, st.floats(0.001, 0.5))
def test_holm_lies_between_bonferroni_and_no_correction(p, alpha):
    rejected = holm(p, alpha)
    assert {name for name, value in p.items() if value <= alpha / max(len(p), 1)} <= rejected
    assert rejected <= {name for name, value in p.items() if value <= alpha}


@given(p_values, st.floats(0.001, 0.2), st.floats(1, 2))
def test_holm_rejects_no_less_at_a_higher_level(p, alpha, factor):
    assert holm(p, alpha) <= holm(p, alpha * factor)


@given(p_values.filter(bool), st.floats(0.001, 0.5), st.data())
def test_holm_rejects_no_less_when_one_p_value_falls(p, alpha, data):
    name = data.draw(st.sampled_from(sorted(p)))
    lower = {**p, name: p[name] * data.draw(st.floats(0, 1))}
    assert holm(p, alpha) <= holm(lower, alpha)


def test_holm_counts_what_cannot_be_tested():
    assert holm({"a": 0.03, "b": math.nan}, 0.05) == frozenset()
    assert holm({"a": 0.02, "b": math.nan}, 0.05) == {"a"}
