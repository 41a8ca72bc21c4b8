"""One window of traffic against its baseline: is it different, by how much, and does that matter? Pure.

Every signal is tested with a two-sample test at the level that the yearly alarm budget leaves a window (Holm's
correction over signals). The null: rows of different clients are independent, and so are those of different minutes;
within a client or a minute they may depend on each other in any way. A significant change is then
weighed: as usual at these hours of the week (`weekly`), it is none; harmless, or within the leeway and not shown to do
harm, it is a notice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from monitoring.baseline import Baseline, calibration_of, estimator_table
from monitoring.core.settings import MonitorSettings
from monitoring.core.signals import SIGNALS, Floats
from monitoring.core.types import DriftReport, Interval, Outcome, SignalFinding, SliceFinding, Verdict
from monitoring.explain import explain
from monitoring.harm import Estimate, Harm, HarmFinding, judge_harm
from monitoring.label_queue import how_to_ask
from monitoring.quality import blind_outcomes, realised_accuracy
from monitoring.signals import Traffic, novelty
from monitoring.slice_memory import NO_MEMORY, SliceMemory
from monitoring.slice_tests import judge_slices, verdict_with_slices
from monitoring.stats.binning import bin_indices, count_bins, finite_rows
from monitoring.stats.design_effect import Dependence, spread
from monitoring.stats.two_sample import (
    TestResult,
    class_shift_test,
    holm,
    ks_test,
    mmd_moments_test,
    smallest_detectable_shift,
    tail_shift_test,
)
from monitoring.weekly import Weekly, beyond_cycle, slices_beyond_cycle, with_rows_of

LEAST_ROWS = 50


@dataclass(frozen=True)
class LabelledRows:
    """Recent answers with outcome-blind labels: SIGNALS (n,) each, correctness (n,), weights (n,) 1 / probability."""

    signals: Mapping[str, Floats]
    correct: NDArray[np.bool_]
    weights: Floats


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
    memory: SliceMemory = NO_MEMORY,
    read_weekly: Callable[[], Weekly | None] = lambda: None,
) -> DriftReport:
    """The verdict on a window, n > 0, at level `alpha` (`Budget.window_alpha`).

    `outcomes`: what labels are known by now; those of the window's predictions are its realised accuracy. `labelled`:
    recent answers that the label-free estimate learns from, for this window only. `memory`: of the reign's slices.
    `read_weekly`: asked only where a signal has moved; None while the week's cycle is not known.
    """
    unlike_baseline = signal_findings(baseline, window, leeway=settings.leeway, alpha=alpha)
    unlike_baseline, slices = judge_slices(
        memory, baseline, window, unlike_baseline, settings=settings, alpha=alpha, outcomes=outcomes
    )
    findings = unlike_baseline
    if (_moved(findings) or _moved_slices(slices)) and (weekly := read_weekly()) is not None:
        findings, slices = _beyond_cycle(baseline, window, findings, slices, weekly, settings, alpha)
    estimate = estimate_accuracy(baseline, window, labelled)
    if not estimate.trustworthy:
        estimate = replace(estimate, note=f"{estimate.note}; {how_to_ask(model)}")
    ids = set(window.ids)
    own = blind_outcomes([outcome for outcome in outcomes if outcome.prediction_id in ids])
    realised = realised_accuracy(own)
    harm = judge_harm(
        baseline_accuracy=baseline.expected_accuracy,
        tolerated_loss=settings.tolerated_loss,
        estimate=estimate,
        realised=realised,
    )
    usual = _moved(unlike_baseline) if not _moved(findings) else []
    verdict, reason = verdict_with_slices(*_verdict(baseline, window, findings, usual, harm, alpha), slices)
    moved = bool(_moved(findings)) or _moved_slices(slices)
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
        moved=explain(baseline, window, memory.usual, np.random.default_rng(settings.seed)) if moved else {},
        slices=slices,
    )


def signal_findings(
    baseline: Baseline, window: Traffic, *, leeway: float, alpha: float, reference_worth: float | None = None
) -> tuple[SignalFinding, ...]:
    """Every signal's two-sample test; with Holm's correction, the chance of any false finding is at most `alpha`.

    `reference_worth`: how many independent rows a row of the baseline is worth, if not what it says itself.
    """
    dependence = Dependence.of(window.units, window.seconds)

    def worth(score: Floats) -> float:
        return baseline.shared_worth(len(window), dependence.worth(score), reference_worth)

    results = {"labels": _class_test(baseline, window, worth)}
    results |= {name: ks_test(baseline.signals[name], window.signals[name], worth) for name in SIGNALS}
    results["strangeness"] = _tail_test(baseline, baseline.strangeness(window.signals), worth)
    results["embedding"] = _embedding_test(baseline, window, worth)
    texts = [text for text in window.texts if text is not None]
    if len(texts) == len(window):
        results["vocabulary"] = ks_test(baseline.signals["vocabulary"], novelty(texts, baseline.words), worth)
    significant = holm({name: result.p_value for name, result in results.items()}, alpha)
    return tuple(
        SignalFinding(name, result.statistic, result.p_value, result.effect, leeway, name in significant)
        for name, result in results.items()
    )


def _beyond_cycle(
    baseline: Baseline,
    window: Traffic,
    findings: tuple[SignalFinding, ...],
    slices: tuple[SliceFinding, ...],
    weekly: Weekly,
    settings: MonitorSettings,
    alpha: float,
) -> tuple[tuple[SignalFinding, ...], tuple[SliceFinding, ...]]:
    """The findings that the week's cycle does not explain, on the whole and on slices; half the level a sample."""
    usual = weekly.same_hours
    worth = worth_of(usual, baseline.strangeness(usual.signals))
    level, declared = alpha / 2, settings.slices
    hours = signal_findings(
        with_rows_of(baseline, usual), window, leeway=settings.leeway, alpha=level, reference_worth=worth
    )
    week = signal_findings(baseline, weekly.week, leeway=settings.leeway, alpha=level)
    their_hours = SliceMemory(references=NO_MEMORY.fresh(baseline, usual, declared))
    hours, their_usual = judge_slices(their_hours, baseline, window, hours, settings=settings, alpha=level)
    return beyond_cycle(findings, hours, week), slices_beyond_cycle(slices, their_usual)


