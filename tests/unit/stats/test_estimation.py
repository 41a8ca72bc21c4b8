"""Accuracy without labels: coverage, honesty under shift, learning from labels, and broken input."""

import io
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit

from monitoring.stats.estimation import AccuracyEstimator
from monitoring.stats.strangeness import Strangeness
from monitoring.stats.support import EmpiricalReference, unfamiliar_traffic


def usual_doubt(rng: np.random.Generator) -> Strangeness:
    ease = rng.normal(size=1_000)
    entropy = -2.0 * np.log(expit(2.5 + 1.5 * ease + 0.4 * rng.normal(size=1_000))) + 0.1 * rng.random(1_000)
    similarity = 0.75 + 0.08 * ease + 0.04 * rng.normal(size=1_000)
    return Strangeness.of({"entropy": entropy, "similarity": similarity}, {"entropy": +1, "similarity": -1})


DOUBT = usual_doubt(np.random.default_rng(16))


def familiar(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Signals like those of a 90 % model (confidence, entropy, margin, similarity, doubt) and correctness."""
    ease = rng.normal(size=n)
    confidence = expit(2.5 + 1.5 * ease + 0.4 * rng.normal(size=n))
    entropy = -np.log(confidence) * 2.0 + 0.1 * rng.random(n)
    margin = np.clip(2.0 * confidence - 1.0 + 0.05 * rng.normal(size=n), 0.0, 1.0)
    similarity = np.clip(0.75 + 0.08 * ease + 0.04 * rng.normal(size=n), -1.0, 1.0)
    signals = (confidence, entropy, margin, similarity, doubt_of(entropy, similarity))
    return np.column_stack(signals), rng.random(n) < expit(2.8 + 1.4 * ease)


def doubt_of(entropy: np.ndarray, similarity: np.ndarray) -> np.ndarray:
    return DOUBT({"entropy": entropy, "similarity": similarity})


def novel(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """A new topic: less sure, less similar, and always wrong."""
    confidence = rng.uniform(0.2, 0.8, n)
    entropy, similarity = -2.0 * np.log(confidence), rng.normal(0.45, 0.06, n)
    signals = (confidence, entropy, np.clip(2 * confidence - 1, 0, 1), similarity, doubt_of(entropy, similarity))
    return np.column_stack(signals), np.zeros(n, dtype=bool)


def traffic(rng: np.random.Generator, n: int, share: float) -> tuple[np.ndarray, np.ndarray]:
    new = int(rng.binomial(n, share))
    old, fresh = familiar(rng, n - new), novel(rng, new)
    mixed = rng.permutation(n)
    return np.concatenate((old[0], fresh[0]))[mixed], np.concatenate((old[1], fresh[1]))[mixed]


def fitted(rng: np.random.Generator, n: int = 2_000) -> AccuracyEstimator:
    return AccuracyEstimator.fit(*familiar(rng, n))


FITTED = fitted(np.random.default_rng(10), 500)


# -- no shift ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("baseline", "window"), [(2_000, 500), (2_000, 100), (400, 300)])
def test_without_shift_the_interval_covers_and_the_error_is_that_of_the_draw(baseline, window):
    rng = np.random.default_rng(baseline + window)
    covered, errors, silent = [], [], []
    for _ in range(60):
        estimator = fitted(rng, baseline)
        for _ in range(5):
            signals, correct = familiar(rng, window)
            estimate = estimator.estimate(signals)
            covered.append(estimate.low <= correct.mean() <= estimate.high)
            errors.append(abs(estimate.value - correct.mean()))
            silent.append(not estimate.trustworthy)
    assert np.mean(covered) >= 0.95
    assert np.mean(silent) <= 0.05
    # The luck of window and baseline, at a mean variance of .075 a row, leaves a method that knew all but this little.
    assert np.mean(errors) <= 1.1 * 0.8 * math.sqrt(0.075 * (1 / window + 1 / baseline))


def test_labels_do_no_harm_without_shift():
    rng = np.random.default_rng(1)
    estimator = fitted(rng)
    errors, silent = [], []
    for _ in range(80):
        signals, correct = familiar(rng, 500)
        estimate = estimator.estimate(signals, (*familiar(rng, 100), None))
        errors.append(abs(estimate.value - correct.mean()))
        silent.append(not estimate.trustworthy)
    assert np.mean(errors) <= 0.016
    assert np.mean(silent) <= 0.05


# -- shift ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.2, 0.5])
def test_strong_shift_says_cannot_tell_and_its_interval_holds_the_truth(share):
    rng = np.random.default_rng(2)
    estimator = fitted(rng)
    for _ in range(40):
        signals, correct = traffic(rng, 500, share)
        estimate = estimator.estimate(signals)
        assert not estimate.trustworthy
        assert estimate.reason.startswith("cannot tell: between")
        assert estimate.low <= correct.mean() <= estimate.high
        assert estimate.high - estimate.low > share


@pytest.mark.parametrize(("share", "goal"), [(0.05, 0.015), (0.2, 0.03), (0.5, 0.07)])
def test_doubt_tells_the_accuracy_under_a_new_topic_without_a_label(share, goal):
    rng = np.random.default_rng(15)
    estimator = fitted(rng)
    errors, flattered = [], []
    for _ in range(40):
        signals, correct = traffic(rng, 500, share)
        errors.append(abs(estimator.estimate(signals).value - correct.mean()))
        flattered.append(estimator.predict(signals).mean() - correct.mean())
    assert np.mean(errors) <= goal
    assert np.mean(errors) < np.mean(flattered)


@pytest.mark.parametrize(("share", "goal"), [(0.2, 0.03), (0.5, 0.07)])
def test_two_hundred_labels_of_the_new_traffic_bring_the_estimate_back(share, goal):
    rng = np.random.default_rng(3)
    estimator = fitted(rng)
    errors, covered = [], []
    for _ in range(40):
        signals, correct = traffic(rng, 500, share)
        estimate = estimator.estimate(signals, (*traffic(rng, 200, share), None))
        errors.append(abs(estimate.value - correct.mean()))
        covered.append(estimate.low <= correct.mean() <= estimate.high)
        assert estimate.trustworthy
    assert np.mean(errors) <= goal
    assert np.mean(covered) >= 0.95


def test_refitting_is_what_estimating_with_labels_does():
    rng = np.random.default_rng(4)
    estimator = fitted(rng)
    signals, _ = traffic(rng, 300, 0.3)
    labelled = traffic(rng, 100, 0.3)
    assert estimator.estimate(signals, (*labelled, None)) == estimator.refit_with(*labelled).estimate(signals)
    assert estimator.labels == 2_000
    assert estimator.refit_with(*labelled).labels == pytest.approx(2_100)


def test_labels_show_a_concept_shift_that_signals_cannot():
    rng = np.random.default_rng(5)
    estimator = fitted(rng)
    signals, correct = familiar(rng, 1_000)
    broken = correct & (rng.random(1_000) < 0.6)  # the same traffic, another truth
    blind = estimator.estimate(signals)
    told = estimator.estimate(signals, (*(part[:200] for part in (signals, broken)), None))
    assert blind.value - broken.mean() > 0.25
    assert abs(told.value - broken.mean()) < 0.07
    assert told.low <= broken.mean() <= told.high


def test_sampling_weights_undo_a_biased_choice_of_labels():
    rng = np.random.default_rng(6)
    estimator = fitted(rng)
    signals, correct = familiar(rng, 6_000)
    hidden = rng.random(6_000) < 0.3  # half of these fail, and no signal shows it
    correct &= ~(hidden & (rng.random(6_000) < 0.5))
    chance = np.where(hidden, 0.4, 0.05)
    kept = rng.random(6_000) < chance
    weighed = estimator.estimate(signals, (signals[kept], correct[kept], 1.0 / chance[kept]))
    plain = estimator.estimate(signals, (signals[kept], correct[kept], None))
    assert abs(weighed.value - correct.mean()) < 0.04 < abs(plain.value - correct.mean())


# -- little, constant and broken data ---------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [0, 1, 10])
def test_a_small_baseline_says_so_and_knows_little(rows):
    rng = np.random.default_rng(7)
    signals, correct = familiar(rng, rows)
    estimate = AccuracyEstimator.fit(signals, correct).estimate(familiar(rng, 200)[0])
    assert not estimate.trustworthy
    assert estimate.reason.startswith(f"cannot tell: learnt from {rows} labels")
    assert 0.0 <= estimate.low <= estimate.value <= estimate.high <= 1.0
    assert estimate.high - estimate.low > (0.9 if rows < 10 else 0.1)


def test_constant_signals_and_one_sided_outcomes_are_defined():
    constant = np.full((200, 5), 0.5)
    for correct in (np.ones(200), np.zeros(200), np.arange(200) % 2):
        estimate = AccuracyEstimator.fit(constant, correct).estimate(constant)
        assert estimate.low <= correct.mean() <= estimate.high
        assert abs(estimate.value - correct.mean()) < 0.02


def test_an_empty_window_is_unknown():
    estimate = fitted(np.random.default_rng(8)).estimate(np.zeros((0, 5)))
    assert math.isnan(estimate.value)
    assert (estimate.low, estimate.high, estimate.trustworthy) == (0.0, 1.0, False)


def test_rows_that_are_not_numbers_may_be_right_or_wrong():
    rng = np.random.default_rng(9)
    estimator = fitted(rng)
    signals, _ = familiar(rng, 500)
    whole = estimator.estimate(signals)
    signals[:200, 1] = math.nan
    partial = estimator.estimate(signals)
    assert partial.high - partial.low > 0.4 > whole.high - whole.low
    assert partial.reason.startswith("cannot tell: 40%")


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.floats(0.0, 1e6))
def test_any_window_gives_an_ordered_interval(seed, rows, scale):
    rng = np.random.default_rng(seed)
    window = scale * rng.standard_t(1, size=(rows, 5))
    estimate = FITTED.estimate(window)
    assert 0.0 <= estimate.low <= estimate.high <= 1.0
    assert 0.0 <= estimate.value <= 1.0


def test_arrays_carry_everything_through_npz():
    rng = np.random.default_rng(11)
    estimator = fitted(rng, 300).refit_with(*traffic(rng, 50, 0.4))
    buffer = io.BytesIO()
    np.savez(buffer, **estimator.to_arrays())
    buffer.seek(0)
    with np.load(buffer, allow_pickle=False) as arrays:
        restored = AccuracyEstimator.from_arrays(arrays)
    signals, _ = traffic(rng, 200, 0.2)
    assert restored.estimate(signals) == estimator.estimate(signals)
    assert sum(array.nbytes for array in estimator.to_arrays().values()) < 64_000


def test_bad_input_is_named():
    rng = np.random.default_rng(12)
    signals, correct = familiar(rng, 50)
    estimator = AccuracyEstimator.fit(signals, correct)
    with pytest.raises(ValueError, match=r"give \(rows, 5\)"):
        estimator.estimate(signals[:, :3])
    with pytest.raises(ValueError, match="must match 50 rows"):
        AccuracyEstimator.fit(signals, correct[:10])
    with pytest.raises(ValueError, match="weights must be positive"):
        estimator.refit_with(signals, correct, np.zeros(50))
    with pytest.raises(ValueError, match="true or false"):
        estimator.refit_with(signals, np.full(50, 7.0))


# -- support ----------------------------------------------------------------------------------------------------------


def test_the_proven_share_of_new_traffic_stays_below_the_true_one():
    rng = np.random.default_rng(13)
    baseline = EmpiricalReference.of(familiar(rng, 5_000)[0])
    nothing = EmpiricalReference.of(np.zeros((0, 5)))
    for share in (0.1, 0.3, 0.6):
        found = unfamiliar_traffic(traffic(rng, 2_000, share)[0], baseline, nothing)
        assert 0.5 * share < found.least < share < found.most
    assert unfamiliar_traffic(familiar(rng, 2_000)[0], baseline, nothing).most == 0.0


@settings(max_examples=25)
@given(st.lists(st.floats(-5.0, 5.0), min_size=1, max_size=50), st.floats(-6.0, 6.0))
def test_a_reference_is_close_to_the_empirical_distribution(values, threshold):
    column = np.array(values)[:, None]
    share = EmpiricalReference.of(column).share_at_or_below(np.array([[threshold]]))[0, 0]
    assert share == pytest.approx((column <= threshold).mean(), abs=2 / 512)
