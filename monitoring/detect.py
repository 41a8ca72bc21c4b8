"""One window of traffic against its baseline: is it different, by how much, and does that matter? Pure.

Every signal is tested with a two-sample test at the level that the yearly alarm budget leaves a window (Holm's
correction over signals). A significant change is then weighed: within the leeway, or harmless, it is a notice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from monitoring.baseline import Baseline, calibration_of, estimator_table
from monitoring.core.settings import MonitorSettings
from monitoring.core.signals import SIGNALS, Floats
from monitoring.core.types import DriftReport, Interval, Outcome, SignalFinding, Verdict
from monitoring.explain import explain
from monitoring.harm import Estimate, Harm, HarmFinding, judge_harm
from monitoring.label_queue import HOW_TO_ASK
from monitoring.quality import blind_outcomes, realised_accuracy
from monitoring.signals import Traffic, novelty
from monitoring.stats.two_sample import (
    TestResult,
    class_shift_test,
    holm,
    ks_test,
    mmd_moments_test,
    smallest_detectable_shift,
)

LEAST_ROWS = 50
LARGEST_WINDOW_ALPHA = 0.05


@dataclass(frozen=True)
class Budget:
    """What the yearly false alarms come to: mean predictions between the detector's, and the level of one window."""

    sequential_threshold: float
    window_alpha: float


@dataclass(frozen=True)
class LabelledRows:
    """Recent answers with outcome-blind labels: SIGNALS (n,) each, correctness (n,), weights (n,) 1 / probability."""

    signals: Mapping[str, Floats]
    correct: NDArray[np.bool_]
    weights: Floats


def alarm_budget(settings: MonitorSettings) -> Budget:
    """Split the yearly budget between the per-prediction detector and the windows of an expected year.

    >>> budget = alarm_budget(MonitorSettings(false_alarms_per_year=1, predictions_per_day=10_000, window_size=500))
    >>> budget.sequential_threshold, round(1 / budget.window_alpha)
    (7300000.0, 14600)
    """
    yearly = 365 * settings.predictions_per_day
    alarms = settings.false_alarms_per_year
    of_windows = alarms * (1 - settings.sequential_share)
    return Budget(
        sequential_threshold=max(yearly / (alarms * settings.sequential_share), 2.0),
        window_alpha=min(of_windows * settings.window_size / yearly, LARGEST_WINDOW_ALPHA),
    )


def judge_window(
    baseline: Baseline,
    window: Traffic,
    *,
    model: str,
    version: str,
    settings: MonitorSettings,
    alpha: float,
    outcomes: Sequence[Outcome] = (),
    labelled: LabelledRows | None = None,
) -> DriftReport:
    """The verdict on a window, n > 0, at level `alpha` (`Budget.window_alpha`).

    `outcomes`: what labels are known by now; those of the window's predictions are its realised accuracy. `labelled`:
    recent answers that the label-free estimate learns from, for this window only.
    """
    findings = signal_findings(baseline, window, leeway=settings.leeway, alpha=alpha)
    estimate = estimate_accuracy(baseline, window, labelled)
    ids = set(window.ids)
    own = blind_outcomes([outcome for outcome in outcomes if outcome.prediction_id in ids])
    realised = realised_accuracy(own)
    harm = judge_harm(
        baseline_accuracy=baseline.expected_accuracy,
        tolerated_loss=settings.tolerated_loss,
        estimate=estimate,
        realised=realised,
    )
    verdict, reason = _verdict(baseline, window, findings, harm, alpha)
    moved = any(finding.significant for finding in findings)
    return DriftReport(
        model=model,
        version=version,
        window_start=window.start,
        window_end=window.end,
        n=len(window),
        verdict=verdict,
        reason=reason,
        effect=max((finding.effect for finding in findings), default=0.0),
        findings=findings,
        estimated_accuracy=estimate.accuracy,
        estimate_trustworthy=estimate.trustworthy,
        estimate_note=estimate.note,
        realised_accuracy=realised,
        labelled=len(own),
        calibration=calibration_of(
            np.array([outcome.confidence for outcome in own]), np.array([outcome.correct for outcome in own])
        )
        if own
        else {},
        moved=explain(baseline, window) if moved else {},
    )


def signal_findings(baseline: Baseline, window: Traffic, *, leeway: float, alpha: float) -> tuple[SignalFinding, ...]:
    """Every signal's two-sample test; with Holm's correction, the chance of any false finding is at most `alpha`."""
    results = {"labels": _class_test(baseline, window)}
    results |= {name: ks_test(baseline.signals[name], window.signals[name]) for name in SIGNALS}
    embedded = baseline.features.transform(window.projected)
    results["embedding"] = mmd_moments_test(baseline.moments, embedded.sum(axis=0), len(window))
    texts = [text for text in window.texts if text is not None]
    if len(texts) == len(window):
        results["vocabulary"] = ks_test(baseline.signals["vocabulary"], novelty(texts, baseline.words))
    significant = holm({name: result.p_value for name, result in results.items()}, alpha)
    return tuple(
        SignalFinding(name, result.statistic, result.p_value, result.effect, leeway, name in significant)
        for name, result in results.items()
    )


def estimate_accuracy(baseline: Baseline, window: Traffic, labelled: LabelledRows | None = None) -> Estimate:
    """Accuracy of the window without its labels; `labelled` answers, if any, have the estimator learn first."""
    learnt = None if labelled is None else (estimator_table(labelled.signals), labelled.correct, labelled.weights)
    estimate = baseline.estimator.estimate(estimator_table(window.signals), learnt)
    note = estimate.reason if estimate.trustworthy else f"{estimate.reason}; {HOW_TO_ASK}"
    return Estimate(Interval(estimate.value, estimate.low, estimate.high), estimate.trustworthy, note)


def _verdict(
    baseline: Baseline, window: Traffic, findings: Sequence[SignalFinding], harm: HarmFinding, alpha: float
) -> tuple[Verdict, str]:
    if len(window) < LEAST_ROWS or baseline.n < LEAST_ROWS:
        few = f"{len(window)} predictions against {baseline.n} of the baseline"
        return Verdict.INCONCLUSIVE, f"too little data: {few}, and {LEAST_ROWS} of each are the least"
    moved = sorted((finding for finding in findings if finding.significant), key=lambda finding: -finding.effect)
    if not moved:
        least = smallest_detectable_shift(baseline.n, len(window), alpha / len(findings))
        return Verdict.STABLE, f"no signal differs by more than chance; a shift of {least:.2f} would have been found"
    what = ", ".join(f"{finding.signal} by {finding.effect:.2f}" for finding in moved)
    if all(finding.effect <= finding.leeway for finding in moved):
        return Verdict.NOTICE, f"moved within the leeway of {moved[0].leeway:.2f}: {what}"
    if harm.harm is Harm.NONE:
        return Verdict.NOTICE, f"moved without harm: {what}; {harm.reason}"
    return Verdict.DRIFT, f"moved beyond the leeway of {moved[0].leeway:.2f}: {what}; {harm.reason}"


def _class_test(baseline: Baseline, window: Traffic) -> TestResult:
    """Predicted classes, those that the baseline lacks included."""
    counts = Counter(window.predicted.tolist())
    strangers = sorted(counts.keys() - set(baseline.classes))
    usual = np.concatenate([baseline.class_counts, np.zeros(len(strangers), dtype=np.int64)])
    return class_shift_test(usual, np.array([counts[name] for name in (*baseline.classes, *strangers)]))
