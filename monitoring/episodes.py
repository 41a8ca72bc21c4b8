"""Alert episodes: which begin and which end, given what a tick found. Pure; each change names its reason."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from monitoring.core.types import (
    Alert,
    DriftReport,
    JobState,
    ModelVersion,
    RetrainCause,
    Rollout,
    RolloutPhase,
    Severity,
    TrainingJob,
    Verdict,
)
from monitoring.harm import Harm, HarmFinding
from monitoring.quality import LabelEvidence
from monitoring.slice_tests import tell_slices

DRIFT, QUALITY, CALIBRATION, SLICE = "drift", "quality", "calibration", "slice"
RETRAIN_FAILED, APPROVAL_WAITING, ROLLOUT_INCONCLUSIVE = "retrain_failed", "approval_waiting", "rollout_inconclusive"
PROMOTION_REGRESSED = "promotion_regressed"  # opened by the rollout controller's watch
OF_A_VERSION = frozenset({DRIFT, QUALITY, CALIBRATION, SLICE})
EPISODES = (*sorted(OF_A_VERSION), RETRAIN_FAILED, APPROVAL_WAITING, ROLLOUT_INCONCLUSIVE, PROMOTION_REGRESSED)
TURNED_HARMFUL = "it costs accuracy by now: a louder episode follows"
QUIET_WINDOWS = 3

_SEVERITY = {Harm.SHOWN: Severity.CRITICAL, Harm.UNKNOWN: Severity.WARNING, Harm.NONE: Severity.INFO}


@dataclass(frozen=True)
class SequentialAlarm:
    """The per-prediction detector's alarm. `n_seen`: predictions of the version up to it; `onset_at`: when it began."""

    n_seen: int
    signal: str
    log_statistic: float
    log_threshold: float
    onset_at: datetime
    at: datetime
    cycle_learned: bool


@dataclass(frozen=True)
class Readings:
    """What one tick found out about the champion `version`, whose name is `name`.

    `label_alpha`: level of each test on labels; `suspected_at`: when a change began that the detector suspects but does
    not tell yet; `reports`: windows that ended in this tick; `quiet_windows`: how many in a row, up to now, ended
    without drift or alarm; `harm_since` tells whether accuracy was lost since a moment; `recovered`: names of the open
    episodes since which labels show that all is well again.
    """

    version: str
    name: str
    n_seen: int
    baseline_accuracy: float
    tolerated_loss: float
    label_alpha: float
    alarm: SequentialAlarm | None
    suspected_at: datetime | None
    reports: Sequence[DriftReport]
    quiet_windows: int
    harm_since: Callable[[datetime], HarmFinding]
    labels: LabelEvidence
    recovered: frozenset[str]


@dataclass(frozen=True)
class Firing:
    """An episode to open."""

    name: str
    version: str
    severity: Severity
    summary: str
    detail: Mapping[str, Any]


@dataclass(frozen=True)
class Resolving:
    """An episode to close, and why."""

    alert: Alert
    reason: str


@dataclass(frozen=True)
class AlertChanges:
    """Close first, then open."""

    resolve: tuple[Resolving, ...]
    fire: tuple[Firing, ...]


def alerts_to_change(readings: Readings, open_alerts: Sequence[Alert]) -> AlertChanges:
    """Episodes of drift, quality, slices and calibration that begin or end: one at a time of each name and version."""
    resolve = [
        Resolving(alert, reason)
        for alert in open_alerts
        if alert.name in OF_A_VERSION and (reason := _why_over(alert, readings)) is not None
    ]
    over = {change.alert.id for change in resolve}
    still_open = {alert.name for alert in open_alerts if alert.id not in over}
    begun = (_drift(readings), _quality(readings), _slice(readings), _calibration(readings))
    ended = {change.alert.name for change in resolve if change.alert.detail.get("version") == readings.version}
    fire = [firing for firing in begun if firing is not None and firing.name not in still_open | ended]
    louder = [_louder(change.alert, readings) for change in resolve if change.reason == TURNED_HARMFUL]
    return AlertChanges(tuple(resolve), (*louder, *fire))


def standing_alerts(
    open_alerts: Sequence[Alert],
    *,
    waiting: Sequence[ModelVersion],
    rollout: Rollout | None,
    last_job: TrainingJob | None,
) -> AlertChanges:
    """Episodes that last as long as something asks for a person.

    `waiting`: versions awaiting approval; `rollout`: the one under way; `last_job`: the newest that has ended.
    """
    asked = {firing.name: firing for firing in _asked(waiting, rollout, last_job)}
    resolve, kept = [], set()
    for alert in open_alerts:
        if alert.name not in (APPROVAL_WAITING, ROLLOUT_INCONCLUSIVE, RETRAIN_FAILED):
            continue
        if alert.name in asked and asked[alert.name].detail["about"] == alert.detail.get("about"):
            kept.add(alert.name)
        else:
            resolve.append(Resolving(alert, "it no longer asks for a person"))
    return AlertChanges(tuple(resolve), tuple(firing for name, firing in asked.items() if name not in kept))


