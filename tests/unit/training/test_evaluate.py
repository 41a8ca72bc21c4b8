from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from monitoring.core.signals import Predictions
from monitoring.stats.calibration import brier_score, debiased_ece
from monitoring.stats.calibration_measures import weighted_ece
from training.evaluate import Answers, judge, measure, slices
from training.snapshot import Part

CLASSES = ("card", "login", "parcel")


def answers(
    truth: Sequence[str | None], predicted: Sequence[str], *, weights: Sequence[float] | None = None
) -> Answers:
    """A version that is 70 % sure of whatever it says."""
    n = len(predicted)
    number = np.array([CLASSES.index(label) for label in predicted], dtype=np.int64)
    probabilities = np.full((n, 3), 0.15)
    probabilities[np.arange(n), number] = 0.7
    column = np.full(n, 0.7)
    predictions = Predictions(
        probabilities=probabilities,
        predicted=number,
        confidence=column,
        entropy=column,
        margin=column,
        similarity=column,
        rarity=column,
        length=np.arange(n, dtype=np.float64) * 10,
        projected=np.zeros((n, 2), np.float16),
    )
    given = np.ones(n) if weights is None else np.array(weights)
    part = Part(tuple("t" * n), tuple(truth), ("holdout",) * n, given, tuple(map(str, range(n))))
    return judge(predictions, CLASSES, part)


def test_figures_worked_out_by_hand() -> None:
    found = measure(answers(["card", "card", "login", "login"], ["card", "login", "login", "login"]))
    assert found.n == 4
    assert found.accuracy == 0.75
    assert found.per_class["card"].precision == 1.0
    assert found.per_class["card"].recall == 0.5
    assert found.per_class["login"].precision == pytest.approx(2 / 3)
    assert found.per_class["login"].f1 == pytest.approx(0.8)
    assert found.macro_f1 == pytest.approx((2 / 3 + 0.8) / 2)
    assert found.ece == pytest.approx(0.05)


def test_a_weight_of_two_is_a_row_that_counts_twice() -> None:
    once = measure(answers(["card", "login"], ["card", "card"], weights=[2, 1]))
    twice = measure(answers(["card", "card", "login"], ["card", "card", "card"]))
    assert once.accuracy == pytest.approx(twice.accuracy)
    assert once.macro_f1 == pytest.approx(twice.macro_f1)
    assert once.brier == pytest.approx(twice.brier)


def test_a_label_that_the_version_lacks_is_wrong_and_costs_full_brier() -> None:
    found = measure(answers(["crypto"], ["card"]))
    assert found.accuracy == 0.0
    assert found.per_class["crypto"].recall == 0.0
    assert math.isnan(found.per_class["crypto"].precision)
    assert found.brier == pytest.approx(0.7**2 + 2 * 0.15**2 + 1)


def test_the_brier_score_is_the_usual_one() -> None:
    given = answers(["card", "login", "parcel"], ["card", "card", "parcel"])
    assert measure(given).brier == pytest.approx(brier_score(given.predictions.probabilities, [0, 1, 2]))


def test_unlabelled_rows_are_left_out() -> None:
    assert measure(answers(["card", None, "login"], ["card", "card", "card"])).n == 2


def test_no_rows_no_figures() -> None:
    assert math.isnan(measure(answers([], [])).accuracy)


def test_with_equal_weights_the_calibration_error_is_the_one_that_the_monitor_reads(rng: np.random.Generator) -> None:
    confidence = rng.uniform(0.3, 1.0, 700)
    correct = rng.random(700) < confidence - 0.1
    _, debiased = weighted_ece(confidence, correct, np.full(700, 2.5))
    assert debiased == pytest.approx(debiased_ece(confidence, correct), abs=0.005)


def test_weights_find_the_miscalibration_of_what_is_rarely_sampled(rng: np.random.Generator) -> None:
    confidence = np.full(2000, 0.9) + rng.uniform(-0.01, 0.01, 2000)
    rare = rng.random(2000) < 0.1
    correct = rng.random(2000) < np.where(rare, 0.5, 0.9)
    _, plain = weighted_ece(confidence, correct, np.ones(2000))
    _, weighted = weighted_ece(confidence, correct, np.where(rare, 10.0, 1.0))
    assert plain < 0.08
    assert weighted == pytest.approx(0.21, abs=0.05)


def test_slices_set_both_versions_side_by_side() -> None:
    candidate = answers(["card", "card", "login"], ["card", "card", "login"])
    champion = answers(["card", "card", "login"], ["card", "login", "login"])
    found = {
        row["slice"]: row for row in slices(candidate, champion, {"all": np.ones(3, bool), "none": np.zeros(3, bool)})
    }
    assert found["class: card"] == {"slice": "class: card", "n": 2, "candidate": 1.0, "champion": 0.5}
    assert found["9 to 16 tokens"]["n"] == 1
    assert "none" not in found
    assert slices(candidate, None, {})[0]["champion"] is None
