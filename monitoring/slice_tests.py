"""The declared slices of one window: which of them moved, and was it to their harm? Pure.

Every signal of every slice with enough rows is tested against the slice's own first traffic, and all of these together
with the signals of the whole window form one family for Holm's correction, at the window's level: slices cost power,
never a false alarm. The null is the whole window's: rows of one client, or of one minute, may depend on each other.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from monitoring.baseline import Baseline, estimator_table
from monitoring.budget import alarm_budget
from monitoring.core.corrections import first_outcomes
from monitoring.core.settings import MonitorSettings
from monitoring.core.signals import SIGNALS, Floats
from monitoring.core.types import Interval, Outcome, SignalFinding, SliceFinding, Verdict
from monitoring.harm import Estimate, Harm, judge_harm
from monitoring.quality import blind_outcomes, realised_accuracy
from monitoring.signals import Traffic
from monitoring.slice_memory import SliceMemory, SliceRows, testable
from monitoring.slice_quality import SliceAccuracy, slice_accuracies
from monitoring.stats.binning import finite_rows
from monitoring.stats.design_effect import shared_worth, spread
from monitoring.stats.mmd import FeatureMoments, mmd_moments_test
from monitoring.stats.two_sample import TestResult, class_shift_test, holm, ks_test


def judge_slices(
    memory: SliceMemory,
    baseline: Baseline,
    window: Traffic,
    whole: Sequence[SignalFinding],
    *,
    settings: MonitorSettings,
    alpha: float,
    outcomes: Sequence[Outcome] = (),
) -> tuple[tuple[SignalFinding, ...], tuple[SliceFinding, ...]]:
    """The findings on the `whole` window, corrected for the slices beside it, and those on the slices.

    `outcomes`: what labels are known, of other windows too. Slices that moved to their harm or lost accuracy come
    first. Without declared slices the findings come back as they are.
    """
    if not settings.slices:
        return tuple(whole), ()
    fresh = memory.fresh(baseline, window, settings.slices)
    blind, ids = blind_outcomes(outcomes), set(window.ids)
    said = first_outcomes(outcome for outcome in outcomes if outcome.source.outcome_blind)
    accuracies = slice_accuracies(said, settings.slices, tolerated_loss=settings.tolerated_loss)
    results = {
        (name, signal): result
        for name, rows in fresh.items()
        if testable(memory.references.get(name), rows)
        for signal, result in _tests(memory.references[name], rows).items()
    }
    p_values = {("", finding.signal): finding.p_value for finding in whole}
    p_values |= {key: result.p_value for key, result in results.items()}
    rejected = _holm(p_values, alpha)
    findings = tuple(dataclasses.replace(finding, significant=("", finding.signal) in rejected) for finding in whole)
    by_labels = {one.slice: one for one in accuracies}
    slices = []
    for name in dict.fromkeys([*fresh, *by_labels]):
        own = {signal: result for (of, signal), result in results.items() if of == name}
        moved = {signal for of, signal in rejected if of == name}
        found = _finding(name, len(fresh.get(name, ())), own, moved, settings.leeway)
        if moved and found.effect > settings.leeway:
            here = [outcome for outcome in blind if name in outcome.slices and outcome.prediction_id in ids]
            harmful, note = _harm(baseline, memory.references[name], fresh[name], here, settings.tolerated_loss)
            found = dataclasses.replace(found, harmful=harmful, note=note)
        slices.append(_with_labels(found, by_labels.get(name), alarm_budget(settings).label_alpha))
    return findings, tuple(sorted(slices, key=lambda one: (not (one.harmful or one.lost), -one.effect, one.slice)))


def verdict_with_slices(verdict: Verdict, reason: str, slices: Sequence[SliceFinding]) -> tuple[Verdict, str]:
    """The verdict on the whole window, raised where a slice moved though the whole did not, or did so harmlessly.

    Or where the whole cannot be told: a slice is compared with its own past, and what is seen there is.
    """
    moved = [one for one in slices if one.significant]
    if not moved:
        return verdict, reason
    if any(one.harmful for one in moved):
        return Verdict.DRIFT, f"{tell_slices(moved)}; the whole: {reason}"
    what = ", ".join(f"{one.slice} ({one.signal} by {one.effect:.2f})" for one in moved[:3])
    return (Verdict.NOTICE if verdict is Verdict.STABLE else verdict), f"{reason}; slices moved without harm: {what}"


def tell_slices(slices: Sequence[SliceFinding]) -> str:
    """The slices that moved to their harm or lost accuracy, in words; "" if none."""
    told = [
        f"{one.slice} moved beyond the leeway, {one.signal} by {one.effect:.2f}: {one.note}"
        for one in slices
        if one.harmful
    ]
    told += [
        f"{one.slice} lost accuracy, from {one.accuracy_before:.1%} to {one.accuracy.value:.1%}"
        for one in slices
        if one.lost and not one.harmful and one.accuracy is not None
    ]
    return "; ".join(told[:3]) + (f"; and {len(told) - 3} slices more" if len(told) > 3 else "")


def _tests(reference: SliceRows, rows: SliceRows) -> dict[str, TestResult]:
    usual, counts = Counter(reference.predicted.tolist()), Counter(rows.predicted.tolist())
    names = sorted(usual | counts)
    places = np.searchsorted(names, rows.predicted)

    def worth(score: Floats) -> float:
        return shared_worth(len(rows), rows.dependence.worth(score), len(reference), reference.worth)

    results = {
        "labels": class_shift_test(
            [usual[name] for name in names], [counts[name] for name in names], lambda surplus: worth(surplus[places])
        )
    }
    results |= {name: ks_test(reference.signals[name], rows.signals[name], worth) for name in SIGNALS}
    # Means of the embeddings themselves: with a hundred rows, random features would add noise and cost, and few shifts.
    results["embedding"] = _embedding_test(reference.projected, rows.projected, worth)
    unknown = reference.signals["vocabulary"], rows.signals["vocabulary"]
    if not any(np.isnan(side).any() for side in unknown):
        results["vocabulary"] = ks_test(*unknown, worth)
    return results


def _embedding_test(
    reference: NDArray[np.float16], rows: NDArray[np.float16], worth: Callable[[Floats], float]
) -> TestResult:
    told = finite_rows(rows)
    usual, own = (side.astype(np.float64) for side in (reference[finite_rows(reference)], rows[told]))
    if len(usual) < 2:
        return TestResult.undefined(len(usual), len(own))

    def worth_along(difference: Floats) -> float:
        return worth(spread(own @ difference, told, len(rows)))

    return mmd_moments_test(FeatureMoments.of(usual), own.sum(axis=0), len(own), worth_along)


def _holm(p_values: Mapping[tuple[str, str], float], alpha: float) -> frozenset[tuple[str, str]]:
    names = {f"{number}": key for number, key in enumerate(p_values)}
    rejected = holm({number: p_values[key] for number, key in names.items()}, alpha)
    return frozenset(names[number] for number in rejected)


def _finding(
    name: str, n: int, results: Mapping[str, TestResult], moved: Collection[str], leeway: float
) -> SliceFinding:
    if not results:
        note = "too little to compare yet"
        return SliceFinding(name, n, "", 0.0, 1.0, leeway, False, False, note, 0, None, None, False)
    among = moved or results.keys()
    signal = max(among, key=lambda one: (results[one].effect if moved else -results[one].p_value, one))
    result = results[signal]
    return SliceFinding(
        name, n, signal, result.effect, result.p_value, leeway, bool(moved), False, "", 0, None, None, False
    )


def _harm(
    baseline: Baseline, reference: SliceRows, rows: SliceRows, outcomes: Sequence[Outcome], tolerated_loss: float
) -> tuple[bool, str]:
    """Whether the slice's accuracy fell against its own first rows, or that cannot be told; and why."""
    tables = (estimator_table(baseline, side.signals) for side in (reference, rows))
    usual, now = (baseline.estimator.estimate(table) for table in tables)
    harm = judge_harm(
        baseline_accuracy=usual.value,
        tolerated_loss=tolerated_loss,
        estimate=Estimate(Interval(now.value, now.low, now.high), now.trustworthy, now.reason),
        realised=realised_accuracy(outcomes),
    )
    return harm.harm is not Harm.NONE, harm.reason


def _with_labels(found: SliceFinding, labelled: SliceAccuracy | None, alpha: float) -> SliceFinding:
    if labelled is None:
        return found
    return dataclasses.replace(
        found,
        labelled=labelled.labelled,
        accuracy=labelled.accuracy,
        accuracy_before=labelled.before,
        lost=labelled.proves_loss(alpha),
    )
