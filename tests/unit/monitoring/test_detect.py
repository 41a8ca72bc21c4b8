"""The verdict on one window: silent under the null, loud where it matters, modest where it does not."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.baseline import Baseline
from monitoring.budget import JUDGED_LABELS, LABEL_TESTS, alarm_budget
from monitoring.core.settings import MonitorSettings
from monitoring.core.signals import SIGNALS
from monitoring.core.types import DriftReport, Outcome, Verdict
from monitoring.detect import (
    LabelledRows,
    estimate_accuracy,
    judge_window,
    signal_findings,
)
from monitoring.signals import Traffic, picked
from tests.unit.monitoring.synthetic import baseline_of, window_of

SETTINGS = MonitorSettings()
ALPHA = 1e-4


@pytest.fixture(scope="module")
def baseline() -> Baseline:
    """A thousand rows."""
    return baseline_of(1000, np.random.default_rng(5))


def judge(
    baseline: Baseline, window: Traffic, outcomes: list[Outcome] | None = None, labelled: LabelledRows | None = None
) -> DriftReport:
    return judge_window(
        baseline,
        window,
        model="support",
        version="v1",
        settings=SETTINGS,
        alpha=ALPHA,
        outcomes=outcomes or (),
        labelled=labelled,
    )


def test_false_findings_are_no_more_frequent_than_the_level_allows(rng: np.random.Generator) -> None:
    found = 0
    for _ in range(12):
        baseline = baseline_of(400, rng)
        for _ in range(5):
            findings = signal_findings(baseline, window_of(150, rng)[0], leeway=0.1, alpha=0.1)
            found += any(finding.significant for finding in findings)
    assert found <= 12  # of 60; at a rate of 0.1 more than 12 have a chance of 0.6 %


def test_a_window_like_the_baseline_is_stable_and_says_what_would_have_been_found(
    baseline: Baseline, rng: np.random.Generator
) -> None:
    report = judge(baseline, window_of(500, rng)[0])
    assert report.verdict is Verdict.STABLE
    assert "a shift of 0.1" in report.reason
    assert {finding.signal for finding in report.findings} == {
        *SIGNALS,
        "labels",
        "strangeness",
        "embedding",
        "vocabulary",
    }
    assert report.moved == {}
    assert report.estimated_accuracy.low < baseline.expected_accuracy < report.estimated_accuracy.high
    assert report.estimate_trustworthy
    assert "leeway labels queue" not in report.estimate_note
    assert (report.realised_accuracy, report.labelled, report.calibration) == (None, 0, {})


def test_a_new_topic_is_drift_with_its_words_and_an_estimated_loss(
    baseline: Baseline, rng: np.random.Generator
) -> None:
    report = judge(baseline, window_of(500, rng, new_topic=0.4)[0])
    assert report.verdict is Verdict.DRIFT
    assert "moved beyond the leeway of 0.10" in report.reason
    assert report.effect > 0.2
    assert report.moved["words"][0]["word"] == "zebra"
    assert report.estimated_accuracy.value < baseline.expected_accuracy - 0.1
    assert not report.estimate_trustworthy
    assert "leeway labels queue" in report.estimate_note
    json.dumps(dataclasses.asdict(report), default=str, allow_nan=False)


def test_a_change_that_costs_no_accuracy_is_a_notice(baseline: Baseline, rng: np.random.Generator) -> None:
    report = judge(baseline, window_of(500, rng, longer=1.4)[0])
    assert report.verdict is Verdict.NOTICE
    assert "without harm: length" in report.reason
    assert report.moved["length"]["window"] > report.moved["length"]["baseline"]


def test_a_small_shift_found_in_many_rows_is_a_notice(rng: np.random.Generator) -> None:
    report = judge(baseline_of(10_000, rng), window_of(10_000, rng, new_topic=0.02)[0])
    assert any(finding.significant for finding in report.findings)
    assert report.verdict is Verdict.NOTICE
    assert "strangeness by 0.03" in report.reason


def test_a_small_share_of_a_new_topic_is_found_by_its_strangeness(rng: np.random.Generator) -> None:
    baseline = baseline_of(5000, rng)
    findings = signal_findings(baseline, window_of(4000, rng, new_topic=0.05)[0], leeway=0.1, alpha=ALPHA)
    [strangeness] = [finding for finding in findings if finding.signal == "strangeness"]
    assert strangeness.significant
    assert strangeness.effect == pytest.approx(0.05, abs=0.03)


def test_a_small_shift_that_does_harm_is_drift(baseline: Baseline, rng: np.random.Generator) -> None:
    window, outcomes = window_of(3000, rng, new_topic=0.08)
    wrong = [dataclasses.replace(outcome, label="zoo") for outcome in outcomes[:900]]
    report = judge(baseline, window, [*wrong, *outcomes[900:]])
    assert max(finding.effect for finding in report.findings if finding.significant) <= 0.1
    assert report.verdict is Verdict.DRIFT
    assert "within, but with harm," in report.reason


def test_the_messages_of_one_client_are_not_taken_for_as_many_witnesses(rng: np.random.Generator) -> None:
    """Forty clients, each of whom says one thing twenty-five times: no other traffic than ever."""
    baseline = baseline_of(2000, rng)
    found = {"alike": 0, "as clients": 0}
    for _ in range(30):
        window, _ = window_of(40, rng)
        rows = np.repeat(np.arange(40), 25)
        repeated = dataclasses.replace(
            window,
            ids=[f"prediction-{row}" for row in range(1000)],
            units=[str(row) for row in range(1000)],
            predicted=window.predicted[rows],
            signals={name: values[rows] for name, values in window.signals.items()},
            projected=window.projected[rows],
            texts=[window.texts[row] for row in rows],
        )
        clients = dataclasses.replace(repeated, units=[str(row) for row in rows])
        for name, traffic in (("alike", repeated), ("as clients", clients)):
            found[name] += any(f.significant for f in signal_findings(baseline, traffic, leeway=0.1, alpha=0.01))
    assert found["alike"] > 25
    assert found["as clients"] <= 2


def in_bursts(n: int, bursts: int, rng: np.random.Generator, *, new_topic: float = 0.0) -> Traffic:
    """Five hours of `n` rows, each from another client, with `bursts` minutes in each of which 60 ask alike."""
    window, _ = window_of(n, rng, new_topic=new_topic)
    rows, at = np.arange(n), rng.uniform(0, 18_000, n)
    for burst in range(bursts):
        rows[burst * 60 : (burst + 1) * 60] = rng.integers(n)
        at[burst * 60 : (burst + 1) * 60] = rng.uniform(0, 18_000 - 60) + rng.uniform(0, 60, 60)
    order = np.argsort(at)
    units = window.units
    return dataclasses.replace(picked(window, rows[order]), units=units, seconds=at[order].astype(np.int64))


def test_a_minute_in_which_many_clients_ask_alike_is_not_taken_for_as_many_witnesses(rng: np.random.Generator) -> None:
    """Four bursts of 60 rows in 2,000: 40 windows at a level of 1 %."""
    baseline = baseline_of(5000, rng)
    found = {"alike": 0, "in time": 0}
    for _ in range(40):
        window = in_bursts(2000, 4, rng)
        for name, traffic in (("in time", window), ("alike", dataclasses.replace(window, seconds=None))):
            found[name] += any(f.significant for f in signal_findings(baseline, traffic, leeway=0.1, alpha=0.01))
    assert found["alike"] > 20
    assert found["in time"] <= 2


def test_time_costs_no_power_where_rows_are_independent_and_bursts_hide_no_new_topic(rng: np.random.Generator) -> None:
    baseline = baseline_of(5000, rng)
    for bursts in (0, 2):
        windows = [in_bursts(2000, bursts, rng, new_topic=0.05) for _ in range(15)]
        findings = [signal_findings(baseline, window, leeway=0.1, alpha=1 / 365) for window in windows]
        assert sum(any(finding.significant for finding in found) for found in findings) >= 14


def test_a_window_that_is_one_burst_is_too_little_data(baseline: Baseline, rng: np.random.Generator) -> None:
    window, _ = window_of(500, rng)
    seconds = np.where(np.arange(500) < 480, 0, 36_000)
    same = np.where(np.arange(500) < 480, 0, np.arange(500))
    report = judge(baseline, dataclasses.replace(picked(window, same), units=window.units, seconds=seconds))
    assert report.verdict is Verdict.INCONCLUSIVE
    assert "so few clients or bursts" in report.reason


def test_with_too_little_data_nothing_is_claimed(baseline: Baseline, rng: np.random.Generator) -> None:
    few_rows = judge(baseline, window_of(49, rng, new_topic=1.0)[0])
    few_to_compare = judge(baseline_of(49, rng), window_of(500, rng, new_topic=1.0)[0])
    assert {few_rows.verdict, few_to_compare.verdict} == {Verdict.INCONCLUSIVE}
    assert "49 predictions against 1000 of the baseline" in few_rows.reason


def test_classes_that_the_baseline_lacks_are_counted(baseline: Baseline, rng: np.random.Generator) -> None:
    window, _ = window_of(200, rng)
    renamed = dataclasses.replace(window, predicted=np.where(window.predicted == "billing", "zoo", window.predicted))
    [finding] = [finding for finding in judge(baseline, renamed).findings if finding.signal == "labels"]
    assert finding.significant
    assert finding.effect > 0.3


def test_without_texts_the_vocabulary_is_not_judged(baseline: Baseline, rng: np.random.Generator) -> None:
    report = judge(baseline, window_of(200, rng, new_topic=0.5, texts_kept=False)[0])
    assert "vocabulary" not in {finding.signal for finding in report.findings}
    assert report.verdict is Verdict.DRIFT


def test_only_the_windows_own_outcome_blind_labels_are_its_accuracy(
    baseline: Baseline, rng: np.random.Generator
) -> None:
    window, outcomes = window_of(300, rng, new_topic=0.3)
    others = [dataclasses.replace(outcome, prediction_id=f"other {n}") for n, outcome in enumerate(outcomes)]
    report = judge(baseline, window, [*outcomes[:200], *others])
    assert report.labelled == 200
    assert report.realised_accuracy is not None
    assert report.realised_accuracy.value == np.mean([outcome.correct for outcome in outcomes[:200]])
    assert report.calibration["ece_debiased"] > 0.1


def test_labels_of_drifted_traffic_teach_the_estimate(baseline: Baseline, rng: np.random.Generator) -> None:
    recent, known = window_of(300, rng, new_topic=0.4)
    correct = np.array([outcome.correct for outcome in known])
    labelled = LabelledRows(recent.signals, correct, np.ones(300))
    window, outcomes = window_of(1000, rng, new_topic=0.4)
    true = np.mean([outcome.correct for outcome in outcomes])
    taught, untaught = (estimate_accuracy(baseline, window, labels).accuracy.value for labels in (labelled, None))
    assert abs(taught - true) < abs(untaught - true)
    assert abs(taught - true) < 0.05


@given(
    alarms=st.floats(0.1, 100.0),
    daily=st.integers(1, 10**9),
    size=st.integers(50, 10**5),
    shares=st.tuples(st.floats(0.05, 0.6), st.floats(0.05, 0.35)),
)
def test_the_budget_never_exceeds_the_years_false_alarms(
    alarms: float, daily: int, size: int, shares: tuple[float, float]
) -> None:
    settings = MonitorSettings(
        false_alarms_per_year=alarms,
        predictions_per_day=daily,
        window_size=size,
        sequential_share=shares[0],
        label_share=shares[1],
    )
    budget = alarm_budget(settings)
    by_windows = budget.window_alpha * 365 * daily / size
    by_detector = 365 * daily / budget.sequential_threshold
    by_labels = LABEL_TESTS * budget.label_alpha * max(365 * daily / JUDGED_LABELS, 1)
    assert budget.sequential_threshold > 1
    assert 0 < budget.window_alpha <= 0.05
    assert by_windows + by_detector + by_labels <= alarms * (1 + 1e-9)