def _moved_slices(slices: Sequence[SliceFinding]) -> bool:
    return any(finding.significant for finding in slices)


def _moved(findings: Sequence[SignalFinding]) -> list[SignalFinding]:
    """The significant ones, the largest effect first."""
    return sorted((finding for finding in findings if finding.significant), key=lambda finding: -finding.effect)


def estimate_accuracy(baseline: Baseline, window: Traffic, labelled: LabelledRows | None = None) -> Estimate:
    """Accuracy of the window without its labels; `labelled` answers, if any, have the estimator learn first."""
    learnt = (
        None if labelled is None else (estimator_table(baseline, labelled.signals), labelled.correct, labelled.weights)
    )
    estimate = baseline.estimator.estimate(estimator_table(baseline, window.signals), learnt)
    return Estimate(Interval(estimate.value, estimate.low, estimate.high), estimate.trustworthy, estimate.reason)


def _verdict(
    baseline: Baseline,
    window: Traffic,
    findings: Sequence[SignalFinding],
    usual: Sequence[SignalFinding],
    harm: HarmFinding,
    alpha: float,
) -> tuple[Verdict, str]:
    """`usual`: what is unlike the baseline and explained by the week's cycle."""
    if len(window) < LEAST_ROWS or baseline.n < LEAST_ROWS:
        few = f"{len(window)} predictions against {baseline.n} of the baseline"
        return Verdict.INCONCLUSIVE, f"too little data: {few}, and {LEAST_ROWS} of each are the least"
    moved = _moved(findings)
    if (untold := _cannot_be_compared(baseline, findings)) and {one.signal for one in moved} <= {"strangeness"}:
        return Verdict.INCONCLUSIVE, f"cannot be compared, for want of numbers in the window: {', '.join(untold)}"
    if not moved and usual:
        return Verdict.STABLE, f"unlike the baseline, but as usual at these hours of the week: {_effects(usual)}"
    if not moved:
        told = _told_by(baseline, window)
        if told < LEAST_ROWS:
            sent = "so few clients or bursts sent them or the baseline"
            few = f"{len(window)} predictions that tell as much as {told}, {sent}"
            return Verdict.INCONCLUSIVE, f"too little data: {few}, and {LEAST_ROWS} are the least"
        least = smallest_detectable_shift(baseline.n, told, alpha / len(findings))
        return Verdict.STABLE, f"no signal differs by more than chance; a shift of {least:.2f} would have been found"
    what = _effects(moved)
    within = all(finding.effect <= finding.leeway for finding in moved)
    if harm.harm is Harm.NONE:
        return Verdict.NOTICE, f"moved without harm: {what}; {harm.reason}"
    if within and harm.harm is not Harm.SHOWN:
        return Verdict.NOTICE, f"moved within the leeway of {moved[0].leeway:.2f}: {what}"
    how_far = "within, but with harm," if within else "beyond"
    return Verdict.DRIFT, f"moved {how_far} the leeway of {moved[0].leeway:.2f}: {what}; {harm.reason}"


