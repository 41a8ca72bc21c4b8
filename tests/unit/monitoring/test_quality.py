"""What labels prove, and which labels may prove anything."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.baseline import Baseline
from monitoring.core.corrections import placed_bets
from monitoring.core.types import LabelSource, Outcome
from monitoring.quality import (
    LabelEvidence,
    accuracy_is_back,
    blind_outcomes,
    calibration_is_back,
    label_evidence,
    realised_accuracy,
    unknown_classes,
)
from tests.unit.monitoring.synthetic import NOW, baseline_of, outcome_of, outcomes_of, window_of


@pytest.fixture(scope="module")
def baseline() -> Baseline:
    """Right nine times in ten, or a little more."""
    return baseline_of(2000, np.random.default_rng(3))


def read(outcomes: list[Outcome], baseline: Baseline, newest: int = 500) -> LabelEvidence:
    return label_evidence(outcomes, baseline, tolerated_loss=0.03, newest=newest, loss_since=NOW, calibration_since=NOW)


def test_no_labels_are_no_evidence(baseline: Baseline) -> None:
    evidence = read([], baseline)
    assert replace(evidence, log_e_miscalibrated=0.0) == LabelEvidence(0, None, None, {}, 0.0, 0.0, 0.0)
    assert evidence.log_e_miscalibrated == pytest.approx(0.0)


def test_labels_like_the_baseline_prove_nothing(baseline: Baseline, rng: np.random.Generator) -> None:
    right = (rng.random(2000) < baseline.expected_accuracy).tolist()
    evidence = read(outcomes_of(right, confidence=baseline.expected_accuracy), baseline)
    assert max(evidence.log_e_loss, evidence.log_e_miscalibrated) < math.log(100)
    assert abs(evidence.gap) < 0.05


def test_a_loss_is_proven_by_some_dozens_of_labels(baseline: Baseline, rng: np.random.Generator) -> None:
    evidence = read(outcomes_of((rng.random(150) < 0.6).tolist()), baseline)
    assert evidence.log_e_loss > math.log(1000)
    assert evidence.log_e_miscalibrated > math.log(1000)
    assert evidence.gap > 0.2
    assert evidence.accuracy is not None
    assert evidence.accuracy.high < 0.8


def test_predictions_of_one_unit_count_as_one(baseline: Baseline) -> None:
    failures = outcomes_of([False] * 200)
    one_customer = [replace(outcome, unit="ann") for outcome in failures]
    assert read(failures, baseline).log_e_loss > math.log(1000)
    assert read(one_customer, baseline).log_e_loss < math.log(20)


def later(outcome: Outcome, days: int, **changes: object) -> Outcome:
    """Predicted and labelled so many days later."""
    shift = timedelta(days=days)
    moved = {"predicted_at": outcome.predicted_at + shift, "labelled_at": outcome.labelled_at + shift}
    return replace(outcome, **{**moved, **changes})  # type: ignore[arg-type]


def test_a_client_may_bet_once_a_day(baseline: Baseline) -> None:
    """So a customer of many years who loses does not stay unheard for what was said at the beginning."""
    one_customer = [later(one, day, unit="ann") for day, one in enumerate(outcomes_of([True] * 30 + [False] * 30))]
    evidence = read(one_customer, baseline)
    assert evidence.log_e_loss > math.log(1000)
    assert evidence.since is not None
    assert evidence.since - NOW >= timedelta(days=25)


@given(
    seed=st.integers(0, 2**32 - 1),
    clients=st.integers(1, 12),
    rows=st.integers(2, 40),
    known=st.floats(0.0, 1.0),
)
def test_what_was_bet_on_never_changes_and_no_client_bets_twice_a_day(
    seed: int, clients: int, rows: int, known: float
) -> None:
    rng = np.random.default_rng(seed)
    outcomes = [
        outcome_of(
            f"prediction-{rng.integers(rows)}",
            "billing",
            str(rng.choice(["billing", "delivery"])),
            unit=f"client-{rng.integers(clients)}",
            predicted_at=NOW + timedelta(days=int(rng.integers(3))),
        )
        for _ in range(rows)
    ]
    come = [replace(one, labelled_at=NOW + timedelta(days=3, minutes=minute)) for minute, one in enumerate(outcomes)]
    before, after = placed_bets(come[: round(known * rows)]), placed_bets(come)
    assert after[: len(before)] == before
    days = [(one.unit, one.predicted_at.date()) for one in after]
    assert len(set(days)) == len(days)


def test_a_second_label_of_a_client_changes_no_proof_by_what_was_bet_before(
    baseline: Baseline, rng: np.random.Generator
) -> None:
    first = [replace(one, unit=f"client-{n}") for n, one in enumerate(outcomes_of((rng.random(150) < 0.6).tolist()))]
    again = [
        replace(one, prediction_id=f"again-{n}", label=one.predicted, labelled_at=one.labelled_at + timedelta(hours=1))
        for n, one in enumerate(first)
    ]
    before, after = read(first, baseline), read([*first, *again], baseline)
    assert after.log_e_loss == before.log_e_loss > math.log(1000)
    assert after.log_e_miscalibrated == before.log_e_miscalibrated


def test_one_client_proves_no_loss_of_calibration(baseline: Baseline) -> None:
    failures = outcomes_of([False] * 200)
    assert read(failures, baseline).log_e_miscalibrated > math.log(1000)
    assert read([replace(one, unit="ann") for one in failures], baseline).log_e_miscalibrated < math.log(20)


def test_complaints_never_judge(baseline: Baseline) -> None:
    evidence = read(outcomes_of([False] * 200, source=LabelSource.COMPLAINT), baseline)
    assert (evidence.labelled, evidence.accuracy, evidence.log_e_loss) == (200, None, 0.0)


def test_the_proofs_start_anew_after_an_episode(baseline: Baseline) -> None:
    old = outcomes_of([False] * 200, predicted_at=NOW - timedelta(days=1))
    evidence = read(old, baseline)
    assert (evidence.log_e_loss, evidence.log_e_miscalibrated) == pytest.approx((0.0, 0.0))
    assert evidence.accuracy is not None


def test_the_newest_labels_are_the_reading(baseline: Baseline) -> None:
    old = outcomes_of([True] * 300)
    new = [outcome_of(f"new {n}", "billing", "delivery", predicted_at=NOW + timedelta(minutes=n)) for n in range(100)]
    evidence = read([*new, *old], baseline, newest=50)
    assert evidence.accuracy is not None
    assert evidence.accuracy.value == 0.0
    assert evidence.since is not None
    assert evidence.since - NOW <= timedelta(minutes=1)
    assert evidence.labelled == 400


def test_a_sample_is_weighted_by_its_probability() -> None:
    """Every eleventh label is of a kind that is asked for a tenth as often, and wrong."""
    common = [outcome_of(f"{n:03}", "billing", "billing") for n in range(550) if n % 11]
    rare = [
        outcome_of(f"{n:03}", "billing", "delivery", source=LabelSource.RANDOM_SAMPLE, sampling_probability=0.1)
        for n in range(0, 550, 11)
    ]
    accuracy = realised_accuracy([*common, *rare])
    assert accuracy is not None
    assert accuracy.value == pytest.approx(0.5)
    assert accuracy.low < 0.5 < accuracy.high
    assert realised_accuracy([]) is None


def test_a_prediction_with_two_labels_counts_once_by_its_ground_truth() -> None:
    sampled = outcome_of("p", "billing", "delivery", source=LabelSource.RANDOM_SAMPLE, sampling_probability=0.5)
    truth = outcome_of("p", "billing", "billing")
    reviewed = outcome_of("p", "billing", "delivery", source=LabelSource.REVIEW)
    for order in ([sampled, truth, reviewed], [truth, reviewed, sampled]):
        assert blind_outcomes(order) == [truth]


def test_a_correction_changes_the_figures_and_not_what_a_proof_has_seen(baseline: Baseline) -> None:
    wrong = outcomes_of([False] * 150)
    corrected = [replace(one, label=one.predicted, labelled_at=one.labelled_at + timedelta(days=1)) for one in wrong]
    before, after = read(wrong, baseline), read([*wrong, *corrected], baseline)
    assert after.log_e_loss == before.log_e_loss > math.log(1_000)
    assert after.log_e_miscalibrated == before.log_e_miscalibrated
    assert (before.accuracy.value, after.accuracy.value) == (0.0, 1.0)  # type: ignore[union-attr]
    assert before.gap > 0.5 > 0.0 > after.gap
    assert (before.labelled, after.labelled) == (150, 150)
    assert accuracy_is_back([*wrong, *corrected], 0.9), "so the episode ends, and with it what the proof has seen"


def test_unknown_classes_are_counted_by_prediction() -> None:
    outcomes = [
        outcome_of("1", "billing", "zoo"),
        outcome_of("1", "billing", "zoo", source=LabelSource.COMPLAINT),
        outcome_of("2", "billing", "zoo", source=LabelSource.COMPLAINT),
        outcome_of("3", "billing", "circus"),
        outcome_of("4", "billing", "delivery"),
    ]
    assert unknown_classes(outcomes, ("billing", "delivery")) == {"zoo": 2, "circus": 1}


def test_recovery_needs_proof(baseline: Baseline) -> None:
    assert not accuracy_is_back(outcomes_of([True] * 20), 0.9)
    assert accuracy_is_back(outcomes_of([True] * 200), 0.9)
    worth = round(1000 * float(baseline.accuracy_at(np.array([0.8]))[0])) / 1000
    as_before = [n < round(200 * worth) for n in range(200)]
    assert calibration_is_back(outcomes_of(as_before, confidence=0.8), baseline, 0.05)
    assert not calibration_is_back(outcomes_of(as_before[::2][:99], confidence=0.8), baseline, 0.05)
    assert not calibration_is_back(outcomes_of([n % 2 == 0 for n in range(200)], confidence=0.8), baseline, 0.05)


def test_what_counts_is_a_change_of_what_a_confidence_is_worth(baseline: Baseline, rng: np.random.Generator) -> None:
    """The model has always been underconfident: that is no alarm, whatever the number of labels."""
    _, outcomes = window_of(5000, rng)
    mean_confidence = np.mean([outcome.confidence for outcome in outcomes])
    accuracy = np.mean([outcome.correct for outcome in outcomes])
    assert accuracy - mean_confidence > 0.03
    assert read(outcomes, baseline).log_e_miscalibrated < math.log(100)
    assert abs(read(outcomes, baseline).gap) < 0.02


@pytest.mark.parametrize(("stated", "after"), [(0.9, 0.5), (0.25, 1.0)])
def test_the_loss_of_calibration_is_dated(
    baseline: Baseline, rng: np.random.Generator, stated: float, after: float
) -> None:
    before = float(baseline.accuracy_at(np.array([stated]))[0])
    right = [*(rng.random(300) < before), *(rng.random(100) < after)]
    outcomes = [
        outcome_of(
            f"{n:03}", "billing", "billing" if hit else "delivery", stated, predicted_at=NOW + timedelta(minutes=n)
        )
        for n, hit in enumerate(right)
    ]
    evidence = read(outcomes, baseline, newest=100)
    assert evidence.log_e_miscalibrated > math.log(1000)
    assert evidence.miscalibrated_since is not None
    assert abs(evidence.miscalibrated_since - (NOW + timedelta(minutes=300))) < timedelta(minutes=30)
    calm = read(outcomes[:300], baseline)
    assert calm.log_e_miscalibrated < math.log(100)