def _why_over(alert: Alert, readings: Readings) -> str | None:
    if alert.detail.get("version") != readings.version:
        return "the model was replaced"
    if alert.name == DRIFT and readings.quiet_windows >= QUIET_WINDOWS:
        return f"{readings.quiet_windows} windows in a row were like the baseline"
    if alert.name in readings.recovered:
        return "labels since then show that all is well again"
    if _turned_harmful(alert, readings):
        return TURNED_HARMFUL
    return None


def _turned_harmful(alert: Alert, readings: Readings) -> bool:
    """Whether drift of which harm was not shown yet, as before any label has come, has turned out to matter."""
    if alert.name != DRIFT or alert.severity is Severity.CRITICAL or alert.detail.get("version") != readings.version:
        return False
    return readings.harm_since(datetime.fromisoformat(alert.detail["onset_at"])).harm is Harm.SHOWN


def _louder(alert: Alert, readings: Readings) -> Firing:
    harm = readings.harm_since(datetime.fromisoformat(alert.detail["onset_at"]))
    detail = {**alert.detail, "harm": harm.harm, "harm_reason": harm.reason}
    summary = f"{readings.name}: the drift since {alert.detail['onset_at'][:19]} costs accuracy; {harm.reason}"
    return Firing(DRIFT, readings.version, _SEVERITY[harm.harm], summary, detail)


def _drift(readings: Readings) -> Firing | None:
    """From the per-prediction detector or, where it is silent, from the first window judged DRIFT."""
    window = next((report for report in readings.reports if report.verdict is Verdict.DRIFT), None)
    if readings.alarm is not None:
        return _drift_by_detector(readings, readings.alarm)
    return None if window is None else _drift_by_window(readings, window)


def _drift_by_detector(readings: Readings, alarm: SequentialAlarm) -> Firing:
    harm = readings.harm_since(alarm.onset_at)
    summary = (
        f"{readings.name}: the traffic has changed, seen in {alarm.signal} after {alarm.n_seen} predictions; it began "
        f"about {alarm.onset_at:%Y-%m-%d %H:%M:%S} UTC; {harm.reason}"
    )
    evidence = {
        "detector": "sequential",
        "signal": alarm.signal,
        "n_seen": alarm.n_seen,
        "onset_at": alarm.onset_at.isoformat(),
        "statistic": alarm.log_statistic,
        "threshold": alarm.log_threshold,
        "cycle": "learned" if alarm.cycle_learned else "not learned yet",
    }
    return _drift_firing(readings, harm, summary, evidence)


def _drift_by_window(readings: Readings, window: DriftReport) -> Firing:
    moved = [finding for finding in window.findings if finding.significant]
    if not moved:
        return _drift_of_slices(readings, window)
    strongest = max(moved, key=lambda found: found.effect)
    onset = _onset_within(window, readings.suspected_at)
    evidence = {
        "detector": "window",
        "signal": strongest.signal,
        "n_seen": readings.n_seen,
        "onset_at": onset.isoformat(),
        "statistic": strongest.statistic,
        "threshold": strongest.leeway,
    }
    harm = readings.harm_since(onset)
    return _drift_firing(readings, harm, f"{readings.name}: {window.reason}", evidence)


def _onset_within(window: DriftReport, suspected_at: datetime | None) -> datetime:
    """A window knows no more than that it moved; since when within it, the detector may know."""
    if suspected_at is None or not window.window_start <= suspected_at <= window.window_end:
        return window.window_start
    return suspected_at


def _drift_of_slices(readings: Readings, window: DriftReport) -> Firing:
    """Of declared slices alone: the whole may well be unharmed, they are not."""
    strongest = window.slices[0]
    evidence = {
        "detector": "window",
        "signal": strongest.signal,
        "slice": strongest.slice,
        "n_seen": readings.n_seen,
        "onset_at": window.window_start.isoformat(),
        "statistic": strongest.effect,
        "threshold": strongest.leeway,
    }
    harm = HarmFinding(Harm.UNKNOWN, tell_slices(window.slices))
    return _drift_firing(readings, harm, f"{readings.name}: {window.reason}", evidence)