def _cannot_be_compared(baseline: Baseline, findings: Sequence[SignalFinding]) -> list[str]:
    """Signals that the baseline has and the window has no number of."""
    known = {name for name, values in baseline.signals.items() if np.isfinite(values).any()}
    known |= {"embedding"} if np.isfinite(baseline.moments.mean).all() else set()
    return [finding.signal for finding in findings if np.isnan(finding.p_value) and finding.signal in known]


def _told_by(baseline: Baseline, window: Traffic) -> int:
    """How many independent rows the window is worth against the baseline."""
    own = worth_of(window, baseline.strangeness(window.signals))
    return int(baseline.shared_worth(len(window), own) * len(window))


def _effects(findings: Sequence[SignalFinding]) -> str:
    return ", ".join(f"{finding.signal} by {finding.effect:.2f}" for finding in findings)


def worth_of(window: Traffic, strangeness: Floats) -> float:
    """How many independent rows a row of the window is worth, clients and bursts considered; at most 1.

    In general, by the ranks of three scores; a test asks it of the difference that it found.
    """
    dependence = Dependence.of(window.units, window.seconds)
    if not dependence.kinds:
        return 1.0
    scores = (strangeness, *(window.signals[name] for name in ("confidence", "length")))
    return min(dependence.worth(rankdata(score)) for score in scores)


def _tail_test(baseline: Baseline, strangeness: Floats, worth: Callable[[Floats], float]) -> TestResult:
    """Strange answers beyond the baseline's: where a new topic shows first."""
    edges = baseline.edges["strangeness"]
    bins = bin_indices(strangeness, edges)
    counts = count_bins(strangeness, edges)
    return tail_shift_test(baseline.strangeness_counts, counts, lambda tail: worth(tail[bins]))


def _class_test(baseline: Baseline, window: Traffic, worth: Callable[[Floats], float]) -> TestResult:
    """Predicted classes, those that the baseline lacks included."""
    found, rows, counts = np.unique(window.predicted, return_inverse=True, return_counts=True)
    names = [*baseline.classes, *sorted(set(found.tolist()) - set(baseline.classes))]
    usual, own = np.zeros(len(names), dtype=np.int64), np.zeros(len(names), dtype=np.int64)
    usual[: len(baseline.classes)] = baseline.class_counts
    places = np.array([names.index(name) for name in found.tolist()], dtype=np.int64)
    own[places] = counts
    return class_shift_test(usual, own, lambda surplus: worth(surplus[places[rows]]))


def _embedding_test(baseline: Baseline, window: Traffic, worth: Callable[[Floats], float]) -> TestResult:
    """Means of the features of the embeddings; rows without numbers are left out, and speak for nothing."""
    plain = baseline.features.plain(window.projected)
    told = finite_rows(plain)
    embedded = baseline.features.turned(plain[told].sum(axis=0), len(told))

    def worth_along(difference: Floats) -> float:
        return worth(spread(plain[told] @ baseline.features.turned_back(difference), told, len(window)))

    return mmd_moments_test(baseline.moments, embedded, len(told), worth_along)
