from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binomtest

from monitoring.core.settings import GateSettings
from service.analysis import NLL_GATE
from training.gates import (
    NLL_ON_RECENT,
    Artefact,
    GateResult,
    Paired,
    Recalibrated,
    better,
    judge_artefact,
    judge_recalibration,
    likelier,
    log_likelihood_ratio,
    no_worse,
    sign_flip_test,
)
from training.precision import Choice

LIMITS = GateSettings()
GOOD = Choice("int8", 1, agreement=0.9975, accuracy_loss=0.001, dependence=0.0, texts_per_second=440, reason="")


def pairs(won: int, lost: int, both: int, *, weights: float = 1.0, units: int | None = None) -> Paired:
    """`won` rows only the candidate gets right, `lost` only the champion, `both` both."""
    n = won + lost + both
    candidate = np.array([True] * won + [False] * lost + [True] * both)
    champion = np.array([False] * won + [True] * lost + [True] * both)
    names = [f"unit {row if units is None else row % units}" for row in range(n)]
    return Paired(candidate, champion, np.full(n, weights), names)


def _named(results: tuple[GateResult, ...]) -> dict[str, GateResult]:
    return {result.name: result for result in results}


def test_a_sound_first_model_passes_the_gates_that_need_no_champion() -> None:
    results = judge_artefact(Artefact(GOOD, 0.03, 114.0, latency_ratio=None), LIMITS)
    assert all(result.passed for result in results)
    assert set(_named(results)) == {"parity", "accuracy_loss", "batch_dependence", "calibration", "size"}


@pytest.mark.parametrize(
    ("gate", "artefact"),
    [
        ("parity", Artefact(Choice("fp32", 32, 0.98, 0.0, 0.0, 9, ""), 0.03, 114.0, 1.0)),
        ("accuracy_loss", Artefact(Choice("int8", 8, 1.0, 0.01, 0.0, 9, ""), 0.03, 114.0, 1.0)),
        ("batch_dependence", Artefact(Choice("int8", 8, 1.0, 0.0, 0.03, 9, ""), 0.03, 114.0, 1.0)),
        ("calibration", Artefact(GOOD, 0.09, 114.0, 1.0)),
        ("calibration", Artefact(GOOD, math.nan, 114.0, 1.0)),
        ("size", Artefact(GOOD, 0.03, 601.0, 1.0)),
        ("latency", Artefact(GOOD, 0.03, 114.0, 1.6)),
    ],
)
def test_each_fault_fails_its_own_gate_and_no_other(gate: str, artefact: Artefact) -> None:
    results = _named(judge_artefact(artefact, LIMITS))
    assert [name for name, result in results.items() if not result.passed] == [gate]
    assert "over" in results[gate].reason or "under" in results[gate].reason


@pytest.mark.parametrize(
    ("won", "lost", "both", "passed"),
    [(10, 10, 480, True), (0, 10, 490, True), (0, 11, 489, False), (20, 0, 480, True), (0, 0, 0, False)],
)
def test_no_worse_on_old_allows_the_margin_and_no_more(won: int, lost: int, both: int, passed: bool) -> None:
    assert no_worse(pairs(won, lost, both), margin=0.02).passed is passed


def test_weights_count_in_the_difference() -> None:
    found = Paired(np.array([True, False]), np.array([False, True]), np.array([3.0, 1.0]), ["a", "b"])
    assert found.difference == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("recent", "passed", "says"),
    [
        (pairs(20, 2, 60), True, "proven"),
        (pairs(6, 2, 60), False, "not proven"),
        (pairs(2, 20, 60), False, "not proven"),
        (pairs(20, 2, 27), False, "the gate needs 50"),
        (pairs(0, 0, 80), False, "p = 1.0000"),
    ],
)
def test_better_on_recent_wants_proof(recent: Paired, passed: bool, says: str) -> None:
    result = better(recent, gain=0.0, enough=50, seed=0)
    assert result.passed is passed
    assert says in result.reason


def test_a_gain_that_is_asked_for_must_be_proven_too() -> None:
    recent = pairs(20, 2, 60)
    assert better(recent, gain=0.05, enough=50, seed=0).passed
    assert not better(recent, gain=0.2, enough=50, seed=0).passed


@pytest.mark.parametrize(("won", "lost"), [(8, 2), (12, 12), (3, 0), (15, 6)])
def test_single_rows_make_it_mcnemars_exact_test(won: int, lost: int, rng: np.random.Generator) -> None:
    exact = binomtest(won, won + lost, alternative="greater").pvalue
    assert sign_flip_test(pairs(won, lost, 40), 0.0, rng=rng) == pytest.approx(exact, abs=0.015)