def _drift_firing(readings: Readings, harm: HarmFinding, summary: str, evidence: Mapping[str, Any]) -> Firing:
    latest = readings.reports[-1] if readings.reports else None
    detail = {
        **evidence,
        "version": readings.version,
        "harm": harm.harm,
        "harm_reason": harm.reason,
        "verdict": None if latest is None else latest.verdict,
        "estimated_accuracy": None if latest is None else latest.estimated_accuracy.value,
        "baseline_accuracy": readings.baseline_accuracy,
        "moved": {} if latest is None else dict(latest.moved),
        "slices": [] if latest is None else [one.slice for one in latest.slices if one.significant],
    }
    return Firing(DRIFT, readings.version, _SEVERITY[harm.harm], summary, detail)


def _quality(readings: Readings) -> Firing | None:
    evidence = readings.labels
    if evidence.accuracy is None or evidence.log_e_loss < math.log(1 / readings.label_alpha):
        return None
    summary = (
        f"{readings.name}: labels prove that accuracy fell below {readings.baseline_accuracy:.1%} by more than the "
        f"{readings.tolerated_loss:.1%} tolerated; recently it is {evidence.accuracy.value:.1%}"
    )
    detail = {
        "version": readings.version,
        "accuracy": vars(evidence.accuracy),
        "baseline_accuracy": readings.baseline_accuracy,
        "labelled": evidence.labelled,
        "log_e": evidence.log_e_loss,
        "onset_at": None if evidence.since is None else evidence.since.isoformat(),
    }
    return Firing(QUALITY, readings.version, Severity.CRITICAL, summary, detail)


def _slice(readings: Readings) -> Firing | None:
    """Declared slices that lost accuracy, however the whole is doing."""
    evidence = readings.labels
    lost = [one for one in evidence.slices if one.proves_loss(readings.label_alpha)]
    if not lost:
        return None
    told = ", ".join(f"{one.slice} from {one.before:.1%} to {one.accuracy.value:.1%}" for one in lost[:3])
    more = f" and {len(lost) - 3} more" if len(lost) > 3 else ""
    summary = f"{readings.name}: labels prove that accuracy fell in {told}{more}"
    detail = {
        "version": readings.version,
        "slices": [
            {
                "slice": one.slice,
                "accuracy": vars(one.accuracy),
                "before": one.before,
                "labelled": one.labelled,
                "log_e": one.log_e,
                "since": one.since.isoformat(),
            }
            for one in lost
        ],
        "onset_at": min(one.since for one in lost).isoformat(),
    }
    return Firing(SLICE, readings.version, Severity.WARNING, summary, detail)


def _calibration(readings: Readings) -> Firing | None:
    evidence = readings.labels
    if evidence.log_e_miscalibrated < math.log(1 / readings.label_alpha):
        return None
    direction = "over" if evidence.gap > 0 else "under"
    than = "more" if evidence.gap > 0 else "less"
    summary = (
        f"{readings.name}: it has become {direction}confident; its confidences promise an accuracy "
        f"{100 * abs(evidence.gap):.1f} points {than} than labels show"
    )
    detail = {
        "version": readings.version,
        "gap": evidence.gap,
        "labelled": evidence.labelled,
        "log_e": evidence.log_e_miscalibrated,
        "onset_at": None if evidence.miscalibrated_since is None else evidence.miscalibrated_since.isoformat(),
    }
    return Firing(CALIBRATION, readings.version, Severity.WARNING, summary, detail)


def _asked(waiting: Sequence[ModelVersion], rollout: Rollout | None, last_job: TrainingJob | None) -> list[Firing]:
    asked = []
    if waiting:
        newest = waiting[0]
        summary = f"{newest.name} passed its gates and waits for approval"
        asked.append(Firing(APPROVAL_WAITING, newest.id, Severity.WARNING, summary, {"about": newest.id}))
    if rollout is not None and rollout.phase is RolloutPhase.INCONCLUSIVE:
        summary = f"the rollout of {rollout.model} is paused and asks for a decision: {rollout.reason}"
        detail = {"about": rollout.id, "step": rollout.step, "share": rollout.share}
        asked.append(Firing(ROLLOUT_INCONCLUSIVE, rollout.candidate, Severity.WARNING, summary, detail))
    if last_job is not None and last_job.state is JobState.FAILED:
        doing = "recalibrating" if last_job.cause is RetrainCause.CALIBRATION else "retraining"
        summary = f"{doing} {last_job.model} ({last_job.cause}) failed after {last_job.attempts} attempts"
        detail = {"about": last_job.id, "cause": last_job.cause, "result": dict(last_job.result)}
        asked.append(Firing(RETRAIN_FAILED, "", Severity.WARNING, summary, detail))
    return asked
