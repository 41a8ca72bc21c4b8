"""Verdicts from labels: false alarms under constant peeking, power, sampled labels, clustered keys, moving shares."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitoring.stats.betting import STAKES, TILTS, BoundedStream, sampling_weights
from monitoring.stats.comparison import (
    _difference_stream,
    error_rate_rise,
    mean_confidence_sequence,
    paired_comparison,
    sample_ratio_e_value,
    unpaired_comparison,
)

ALPHA = 0.05
THRESHOLD = math.log(1.0 / ALPHA)


def best_evidence(stream: BoundedStream) -> float:
    """Largest log e-value, in either direction and at any look, against a mean of zero."""
    best = -math.inf
    for room, sign in ((-stream.low, 1.0), (stream.high, -1.0)):
        growth = np.cumsum(np.log1p(STAKES[:, None] * (sign * stream.weight * stream.values / room)), axis=1)
        best = max(best, (np.logaddexp.reduce(growth, axis=0) - math.log(len(STAKES))).max())
    return best


def bernoulli(rng: np.random.Generator, rate: float | np.ndarray, n: int) -> np.ndarray:
    return (rng.random(n) < rate).astype(float)


def split_traffic(rng, candidate_rate, champion_rate, share, n):
    arm = rng.random(n) < share
    return arm, np.where(arm, bernoulli(rng, candidate_rate, n), bernoulli(rng, champion_rate, n))


# -- accuracy ---------------------------------------------------------------------------------------------------------


def test_accuracy_interval_holds_the_truth_and_reports_the_mean():
    values = bernoulli(np.random.default_rng(0), 0.9, 1_000)
    interval = mean_confidence_sequence(values, alpha=0.05)
    assert interval.value == pytest.approx(values.mean())
    assert interval.low < 0.9 < interval.high
    assert interval.high - interval.low < 0.08


def test_accuracy_of_sampled_labels_is_that_of_all_traffic():
    rng = np.random.default_rng(1)
    hard = rng.random(40_000) < 0.3
    correct = bernoulli(rng, np.where(hard, 0.2, 0.95), 40_000)
    chance = np.where(hard, 0.5, 0.1)  # the queue asks for hard ones: accuracy among labels is far too low
    kept = rng.random(40_000) < chance
    interval = mean_confidence_sequence(correct[kept], chance[kept], smallest_probability=0.1)
    assert correct[kept].mean() < 0.5
    assert interval.value == pytest.approx(0.725, abs=0.02)
    assert interval.low < 0.725 < interval.high


@given(st.lists(st.floats(-2.0, 3.0), max_size=50))
def test_interval_stays_within_the_stated_bounds(values):
    interval = mean_confidence_sequence(values, low=-2.0, high=3.0)
    assert -2.0 <= interval.low <= interval.high <= 3.0
    assert math.isnan(interval.value) == (not values)


# -- paired -----------------------------------------------------------------------------------------------------------


@settings(max_examples=40)
@given(st.lists(st.sampled_from([-1.0, -0.5, 0.0, 0.5, 1.0]), max_size=60), st.floats(0.0, 0.3))
def test_swapping_the_models_swaps_the_evidence(differences, margin):
    one = paired_comparison(differences, alpha=ALPHA, margin=margin)
    other = paired_comparison([-d for d in differences], alpha=ALPHA)
    assert one.low == pytest.approx(-other.high, abs=1e-6)
    assert one.log_e_better <= paired_comparison(differences, margin=margin + 0.1).log_e_better + 1e-9
    assert paired_comparison(differences).log_e_harm == pytest.approx(other.log_e_better, abs=1e-9)


@given(
    differences=st.lists(st.sampled_from([-1.0, 0.0, 0.5, 1.0]), min_size=1, max_size=60),
    margin=st.sampled_from([0.0, 0.1]),
)
def test_the_bounds_say_what_the_verdict_says(differences: list[float], margin: float) -> None:
    result = paired_comparison(differences, alpha=ALPHA, margin=margin)
    assert (result.log_e_better >= THRESHOLD) == (result.low >= -margin - 1e-7)
    assert (result.log_e_harm >= THRESHOLD) == (result.high <= -margin + 1e-7)


@given(st.integers(0, 60))
def test_agreeing_models_are_no_evidence(n):
    agreeing = paired_comparison(np.zeros(n))
    assert agreeing.log_e_better == pytest.approx(0.0, abs=1e-9)
    assert agreeing.log_e_harm == pytest.approx(0.0, abs=1e-9)
    assert agreeing.verdict == "inconclusive"


def test_paired_false_alarms_with_a_look_after_every_unit():
    rng = np.random.default_rng(2)
    alarms = []
    for _ in range(400):
        differences = rng.choice([-1.0, 0.0, 1.0], p=[0.1, 0.8, 0.1], size=1_000)
        ones = np.ones(1_000)
        alarms.append(best_evidence(BoundedStream(differences, -ones, ones, ones)) >= math.log(2.0 / ALPHA))
    assert np.mean(alarms) <= ALPHA


def test_paired_public_verdicts_keep_the_level_when_peeked_at():
    rng = np.random.default_rng(3)
    claims = []
    for _ in range(60):
        differences = bernoulli(rng, 0.9, 60) - bernoulli(rng, 0.9, 60)
        looks = [paired_comparison(differences[:n], alpha=ALPHA).verdict for n in range(8, 61, 4)]
        claims.append("better" in looks)
    assert np.mean(claims) <= ALPHA


def test_paired_power_for_60_against_90_percent():
    rng = np.random.default_rng(4)
    runs = [paired_comparison(bernoulli(rng, 0.9, 120) - bernoulli(rng, 0.6, 120)) for _ in range(100)]
    assert np.mean([run.verdict == "better" for run in runs]) >= 0.95
    harmed = [paired_comparison(bernoulli(rng, 0.6, 120) - bernoulli(rng, 0.9, 120)) for _ in range(100)]
    assert np.mean([run.verdict == "worse" for run in harmed]) >= 0.95


def test_a_margin_lets_an_equal_candidate_pass_and_never_a_worse_one():
    rng = np.random.default_rng(5)
    equal = rng.choice([-1.0, 0.0, 1.0], p=[0.05, 0.9, 0.05], size=3_000)
    assert paired_comparison(equal, margin=0.03).verdict == "better"
    assert paired_comparison(equal - 0.06 * (equal == 0.0), margin=0.03).verdict == "worse"


def test_paired_result_reads_as_documented():
    result = paired_comparison([1.0] * 30 + [0.0] * 10, alpha=0.05)
    assert (result.n, result.n_candidate, result.n_champion) == (40, 40, 40)
    assert result.difference == pytest.approx(0.75)
    assert result.low <= result.difference <= result.high
    assert result.verdict == "better"
    assert result.log_e_better >= THRESHOLD


def test_sampled_pairs_keep_the_level_without_a_stated_floor():
    rng = np.random.default_rng(6)
    alarms = []
    for _ in range(400):
        uncertain = rng.random(1_500) < 0.3
        # The candidate wins where both are unsure and loses as much elsewhere: no difference over all traffic.
        win, lose = np.where(uncertain, 0.35, 0.0), np.where(uncertain, 0.0, 0.15)
        differences = bernoulli(rng, win, 1_500) - bernoulli(rng, lose, 1_500)
        chance = np.where(uncertain, 0.5, 0.1)
        kept = rng.random(1_500) < chance
        n = int(kept.sum())
        stream = BoundedStream(differences[kept], -np.ones(n), np.ones(n), sampling_weights(chance[kept], n))
        alarms.append(best_evidence(stream) >= math.log(2.0 / ALPHA))
    assert np.mean(alarms) <= ALPHA


# -- unpaired ---------------------------------------------------------------------------------------------------------


def test_unpaired_false_alarms_with_peeking_moving_shares_and_a_moving_world():
    rng = np.random.default_rng(7)
    n = 1_200
    share = np.repeat([0.05, 0.25, 0.5], n // 3)
    rate = 0.75 + 0.2 * np.sin(np.arange(n) / 90.0)
    alarms = []
    for _ in range(400):
        arm, values = split_traffic(rng, rate, rate, share, n)
        stream = _difference_stream(arm, values, share, np.ones(n))
        alarms.append(best_evidence(stream) >= math.log(2.0 / ALPHA))
    assert np.mean(alarms) <= ALPHA


def test_unpaired_false_alarms_with_clustered_keys():
    rng = np.random.default_rng(8)
    keys, requests = 200, 15
    per_key, per_request = [], []
    for _ in range(200):
        arm = rng.random(keys) < 0.5
        rate = rng.beta(0.8, 0.4, keys)  # some keys almost always fail, most never
        outcomes = rng.random((keys, requests)) < rate[:, None]
        one_each = _difference_stream(arm, outcomes.mean(axis=1), np.full(keys, 0.5), np.ones(keys))
        many = keys * requests
        all_of_them = _difference_stream(
            np.repeat(arm, requests), outcomes.ravel().astype(float), np.full(many, 0.5), np.ones(many)
        )
        per_key.append(best_evidence(one_each) >= math.log(2.0 / ALPHA))
        per_request.append(best_evidence(all_of_them) >= math.log(2.0 / ALPHA))
    assert np.mean(per_key) <= ALPHA
    assert np.mean(per_request) > 0.3  # why the unit is the key


@pytest.mark.parametrize(("share", "n"), [(0.5, 300), (0.25, 500), (0.05, 1_200)])
def test_unpaired_power_for_60_against_90_percent(share, n):
    rng = np.random.default_rng(9)
    better = [unpaired_comparison(*split_traffic(rng, 0.9, 0.6, share, n), share).verdict for _ in range(60)]
    worse = [unpaired_comparison(*split_traffic(rng, 0.6, 0.9, share, n), share).verdict for _ in range(60)]
    assert better.count("better") >= 54
    assert worse.count("worse") >= 54


def test_unpaired_interval_covers_the_difference():
    rng = np.random.default_rng(10)
    results = [unpaired_comparison(*split_traffic(rng, 0.85, 0.8, 0.3, 600), 0.3) for _ in range(200)]
    assert np.mean([result.low <= 0.05 <= result.high for result in results]) >= 0.95
    assert np.mean([result.difference for result in results]) == pytest.approx(0.05, abs=0.01)


def test_unpaired_weights_sampled_labels():
    rng = np.random.default_rng(11)
    n = 30_000
    hard = rng.random(n) < 0.3
    arm = rng.random(n) < 0.5
    # The candidate is better on the hard ones and worse on the rest: -0.04 over all traffic.
    rate = np.where(hard, np.where(arm, 0.5, 0.4), np.where(arm, 0.8, 0.9))
    values, chance = bernoulli(rng, rate, n), np.where(hard, 0.5, 0.1)
    kept = rng.random(n) < chance
    result = unpaired_comparison(arm[kept], values[kept], 0.5, chance[kept], smallest_probability=0.1)
    assert result.difference == pytest.approx(-0.04, abs=0.03)
    assert result.low < -0.04 < result.high
    assert unpaired_comparison(arm[kept], values[kept], 0.5).difference > -0.02


@settings(max_examples=25)
@given(st.lists(st.tuples(st.booleans(), st.floats(0.0, 1.0), st.floats(0.05, 0.95)), max_size=40))
def test_unpaired_is_defined_on_any_data(units):
    arm, values, share = (np.array(column) for column in zip(*units, strict=True)) if units else ([], [], [])
    result = unpaired_comparison(arm, values, share)
    assert result.n == result.n_candidate + result.n_champion == len(units)
    assert -1.0 <= result.low <= result.high <= 1.0
    assert math.isnan(result.difference) == (result.n_candidate == 0 or result.n_champion == 0)
    assert not math.isnan(result.log_e_better + result.log_e_harm)


# -- guardrails -------------------------------------------------------------------------------------------------------


def test_sample_ratio_is_quiet_on_fair_splits_and_loud_on_broken_ones():
    rng = np.random.default_rng(12)
    looks = range(200, 4_001, 200)
    share = np.repeat([0.1, 0.5], 2_000)
    fair = []
    for _ in range(200):
        arm = rng.random(4_000) < share
        fair.append(max(sample_ratio_e_value(arm[:n], share[:n]) for n in looks) >= math.log(1_000))
    assert np.mean(fair) <= 0.01
    broken = [sample_ratio_e_value(rng.random(30_000) < 0.52, 0.5) >= math.log(1_000) for _ in range(30)]
    assert np.mean(broken) >= 0.9


@given(st.lists(st.booleans(), max_size=50), st.floats(0.05, 0.95))
def test_sample_ratio_treats_the_arms_alike(arm, share):
    mirrored = sample_ratio_e_value([not a for a in arm], 1.0 - share)
    assert sample_ratio_e_value(arm, share) == pytest.approx(mirrored, abs=1e-9)
    assert mirrored <= len(arm) * TILTS.max() + 1e-9


def test_error_rate_alarms_keep_their_level_and_find_a_late_rise():
    rng = np.random.default_rng(13)
    quiet = []
    for _ in range(200):
        errors = bernoulli(rng, 0.1, 600)
        quiet.append(max(error_rate_rise(errors[:n], 0.1) for n in range(50, 601, 50)) >= THRESHOLD)
    assert np.mean(quiet) <= ALPHA
    risen = [
        error_rate_rise(np.concatenate((bernoulli(rng, 0.1, 2_000), bernoulli(rng, 0.3, 200))), 0.1) >= THRESHOLD
        for _ in range(50)
    ]
    assert np.mean(risen) >= 0.9


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="alpha"):
        paired_comparison([0.0], alpha=0.0)
    with pytest.raises(ValueError, match="margin"):
        paired_comparison([0.0], margin=1.0)
    with pytest.raises(ValueError, match=r"values\[0\] is 2"):
        paired_comparison([2.0])
    with pytest.raises(ValueError, match="arm"):
        unpaired_comparison([True], [0.5, 0.5], 0.5)
    with pytest.raises(ValueError, match="share"):
        unpaired_comparison([True, False], [0.5, 0.5], [0.5, 1.0])
    with pytest.raises(ValueError, match="baseline_rate"):
        error_rate_rise([0.0], 0.0)
