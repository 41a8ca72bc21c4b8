"""Degenerate input never crashes and never lies: a verdict says what it could not compare, an estimate that it cannot.

One table over every judge; each row is judged with and without labels.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from datetime import timedelta

import numpy as np
import pytest
from numpy.typing import NDArray

from monitoring.baseline import Baseline, detector_scores
from monitoring.calibration import read_calibration
from monitoring.core.settings import MonitorSettings
from monitoring.core.signals import Floats
from monitoring.core.types import Outcome, Verdict
from monitoring.detect import estimate_accuracy, judge_window
from monitoring.profiles import profile_of, profile_spec, span_findings
from monitoring.quality import label_evidence
from monitoring.signals import Traffic
from monitoring.stats.sequential import EDetector, bin_edges
from tests.unit.monitoring.synthetic import NOW, baseline_of, outcomes_of, window_of

N = 400
ALL = np.arange(N) >= 0
FEW = np.arange(N) < 8
NAN, INFINITE = float("nan"), float("inf")
STABLE, NOTICE, DRIFT, INCONCLUSIVE = Verdict.STABLE, Verdict.NOTICE, Verdict.DRIFT, Verdict.INCONCLUSIVE

RIGHT = np.random.default_rng(5)
USUAL = baseline_of(1_000, RIGHT)
TEN_ROWS = baseline_of(10, RIGHT)
TEN_UNLABELLED = baseline_of(10, RIGHT, labelled=False)
ONE_VALUE = dataclasses.replace(
    USUAL, signals={name: np.full(USUAL.n, values[0]) for name, values in USUAL.signals.items()}
)
WINDOW, OUTCOMES = window_of(N, RIGHT)


def scored(value: float | None, rows: NDArray[np.bool_] = ALL, *, only: str | None = None) -> Traffic:
    """The window with that value in place of scores, or with the first of each."""

    def changed(values: Floats) -> Floats:
        return np.where(rows, values[0] if value is None else value, values)

    signals = {name: changed(values) if only in (None, name) else values for name, values in WINDOW.signals.items()}
    return dataclasses.replace(WINDOW, signals=signals)


def embedded(rows: NDArray[np.bool_]) -> Traffic:
    return dataclasses.replace(WINDOW, projected=np.where(rows[:, None], np.nan, WINDOW.projected).astype(np.float32))


def first(n: int) -> Traffic:
    return dataclasses.replace(
        WINDOW,
        ids=WINDOW.ids[:n],
        units=WINDOW.units[:n],
        predicted=WINDOW.predicted[:n],
        signals={name: values[:n] for name, values in WINDOW.signals.items()},
        projected=WINDOW.projected[:n],
        texts=WINDOW.texts[:n],
    )


ONE_CLASS = dataclasses.replace(WINDOW, predicted=np.full(N, USUAL.classes[0]))
UNSEEN = dataclasses.replace(WINDOW, predicted=np.full(N, "zoo"))
ONE_CLIENT = dataclasses.replace(WINDOW, units=["bot"] * N)
BACKWARDS = dataclasses.replace(WINDOW, start=WINDOW.end, end=WINDOW.start)
NO_TEXTS = dataclasses.replace(WINDOW, texts=[None] * N)
EMPTY_TEXTS = dataclasses.replace(WINDOW, texts=[""] * N)

CASES: dict[str, tuple[Baseline, Traffic, set[Verdict], str]] = {
    "empty window": (USUAL, first(0), {INCONCLUSIVE}, "0 predictions against 1000"),
    "one row": (USUAL, first(1), {INCONCLUSIVE}, "1 predictions against 1000"),
    "49 rows": (USUAL, first(49), {INCONCLUSIVE}, "49 predictions against 1000"),
    "ten rows of baseline": (TEN_ROWS, WINDOW, {INCONCLUSIVE}, "400 predictions against 10 of the baseline"),
    "ten rows, no labels": (TEN_UNLABELLED, WINDOW, {INCONCLUSIVE}, "against 10 of the baseline"),
    "one client": (USUAL, ONE_CLIENT, {INCONCLUSIVE}, "400 predictions that tell as much as 1,"),
    "NaN in every score": (
        USUAL,
        scored(NAN),
        {INCONCLUSIVE},
        "cannot be compared, for want of numbers in the window:",
    ),
    "NaN confidences": (USUAL, scored(NAN, only="confidence"), {INCONCLUSIVE}, "in the window: confidence"),
    "NaN embeddings": (USUAL, embedded(ALL), {INCONCLUSIVE}, "in the window: embedding"),
    "a few NaN": (USUAL, scored(NAN, FEW), {STABLE}, "no signal differs"),
    "a few infinite": (USUAL, scored(INFINITE, FEW), {STABLE}, "no signal differs"),
    "a few NaN embeddings": (USUAL, embedded(FEW), {STABLE}, "no signal differs"),
    "one class": (USUAL, ONE_CLASS, {NOTICE, DRIFT}, "labels by"),
    "an unseen class": (USUAL, UNSEEN, {NOTICE, DRIFT}, "labels by 1.00"),
    "constant scores": (USUAL, scored(None), {NOTICE, DRIFT}, "confidence by"),
    "a baseline of one value": (ONE_VALUE, WINDOW, {NOTICE, DRIFT}, "confidence by"),
    "a clock that jumps back": (USUAL, BACKWARDS, {STABLE}, "no signal differs"),
    "no texts": (USUAL, NO_TEXTS, {STABLE}, "no signal differs"),
    "empty texts": (USUAL, EMPTY_TEXTS, {STABLE}, "no signal differs"),
}


@pytest.mark.parametrize("outcomes", [(), OUTCOMES], ids=["without labels", "with labels"])
@pytest.mark.parametrize("case", CASES)
def test_a_window_is_judged_or_the_reason_is_told_why_not(case: str, outcomes: tuple[Outcome, ...]) -> None:
    baseline, window, verdicts, reason = CASES[case]
    report = judge_window(
        baseline,
        window,
        model="support",
        version="v1",
        settings=MonitorSettings(),
        alpha=1e-4,
        outcomes=outcomes,
    )
    assert (report.verdict in verdicts, report.reason) == (True, report.reason)
    assert reason in report.reason
    assert "nan" not in f"{report.reason} {report.estimate_note}"
    if report.verdict is INCONCLUSIVE and case not in ("one client", "NaN embeddings", "49 rows"):
        assert not report.estimate_trustworthy


@pytest.mark.parametrize("case", CASES)
def test_a_span_of_such_windows_is_judged_too(case: str) -> None:
    baseline, window, _, _ = CASES[case]
    if not len(window):
        return
    spec = profile_spec(baseline)
    findings = span_findings(baseline, profile_of(baseline, spec, window), leeway=0.1, alpha=1e-4)
    assert {finding.signal for finding in findings} >= {"labels", "confidence", "embedding"}
    assert not any(finding.significant and math.isnan(finding.p_value) for finding in findings)


@pytest.mark.parametrize("rows", [0, 1, 29, 30])
def test_an_estimate_of_very_few_rows_is_none_to_trust(rows: int) -> None:
    estimate = estimate_accuracy(USUAL, first(rows))
    assert estimate.trustworthy == (rows >= 30)
    assert estimate.trustworthy or estimate.note.startswith("cannot tell")
    assert rows == 0 or estimate.accuracy.low <= estimate.accuracy.value <= estimate.accuracy.high


STREAMS: dict[str, tuple[Callable[[], dict[str, Floats]], bool]] = {
    "empty": (lambda: scores(first(0)), False),
    "as usual": (lambda: scores(WINDOW), False),
    "NaN": (lambda: scores(scored(NAN)), True),
    "constant": (lambda: scores(scored(None)), True),
    "an unseen class": (lambda: scores(UNSEEN), True),
}


def scores(window: Traffic) -> dict[str, Floats]:
    return detector_scores(USUAL, window.predicted, window.signals)


@pytest.mark.parametrize("stream", STREAMS)
def test_the_detector_sees_what_is_strange_and_never_loses_its_mind(stream: str, rng: np.random.Generator) -> None:
    make, alarms = STREAMS[stream]
    detector = EDetector.start(USUAL.edges, USUAL.scores(), 1e4)
    assert bool(detector.update(make(), rng)) == alarms
    assert math.isfinite(detector.statistic)


@pytest.mark.parametrize("baseline", [TEN_ROWS, ONE_VALUE], ids=["ten rows", "one value"])
def test_the_detector_takes_any_baseline(baseline: Baseline, rng: np.random.Generator) -> None:
    detector = EDetector.start(baseline.edges, baseline.scores(), 1e4)
    detector.update(detector_scores(baseline, WINDOW.predicted, WINDOW.signals), rng)
    assert math.isfinite(detector.statistic)


def test_a_detector_without_a_baseline_or_with_one_of_one_value_is_silent_on_the_same(rng: np.random.Generator) -> None:
    nothing = {name: values[:0] for name, values in USUAL.scores().items()}
    assert EDetector.start(USUAL.edges, nothing, 1e6).update(scores(WINDOW), rng) == []
    same = {name: np.full(1_000, 0.5) for name in USUAL.edges}
    edges = {name: bin_edges(values) for name, values in same.items()}
    assert EDetector.start(edges, same, 1e6).update(same, rng) == []


@pytest.mark.parametrize("jump", [-(10**9), -3_600, 0, 3_600, 10**9], ids=str)
def test_a_clock_that_jumps_raises_no_alarm(jump: int, rng: np.random.Generator) -> None:
    seconds = 1_767_225_600 + 60 * np.arange(N, dtype=np.int64)
    seconds[N // 3 : N // 2] += jump
    detector = EDetector.start(USUAL.edges, USUAL.scores(), 1e6)
    assert detector.update(scores(WINDOW), rng, seconds) == []
    assert math.isfinite(detector.statistic)


LABELLED: dict[str, list[Outcome]] = {
    "none": [],
    "one": outcomes_of([True]),
    "all right": outcomes_of([True] * 60),
    "all wrong at certainty": outcomes_of([False] * 60, confidence=1.0),
    "all right at nought": outcomes_of([True] * 60, confidence=0.0),
    "one client": outcomes_of([True, False] * 30, unit="bot"),
    "NaN confidences": outcomes_of([True] * 60, confidence=NAN),
    "some NaN confidences": [*outcomes_of([True, False] * 30), *OUTCOMES[:1], *outcomes_of([True], confidence=NAN)],
    "an unseen class": [dataclasses.replace(one, label="zoo") for one in outcomes_of([True] * 60)],
    "labelled before it was predicted": [
        dataclasses.replace(one, labelled_at=NOW - timedelta(days=1)) for one in outcomes_of([True] * 60)
    ],
}


@pytest.mark.parametrize("baseline", [USUAL, TEN_ROWS, TEN_UNLABELLED], ids=["usual", "ten rows", "ten unlabelled"])
@pytest.mark.parametrize("case", LABELLED)
def test_labels_of_any_kind_are_evidence_or_none(case: str, baseline: Baseline) -> None:
    outcomes = LABELLED[case]
    evidence = label_evidence(
        outcomes, baseline, tolerated_loss=0.03, newest=500, loss_since=NOW, calibration_since=NOW
    )
    assert math.isfinite(evidence.gap)
    assert not math.isnan(evidence.log_e_loss)
    assert not math.isnan(evidence.log_e_miscalibrated)
    assert all(map(math.isfinite, evidence.calibration.values()))
    assert (evidence.accuracy is None) == (not outcomes)


@pytest.mark.parametrize("case", LABELLED)
def test_calibration_claims_no_certainty_that_it_has_not(case: str, rng: np.random.Generator) -> None:
    reading = read_calibration(LABELLED[case], rng=rng)
    if case in ("none", "NaN confidences"):
        assert reading is None
        return
    assert reading is not None
    assert all(math.isfinite(found.value) for found in reading.measures.values())
    bounded = case not in ("one", "one client")
    assert all(math.isfinite(found.low) == bounded for found in reading.measures.values())
    if bounded and case.startswith("all"):
        gap = reading.measures["gap"]
        assert gap.high - gap.low > 0.01, "sixty answers that were all right leave room for some that are not"
