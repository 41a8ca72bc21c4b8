"""The champion's newest readings, as one tick leaves them for the exporter: plain JSON, null where nothing is known."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import numpy as np

from monitoring.core.plain import plain
from monitoring.core.types import DriftReport, Outcome, SignalFinding, Verdict
from monitoring.quality import MAX_FOR_INTERVAL, LabelEvidence, blind_outcomes
from monitoring.sighting import Sighting
from monitoring.stats.calibration import reliability_bins

SEVERITY = {Verdict.INCONCLUSIVE: -1, Verdict.STABLE: 0, Verdict.NOTICE: 1, Verdict.DRIFT: 2}
BINS = 10
LEAST_IN_BIN = 10  # labels; the share of fewer tells more of chance than of the model


def gauges(
    sighting: Sighting,
    evidence: LabelEvidence,
    latest: DriftReport | None,
    outcomes: Sequence[Outcome],
    *,
    tolerated_loss: float,
    new_labels: int,
    now: datetime,
) -> dict[str, Any]:
    """Everything that is shown of a champion. `outcomes`: those that it is judged by."""
    champion = sighting.champion
    found = {
        "signals": {finding.signal: _finding(finding) for finding in (latest.findings if latest is not None else ())},
        "severity": None if latest is None else SEVERITY[latest.verdict],
        "window": {
            "end": None if latest is None else latest.window_end.timestamp(),
            "pending": sighting.progress.pending,
        },
        "detector": {
            "log_statistic": champion.detector.statistic,
            "log_threshold": math.log1p(champion.detector.threshold),
        },
        "estimated": None if latest is None else vars(latest.estimated_accuracy),
        "realised": None if evidence.accuracy is None else vars(evidence.accuracy),
        "baseline_since": champion.reign.since.timestamp(),
        "baseline_accuracy": champion.baseline.expected_accuracy,
        "accuracy_floor": champion.baseline.expected_accuracy - tolerated_loss,
        "baseline_calibration": champion.baseline.calibration,
        "calibration": evidence.calibration,
        "gap": evidence.gap,
        "reliability": reliability(outcomes),
        "label_tests": {"loss": evidence.log_e_loss, "miscalibration": evidence.log_e_miscalibrated},
        "labelled": evidence.labelled,
        "new_labels": new_labels,
        "seen": sighting.progress.seen,
        "ticked_at": now,
    }
    return dict(plain(found))


def reliability(outcomes: Sequence[Outcome]) -> dict[str, dict[str, float]]:
    """By tenths of confidence, under the upper end of each: what was promised, what was true, on how many labels.

    Of the newest 2,000 outcome-blind labels; tenths with fewer than ten are left out.
    """
    blind = blind_outcomes(outcomes)[-MAX_FOR_INTERVAL:]
    confidence = np.array([outcome.confidence for outcome in blind])
    correct = np.array([outcome.correct for outcome in blind], dtype=np.bool_)
    return {
        f"{one.high:.1f}": {"promised": one.mean_confidence, "true": one.accuracy, "labels": one.n}
        for one in reliability_bins(confidence, correct, bins=BINS)
        if one.n >= LEAST_IN_BIN
    }


def severity_of(finding: SignalFinding) -> int:
    """0 where chance explains the move, 1 where it moved, 2 where it moved beyond its leeway."""
    return int(finding.significant) * (1 + int(finding.effect > finding.leeway))


def _finding(finding: SignalFinding) -> dict[str, float]:
    return {
        "statistic": finding.statistic,
        "threshold": finding.leeway,
        "effect": finding.effect,
        "severity": severity_of(finding),
    }
