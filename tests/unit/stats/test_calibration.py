"""Calibration measures: known values, agreement with their definitions, and honesty on little or broken data."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import norm

from monitoring.stats.calibration import (
    brier_score,
    calibration_drift_test,
    debiased_ece,
    expected_calibration_error,
    fit_temperature,
    negative_log_likelihood,
    reliability_bins,
    smooth_ece,
    softmax,
    top_label_brier,
    wilson_interval,
)

ERRORS = [expected_calibration_error, debiased_ece, smooth_ece]
outcomes = st.lists(st.tuples(st.floats(0.0, 1.0), st.booleans()), min_size=1, max_size=80)


def calibrated(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    confidence = rng.beta(6.0, 0.9, n)
    return confidence, rng.random(n) < confidence


def sampled_labels(rng: np.random.Generator, logits: np.ndarray) -> np.ndarray:
    """Labels drawn from the softmax of the logits (Gumbel's trick)."""
    return (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)


# -- temperature ------------------------------------------------------------------------------------------------------


@given(arrays(np.float64, (4, 3), elements=st.floats(-700.0, 700.0)), st.floats(0.05, 20.0))
def test_softmax_gives_probabilities_and_keeps_the_order(logits, temperature):
    probabilities = softmax(logits, temperature)
    assert probabilities.sum(axis=1) == pytest.approx(np.ones(4))
    chosen = probabilities[np.arange(4), logits.argmax(axis=1)]
    assert (chosen == probabilities.max(axis=1)).all()


@pytest.mark.parametrize("factor", [0.5, 1.0, 3.0])
def test_temperature_undoes_a_scaling_of_the_logits(factor):
    rng = np.random.default_rng(0)
    logits = rng.normal(scale=2.0, size=(4_000, 5))
    labels = sampled_labels(rng, logits)
    assert fit_temperature(logits * factor, labels) == pytest.approx(factor, rel=0.06)


@given(
    arrays(np.float64, (12, 3), elements=st.floats(-50.0, 50.0)), st.lists(st.integers(0, 2), min_size=12, max_size=12)
)
def test_temperature_never_worsens_the_likelihood(logits, labels):
    temperature = fit_temperature(logits, labels)
    assert 0.05 <= temperature <= 20.0
    before = negative_log_likelihood(softmax(logits), labels)
    assert negative_log_likelihood(softmax(logits, temperature), labels) <= before + 1e-6


def test_temperature_is_one_where_nothing_can_be_learnt():
    assert fit_temperature(np.zeros((0, 3)), []) == 1.0
    assert fit_temperature(np.zeros((5, 1)), np.zeros(5, dtype=int)) == 1.0
    assert fit_temperature(np.zeros((5, 3)), np.zeros(5, dtype=int)) == 1.0
    assert fit_temperature([[math.nan, 0.0]], [0]) == 1.0


# -- proper scores ----------------------------------------------------------------------------------------------------


def test_scores_of_a_small_table_by_hand():
    probabilities = [[0.8, 0.2], [0.4, 0.6]]
    assert brier_score(probabilities, [0, 0]) == pytest.approx((0.08 + 0.72) / 2)
    assert negative_log_likelihood(probabilities, [0, 0]) == pytest.approx(-(math.log(0.8) + math.log(0.4)) / 2)
    assert top_label_brier([0.8, 0.6], [1, 0]) == pytest.approx((0.04 + 0.36) / 2)


def test_a_certain_mistake_costs_a_finite_likelihood():
    assert negative_log_likelihood([[1.0, 0.0]], [1]) == pytest.approx(-math.log(1e-12))


# -- calibration errors -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", ERRORS)
@given(stated=st.floats(0.0, 1.0), right=st.integers(0, 400))
def test_one_confidence_errs_by_its_gap(error, stated, right):
    correct = np.arange(400) < right
    gap = abs(stated - correct.mean())
    assert error(np.full(400, stated), correct) == pytest.approx(gap, abs=0.02)


@pytest.mark.parametrize("error", ERRORS)
@given(outcomes)
def test_errors_lie_in_the_unit_interval_whatever_the_order(error, rows):
    confidence, correct = (np.array(column) for column in zip(*rows, strict=True))
    value = error(confidence, correct)
    assert 0.0 <= value <= 1.0 + 1e-9
    assert error(confidence[::-1], correct[::-1]) == pytest.approx(value, abs=1e-9)


@pytest.mark.parametrize("error", ERRORS)
def test_certain_and_right_is_perfect(error):
    correct = np.arange(100) % 3 == 0
    assert error(correct.astype(float), correct) == pytest.approx(0.0, abs=1e-3)


def test_debiasing_takes_away_most_of_the_error_of_a_perfect_model():
    rng = np.random.default_rng(1)
    for n, bound in ((100, 0.035), (500, 0.023), (2_000, 0.012)):
        draws = [calibrated(rng, n) for _ in range(100)]
        plain = np.mean([expected_calibration_error(*draw) for draw in draws])
        debiased = np.mean([debiased_ece(*draw) for draw in draws])
        assert debiased < 0.75 * plain
        assert debiased < bound


def test_debiasing_keeps_a_true_error():
    rng = np.random.default_rng(2)
    confidence = rng.uniform(0.6, 1.0, 5_000)
    assert debiased_ece(confidence, rng.random(5_000) < confidence - 0.1) == pytest.approx(0.1, abs=0.015)
    assert smooth_ece(confidence, rng.random(5_000) < confidence - 0.1) == pytest.approx(0.1, abs=0.015)


def test_smooth_ece_is_the_bandwidth_that_equals_its_own_error():
    rng = np.random.default_rng(3)
    confidence = rng.random(300)
    correct = rng.random(300) < confidence**1.7
    value = smooth_ece(confidence, correct)
    points = (np.arange(1_000) + 0.5) / 1_000
    images = np.concatenate([sign * confidence + 2.0 * shift for shift in range(-1, 2) for sign in (1.0, -1.0)])
    kernel = norm.pdf(points[:, None] - images, scale=value)
    residual = np.tile(correct - confidence, 6)
    assert np.abs(kernel @ residual / 300).mean() == pytest.approx(value, abs=1e-4)


@given(outcomes, st.integers(1, 20))
def test_reliability_bins_hold_every_row_once(rows, bins):
    confidence, correct = (np.array(column) for column in zip(*rows, strict=True))
    diagram = reliability_bins(confidence, correct, bins)
    assert sum(part.n for part in diagram) == len(rows)
    assert sum(part.n * part.accuracy for part in diagram) == pytest.approx(correct.sum())
    for part in diagram:
        assert part.low - 1e-9 <= part.mean_confidence <= part.high + 1e-9
        assert 0.0 <= part.accuracy_low <= part.accuracy + 1e-9
        assert part.accuracy - 1e-9 <= part.accuracy_high <= 1.0


def test_wilson_interval_matches_a_textbook_value():
    assert wilson_interval(0.9, 10) == pytest.approx((0.5958, 0.9821), abs=1e-4)


# -- drift of calibration ---------------------------------------------------------------------------------------------


def test_calibration_alarms_keep_their_level_under_peeking():
    rng = np.random.default_rng(4)
    alarms = []
    for _ in range(200):
        confidence, correct = calibrated(rng, 800)
        looks = (calibration_drift_test(confidence[:n], correct[:n], 0.0).p_value for n in range(80, 801, 80))
        alarms.append(min(looks) <= 0.05)
    assert np.mean(alarms) <= 0.05


def test_calibration_within_the_tolerance_is_no_alarm():
    rng = np.random.default_rng(5)
    confidence = rng.uniform(0.5, 0.95, 50_000)
    drift = calibration_drift_test(confidence, rng.random(50_000) < confidence - 0.02, tolerance=0.03)
    assert drift.p_value > 0.05
    assert drift.gap == pytest.approx(0.02, abs=0.01)


@pytest.mark.parametrize("shift", [-0.1, 0.1])
def test_a_shift_of_calibration_is_found_with_its_direction(shift):
    rng = np.random.default_rng(6)
    confidence = rng.uniform(0.5, 0.9, 1_500)
    drift = calibration_drift_test(confidence, rng.random(1_500) < confidence - shift)
    assert drift.p_value < 0.01
    assert (drift.log_e_overconfident > drift.log_e_underconfident) == (shift > 0)


@pytest.mark.parametrize("shift", [-0.2, 0.2])
def test_a_shift_after_a_long_calibrated_past_is_found_as_soon(shift):
    rng = np.random.default_rng(7)
    confidence = rng.uniform(0.5, 0.8, 4_500)
    correct = rng.random(4_500) < confidence - shift * (np.arange(4_500) >= 4_000)
    assert calibration_drift_test(confidence[:4_000], correct[:4_000], tolerance=0.03).p_value > 0.05
    assert calibration_drift_test(confidence, correct, tolerance=0.03).p_value < 0.001


# -- undefined and wrong input ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [*ERRORS, top_label_brier])
def test_undefined_is_nan(error):
    assert math.isnan(error([], []))
    assert math.isnan(error([0.5, math.nan], [True, False]))


def test_undefined_tables_are_nan():
    assert math.isnan(brier_score(np.zeros((0, 3)), []))
    assert math.isnan(brier_score([[math.nan, 0.5]], [0]))
    assert math.isnan(negative_log_likelihood(np.zeros((0, 3)), []))
    assert math.isnan(negative_log_likelihood([[math.nan, 0.5]], [1]))
    assert reliability_bins([], []) == ()


def test_drift_without_usable_rows_is_no_evidence():
    nothing = calibration_drift_test([math.nan], [True])
    assert (nothing.n, nothing.p_value) == (0, 1.0)
    assert math.isnan(nothing.gap)
    saturated = calibration_drift_test([1.0, 0.0], [True, False])
    assert saturated.p_value == 1.0


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="temperature"):
        softmax([0.0], 0.0)
    with pytest.raises(ValueError, match="not logits"):
        smooth_ece([1.5], [True])
    with pytest.raises(ValueError, match="true or false"):
        smooth_ece([0.5], [0.5])
    with pytest.raises(ValueError, match="one length"):
        smooth_ece([0.5, 0.5], [True])
    with pytest.raises(ValueError, match="leave out labels"):
        brier_score([[0.5, 0.5]], [2])
    with pytest.raises(ValueError, match="tolerance"):
        calibration_drift_test([0.5], [True], tolerance=0.5)