def test_many_rows_of_few_units_prove_little(rng: np.random.Generator) -> None:
    assert sign_flip_test(pairs(20, 0, 0), 0.0, rng=rng) < 0.001
    assert sign_flip_test(pairs(20, 0, 0, units=3), 0.0, rng=rng) == pytest.approx(0.125, abs=0.015)


def test_the_level_holds_when_there_is_nothing_to_find() -> None:
    """400 A/A comparisons with uneven weights and units of several rows: 5 % of them may pass, give or take."""
    rng = np.random.default_rng(7)
    alarms = 0
    for _ in range(400):
        candidate, champion = rng.random((2, 120)) < 0.8
        weights = rng.choice([1.0, 10.0], size=120)
        units = [str(unit) for unit in rng.integers(0, 60, size=120)]
        alarms += sign_flip_test(Paired(candidate, champion, weights, units), 0.0, rng=rng) <= 0.05
    assert alarms <= 400 * 0.05 + 3 * math.sqrt(400 * 0.05 * 0.95)


def recalibration(n: int = 100, gain: float = 0.05, **changes: object) -> Recalibrated:
    """`n` rows of as many units, each `gain` nats likelier by the new temperature."""
    after = np.full(n, 0.4)
    values = {
        "before": after + gain,
        "after": after,
        "weights": np.ones(n),
        "units": [f"unit {row}" for row in range(n)],
        "labels_changed": 0,
        "compared": n,
        "calibration_error": 0.02,
    }
    return Recalibrated(**(values | changes))  # type: ignore[arg-type]


def test_a_recalibration_that_makes_recent_labels_likelier_passes() -> None:
    results = judge_recalibration(recalibration(), LIMITS)
    assert [result.name for result in results] == ["nll_on_recent", "labels_unchanged", "calibration"]
    assert all(result.passed for result in results)
    assert "+0.0500 nats saved a row on 100 recent rows" in results[0].reason
    assert "e = 148, proven at 5%" in results[0].reason


@pytest.mark.parametrize(
    ("gate", "found"),
    [
        ("nll_on_recent", recalibration(gain=0.0)),
        ("nll_on_recent", recalibration(gain=-0.5)),
        ("nll_on_recent", recalibration(gain=0.029)),  # e = exp(2.9) < 20
        ("nll_on_recent", recalibration(n=49, gain=1.0)),
        ("nll_on_recent", recalibration(units=["one customer"] * 100)),
        ("labels_unchanged", recalibration(labels_changed=1)),
        ("labels_unchanged", recalibration(compared=0)),
        ("calibration", recalibration(calibration_error=0.09)),
        ("calibration", recalibration(calibration_error=math.nan)),
    ],
)
def test_each_fault_of_a_recalibration_fails_its_own_gate(gate: str, found: Recalibrated) -> None:
    failed = [result.name for result in judge_recalibration(found, LIMITS) if not result.passed]
    assert failed == [gate]


def test_without_rows_a_recalibration_proves_nothing() -> None:
    assert not any(
        result.passed for result in judge_recalibration(recalibration(n=0, calibration_error=math.nan), LIMITS)
    )


def test_rarely_sampled_rows_weigh_more_in_the_gain_and_none_more_than_one_in_the_proof() -> None:
    found = recalibration(2, before=np.array([1.0, 1.0]), after=np.array([0.0, 2.0]), weights=np.array([1.0, 4.0]))
    assert found.gain == pytest.approx((1.0 - 4.0) / 5.0)
    assert log_likelihood_ratio(found) == pytest.approx(0.25 - 1.0)


def test_a_temperature_that_was_right_is_seldom_replaced() -> None:
    """1,000 fits to chance on a calibrated model: the proof errs in at most 5 %, whatever was fitted."""
    rng = np.random.default_rng(3)
    passed = 0
    for _ in range(1000):
        right = rng.uniform(0.5, 1.0, size=80)
        odds = right / (1.0 - right)
        sharper = odds ** rng.choice([0.5, 0.8, 1.25, 2.0])
        other = sharper / (1.0 + sharper)
        correct = rng.random(80) < right
        before, after = (-np.log(np.where(correct, p, 1.0 - p)) for p in (right, other))
        units = [str(unit) for unit in rng.integers(0, 60, size=80)]
        weights = rng.choice([1.0, 10.0], size=80)
        passed += likelier(recalibration(80, before=before, after=after, units=units, weights=weights), 50).passed
    assert passed <= 50


def test_the_rollout_reads_the_gate_that_is_written() -> None:
    assert NLL_GATE == NLL_ON_RECENT
