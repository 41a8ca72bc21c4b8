import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.stats.profile import ProfileSpec, WindowProfile, merge_states

SPEC = ProfileSpec({"confidence": np.array([0.25, 0.5, 0.75]), "length": np.array([5.0, 20.0])}, classes=4, features=3)

real = st.floats(-10, 10) | st.sampled_from([np.nan, np.inf])
row = st.tuples(real, real, st.integers(0, 3), st.tuples(real, real, real))
windows = st.lists(row, max_size=6)


def profile(rows, onto=None):
    confidence, length, predicted, features = zip(*rows, strict=True) if rows else ([], [], [], np.empty((0, 3)))
    signals = {"confidence": confidence, "length": length}
    return (onto or WindowProfile.empty(SPEC)).add(signals, predicted, features)


def content(window):
    return {name: array.tolist() for name, array in window.to_arrays().items()}


@given(windows, windows, windows)
def test_merging_is_exact_in_any_order_and_grouping(a, b, c):
    whole = content(profile(a + b + c))
    one, two, three = profile(a), profile(b), profile(c)
    assert content(one.merge(two).merge(three)) == whole
    assert content(one.merge(two.merge(three))) == whole
    assert content(three.merge(one).merge(two)) == whole
    assert content(profile(c, onto=profile(b, onto=one))) == whole


@given(st.lists(windows, min_size=1, max_size=5), st.randoms(use_true_random=False))
def test_states_merge_like_the_rows_that_they_stand_for(parts, random):
    shuffled = random.sample(parts, len(parts))
    cut = random.randint(1, len(parts))
    states = [profile(part).to_arrays() for part in shuffled]
    grouped = [merge_states(states[:cut]), *states[cut:]]
    merged = WindowProfile.from_arrays(SPEC, merge_states(grouped))
    assert content(merged) == content(profile([row for part in parts for row in part]))


@given(windows)
def test_the_empty_profile_changes_nothing(rows):
    empty = WindowProfile.empty(SPEC)
    assert content(profile(rows).merge(empty)) == content(empty.merge(profile(rows))) == content(profile(rows))


@given(windows)
def test_every_row_is_counted_once_in_every_signal(rows):
    window = profile(rows)
    assert window.n == len(rows) == window.class_counts.sum()
    assert {counts.sum() for counts in window.bin_counts.values()} == {len(rows)}


@given(windows)
def test_saved_and_loaded_it_is_the_same_and_still_merges(rows):
    file = io.BytesIO()
    np.savez(file, **profile(rows).to_arrays())
    file.seek(0)
    with np.load(file, allow_pickle=False) as arrays:
        loaded = WindowProfile.from_arrays(SPEC, arrays)
    assert content(loaded) == content(profile(rows))
    assert loaded.merge(profile(rows)).n == 2 * len(rows)


def test_means_are_those_of_the_finite_rows(rng):
    features = rng.normal(size=(1000, 3))
    features[7, 1] = np.nan
    signals = {"confidence": rng.random(1000), "length": rng.random(1000)}
    window = WindowProfile.empty(SPEC).add(signals, rng.integers(0, 4, 1000), features)
    assert (window.n, window.n_features) == (1000, 999)
    assert np.allclose(window.feature_mean(), np.delete(features, 7, axis=0).mean(axis=0), atol=1e-7)
    assert np.isnan(WindowProfile.empty(SPEC).feature_mean()).all()


def test_adding_leaves_the_old_profile_as_it_was():
    before = profile([(0.1, 3.0, 1, (1.0, 2.0, 3.0))])
    snapshot = content(before)
    profile([(0.2, 4.0, 2, (1.0, 1.0, 1.0))], onto=before)
    assert content(before) == snapshot


def test_bad_input_is_named():
    empty = WindowProfile.empty(SPEC)
    signals, features = {"confidence": [0.5], "length": [3.0]}, [[0.0, 0.0, 0.0]]
    with pytest.raises(ValueError, match="signals must be"):
        empty.add({"confidence": [0.5]}, [0], features)
    with pytest.raises(ValueError, match="the spec has 4 classes"):
        empty.add(signals, [4], features)
    with pytest.raises(ValueError, match="integers"):
        empty.add(signals, [0.5], features)
    with pytest.raises(ValueError, match=r"shape \(n, 3\)"):
        empty.add(signals, [0], [[0.0]])
    with pytest.raises(ValueError, match="predicted has 2 rows"):
        empty.add(signals, [0, 1], features)
    with pytest.raises(ValueError, match="unit length"):
        empty.add(signals, [0], [[1e9, 0.0, 0.0]])
    with pytest.raises(ValueError, match="different specs"):
        empty.merge(WindowProfile.empty(ProfileSpec(SPEC.edges, classes=5, features=3)))
    with pytest.raises(ValueError, match="format"):
        WindowProfile.from_arrays(SPEC, {})
    other = WindowProfile.empty(ProfileSpec(SPEC.edges, classes=4, features=3, basis="other weights"))
    with pytest.raises(ValueError, match="different specs"):
        empty.merge(other)
    with pytest.raises(ValueError, match="different baselines"):
        merge_states([empty.to_arrays(), other.to_arrays()])
    with pytest.raises(ValueError, match="another baseline"):
        WindowProfile.from_arrays(SPEC, other.to_arrays())
    with pytest.raises(ValueError, match="classes"):
        ProfileSpec({}, classes=0, features=1)
