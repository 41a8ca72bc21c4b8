"""Calibration of weighted rows in units, with intervals that can be wrong no more often than they say."""

from __future__ import annotations

import math

import numpy as np
import pytest

from monitoring.stats.calibration import brier_score, debiased_ece, negative_log_likelihood, smooth_ece
from monitoring.stats.calibration_measures import (
    class_calibration,
    classwise_ece,
    probability_measures,
    top_label_measures,
    weighted_ece,
)
from monitoring.stats.comparison import Interval


def draw(n: int, rng: np.random.Generator, *, sharper: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities (n, 4), `sharper` times as sharp in log-odds as they should be, and labels (n,)."""
    logits = rng.normal(size=(n, 4)) * 2.0
    true = np.exp(logits)
    true /= true.sum(axis=1, keepdims=True)
    labels = (true.cumsum(axis=1) < rng.random((n, 1))).sum(axis=1)
    stated = np.exp(logits * sharper)
    return stated / stated.sum(axis=1, keepdims=True), labels


def test_equal_weights_are_the_usual_measures(rng: np.random.Generator) -> None:
    table, labels = draw(500, rng, sharper=1.6)
    found = probability_measures(table, labels, np.full(500, 3.0), np.arange(500), rng=rng)
    confidence, correct = table.max(axis=1), table.argmax(axis=1) == labels
    assert found["nll"].value == pytest.approx(negative_log_likelihood(table, labels))
    assert found["brier"].value == pytest.approx(brier_score(table, labels))
    assert found["smece"].value == pytest.approx(smooth_ece(confidence, correct))
    assert found["ece_debiased"].value == pytest.approx(debiased_ece(confidence, correct), abs=0.01)
    top = top_label_measures(confidence, correct, np.ones(500), np.arange(500), rng=rng)
    assert top["gap"].value == pytest.approx(confidence.mean() - correct.mean())
    assert all(one.low <= one.value <= one.high for one in (*found.values(), *top.values()))


def test_a_row_of_weight_three_counts_as_three_rows(rng: np.random.Generator) -> None:
    table, labels = draw(60, rng)
    weights = np.where(np.arange(60) < 20, 3.0, 1.0)
    rows = np.repeat(np.arange(60), weights.astype(int))
    weighted = probability_measures(table, labels, weights, np.arange(60), rng=rng)
    repeated = probability_measures(table[rows], labels[rows], np.ones(len(rows)), rows, rng=rng)
    for name in ("nll", "brier", "smece"):
        assert weighted[name].value == pytest.approx(repeated[name].value)


def test_rows_of_one_unit_are_worth_one(rng: np.random.Generator) -> None:
    table, labels = draw(400, rng)
    alone = probability_measures(table, labels, np.ones(400), np.arange(400), rng=rng)["nll"]
    tenfold = np.repeat(np.arange(400), 10)
    together = probability_measures(table[tenfold], labels[tenfold], np.ones(4000), tenfold, rng=rng)["nll"]
    pretended = probability_measures(table[tenfold], labels[tenfold], np.ones(4000), np.arange(4000), rng=rng)["nll"]
    assert width(together) == pytest.approx(width(alone), rel=0.25)
    assert width(pretended) < 0.5 * width(alone)


@pytest.mark.parametrize("sharper", [1.0, 1.6])
def test_intervals_hold_the_truth(sharper: float) -> None:
    """16 samples: of each measure at most 4 may miss the truth, more of which come in 0.1 % of such runs."""
    rng = np.random.default_rng(11)
    table, labels = draw(100_000, rng, sharper=sharper)
    confidence, correct = table.max(axis=1), table.argmax(axis=1) == labels
    truth = {
        "nll": negative_log_likelihood(table, labels),
        "brier": brier_score(table, labels),
        "ece_debiased": debiased_ece(confidence, correct),
        "smece": smooth_ece(confidence, correct),
        "classwise_ece": classwise_ece(table, labels, np.ones(len(labels))),
    }
    missed = dict.fromkeys(truth, 0)
    for _ in range(16):
        found = probability_measures(*draw(300, rng, sharper=sharper), np.ones(300), np.arange(300), rng=rng)
        for name, value in truth.items():
            slack = 0.005 if sharper == 1.0 and name not in ("nll", "brier") else 0.0  # the truth itself is read
            missed[name] += not found[name].low - slack <= value <= found[name].high + slack
    assert max(missed.values()) <= 4, missed


def test_an_error_that_may_be_chance_begins_at_zero_and_a_real_one_does_not(rng: np.random.Generator) -> None:
    calibrated = probability_measures(*draw(600, rng), np.ones(600), np.arange(600), rng=rng)
    too_sure = probability_measures(*draw(600, rng, sharper=2.5), np.ones(600), np.arange(600), rng=rng)
    for name in ("ece_debiased", "smece", "classwise_ece"):
        assert calibrated[name].low == 0.0
        assert too_sure[name].low > 0.02


def test_classes_that_are_off_are_named_the_worst_first() -> None:
    predicted = ["card"] * 100 + ["login"] * 100 + ["rare"] * 3
    correct = [True] * 60 + [False] * 40 + [True] * 90 + [False] * 10 + [True] * 3
    card, rare, login = class_calibration(predicted, [0.9] * 203, correct, np.ones(203))
    assert (card.label, card.n, rare.label, login.label) == ("card", 100, "rare", "login")
    assert card.gap.value == pytest.approx(0.3)
    assert card.gap.low > 0.15
    assert login.gap.low < 0.0 < login.gap.high
    assert width(rare.gap) > 2 * width(login.gap)


def test_without_rows_nothing_is_claimed(rng: np.random.Generator) -> None:
    none = np.empty(0)
    top = top_label_measures(none, none, none, none, rng=rng)
    found = probability_measures(np.empty((0, 3)), none, none, none, rng=rng)
    assert all(math.isnan(one.value) for one in (*top.values(), *found.values()))
    assert all(map(math.isnan, weighted_ece(none, none, none)))
    assert class_calibration([], none, none, none) == ()


@pytest.mark.parametrize("confidence", [0.0, 1.0, 0.5])
def test_degenerate_rows_do_not_break_it(confidence: float, rng: np.random.Generator) -> None:
    one = top_label_measures([confidence] * 9, [True] * 9, np.ones(9), ["same"] * 9, rng=rng)
    assert all(math.isfinite(bound) for found in one.values() for bound in (found.value, found.low, found.high))
    single = probability_measures([[confidence, 1.0 - confidence]], [0], [1.0], ["a"], rng=rng)
    assert all(math.isfinite(found.value) for found in single.values())


def width(found: Interval) -> float:
    return found.high - found.low
