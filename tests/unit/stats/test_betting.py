"""The engine under the anytime-valid tests: valid at every look, exact under sampling, quick to find a change."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitoring.stats.betting import (
    STAKES,
    TILTS,
    BoundedStream,
    bounded_stream,
    confidence_bounds,
    log_evidence_above,
    log_evidence_below,
    log_evidence_of_rise,
    log_tilt_evidence,
    log_tilt_evidence_of_rise,
    sampling_weights,
)

unit_values = st.lists(st.floats(0.0, 1.0), min_size=1, max_size=60)


def evidence_path(stream: BoundedStream, null: float) -> np.ndarray:
    """Log e-value against 'mean <= null' after each observation, for simulations that look at every one."""
    gains = stream.weight * (stream.values - null) / (null - stream.low)
    growth = np.cumsum(np.log1p(STAKES[:, None] * gains), axis=1)
    return np.logaddexp.reduce(growth, axis=0) - math.log(len(STAKES))


def flipped(stream: BoundedStream) -> BoundedStream:
    """The stream of the negated observations."""
    return BoundedStream(-stream.values, -stream.high, -stream.low, stream.weight)


def alarm_rate(paths: list[np.ndarray], alpha: float) -> float:
    """Share of paths that reach 1/alpha at any look."""
    return float(np.mean([path.max() >= math.log(1.0 / alpha) for path in paths]))


@given(unit_values, st.floats(0.05, 0.95), st.data())
def test_looking_early_gives_what_the_shorter_stream_gives(values, null, data):
    seen = data.draw(st.integers(1, len(values)))
    path = evidence_path(bounded_stream(values, 0.0, 1.0, 1.0), null)
    prefix = bounded_stream(values[:seen], 0.0, 1.0, 1.0)
    assert log_evidence_above(prefix, null) == pytest.approx(path[seen - 1], abs=1e-9)
    assert log_evidence_below(flipped(prefix), -null) == pytest.approx(path[seen - 1], abs=1e-9)


@settings(max_examples=40)
@given(unit_values, st.floats(0.01, 0.5))
def test_bounds_hold_the_mean_and_stay_in_the_support(values, alpha):
    stream = bounded_stream(values, 0.0, 1.0, 1.0)
    low, high = confidence_bounds(stream, alpha, (0.0, 1.0))
    assert 0.0 <= low <= stream.values.mean() + 1e-9
    assert stream.values.mean() - 1e-9 <= high <= 1.0


@settings(max_examples=40)
@given(unit_values)
def test_more_confidence_widens_the_bounds(values):
    stream = bounded_stream(values, 0.0, 1.0, 1.0)
    narrow, wide = (confidence_bounds(stream, alpha, (0.0, 1.0)) for alpha in (0.2, 0.01))
    assert wide[0] <= narrow[0] + 1e-9
    assert narrow[1] <= wide[1] + 1e-9


@given(unit_values, st.floats(0.1, 0.9))
def test_both_directions_never_win_at_once(values, null):
    stream = bounded_stream(values, 0.0, 1.0, 1.0)
    assert min(log_evidence_above(stream, null), log_evidence_below(stream, null)) <= 1e-9


def test_the_expected_wealth_of_a_fair_bet_is_one():
    outcomes = [[float(bit) for bit in f"{code:06b}"] for code in range(64)]
    wealth = [math.exp(log_evidence_above(bounded_stream(bits, 0.0, 1.0, 1.0), 0.5)) for bits in outcomes]
    late = [math.exp(log_evidence_of_rise(bounded_stream(bits, 0.0, 1.0, 1.0), 0.5)) for bits in outcomes]
    tilted = [
        math.exp(log_tilt_evidence(np.array(bits), np.full(6, 0.5), np.concatenate((-TILTS, TILTS))))
        for bits in outcomes
    ]
    assert np.mean(wealth) == pytest.approx(1.0)
    assert np.mean(late) == pytest.approx(1.0)
    moved = [math.exp(log_tilt_evidence_of_rise(np.array(bits), np.full(6, 0.5), TILTS)) for bits in outcomes]
    assert np.mean(tilted) == pytest.approx(1.0)
    assert np.mean(moved) == pytest.approx(1.0)


def test_confidence_sequence_covers_at_every_look_at_once():
    rng = np.random.default_rng(1)
    excluded = []
    for _ in range(400):
        stream = bounded_stream((rng.random(800) < 0.9).astype(float), 0.0, 1.0, 1.0)
        above, below = evidence_path(stream, 0.9), evidence_path(flipped(stream), -0.9)
        excluded.append(max(above.max(), below.max()) > math.log(2.0 / 0.05))
    assert np.mean(excluded) <= 0.05


def test_bounds_shrink_as_values_come():
    rng = np.random.default_rng(2)
    values = (rng.random(20_000) < 0.9).astype(float)
    widths = [
        np.diff(confidence_bounds(bounded_stream(values[:n], 0.0, 1.0, 1.0), 0.05, (0.0, 1.0)))[0]
        for n in (100, 1_000, 20_000)
    ]
    assert widths[0] < 0.25
    assert widths[1] < 0.08
    assert widths[2] < 0.02


def test_sampling_that_depends_on_the_unit_keeps_its_level_with_a_stated_floor():
    rng = np.random.default_rng(3)
    paths, naive = [], []
    for _ in range(400):
        hard = rng.random(2_000) < 0.3
        value = np.where(hard, rng.random(2_000) < 0.2, rng.random(2_000) < 0.8).astype(float)  # mean .62
        chance = np.where(hard, 0.05, 0.25)
        kept = rng.random(2_000) < chance
        weight = sampling_weights(chance[kept], int(kept.sum()), smallest=0.05)
        paths.append(evidence_path(bounded_stream(value[kept], 0.0, 1.0, weight), 0.62))
        naive.append(evidence_path(bounded_stream(value[kept], 0.0, 1.0, 1.0), 0.62))
    assert alarm_rate(paths, 0.05) <= 0.05
    assert alarm_rate(naive, 0.05) > 0.5


def test_sampling_weights_use_only_what_was_known_before():
    weights = sampling_weights([0.5, 0.1, 0.5, 0.1, 1.0], 5)
    assert weights == pytest.approx([1.0, 1.0, 0.2, 1.0, 0.1])
    assert sampling_weights([0.2, 0.2], 2) == pytest.approx([1.0, 1.0])
    assert sampling_weights([0.5, 1.0], 2, smallest=0.25) == pytest.approx([0.5, 0.25])
    assert sampling_weights(None, 3) == pytest.approx([1.0, 1.0, 1.0])


@given(st.lists(st.floats(0.01, 1.0), min_size=1, max_size=40))
def test_sampling_weights_never_overdraw_a_stake(probabilities):
    weights = sampling_weights(probabilities, len(probabilities))
    assert ((weights > 0.0) & (weights <= 1.0)).all()


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1))
def test_a_late_rise_is_found_though_the_past_was_better_than_the_null(seed):
    rng = np.random.default_rng(seed)
    quiet, raised = rng.random(3_000) < 0.07, rng.random(300) < 0.4
    stream = bounded_stream(np.concatenate((quiet, raised)), 0.0, 1.0, 1.0)
    assert log_evidence_of_rise(stream, 0.1) > math.log(1.0 / 0.001)


def test_an_empty_stream_is_no_evidence():
    nothing = bounded_stream([], 0.0, 1.0, 1.0)
    assert log_evidence_above(nothing, 0.5) == pytest.approx(0.0)
    assert log_evidence_below(nothing, 0.5) == pytest.approx(0.0)
    assert log_evidence_of_rise(nothing, 0.5) == pytest.approx(0.0)
    assert confidence_bounds(nothing, 0.05, (0.0, 1.0)) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("probabilities", "smallest", "problem"),
    [
        ([0.5], None, "one for each unit"),
        ([0.5, 0.0], None, r"\(0, 1\]"),
        ([0.5, 1.5], None, r"\(0, 1\]"),
        ([0.5, math.nan], None, "not finite"),
        ([0.5, 0.2], 0.3, "smallest"),
        ([0.5, 0.2], 0.0, "smallest"),
    ],
)
def test_bad_probabilities_are_named(probabilities, smallest, problem):
    with pytest.raises(ValueError, match=problem):
        sampling_weights(probabilities, 2, smallest)


def test_bad_values_are_named():
    with pytest.raises(ValueError, match=r"values\[1\] is 1\.5"):
        bounded_stream([0.5, 1.5], 0.0, 1.0, 1.0)
    with pytest.raises(ValueError, match="not finite"):
        bounded_stream([0.5, math.nan], 0.0, 1.0, 1.0)
    with pytest.raises(ValueError, match="vector"):
        bounded_stream([[0.5]], 0.0, 1.0, 1.0)


def test_observations_without_a_common_mean_give_back_the_support():
    contrary = BoundedStream(
        values=np.repeat([1.0, 0.0], 500),
        low=np.repeat([0.0, -100.0], 500),
        high=np.repeat([100.0, 1.0], 500),
        weight=np.ones(1_000),
    )
    assert confidence_bounds(contrary, 0.05, (0.2, 0.8)) == (0.2, 0.8)
