"""Which episodes begin and end, as a truth table."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from monitoring.core.types import (
    Alert,
    DriftReport,
    Interval,
    JobState,
    ModelVersion,
    RetrainCause,
    Rollout,
    RolloutPhase,
    Severity,
    SignalFinding,
    Stage,
    TrainingJob,
    Verdict,
)
from monitoring.episodes import AlertChanges, Readings, SequentialAlarm, alerts_to_change, standing_alerts
from monitoring.harm import Harm, HarmFinding
from monitoring.quality import LabelEvidence
from tests.unit.monitoring.synthetic import NOW

ONSET = NOW - timedelta(minutes=10)
ALARM = SequentialAlarm(1234, "entropy", 17.0, 15.8, ONSET, NOW, cycle_learned=False)
NO_LABELS = LabelEvidence(0, None, None, {}, 0.0, 0.0, 0.0)
LOSS = LabelEvidence(300, ONSET, Interval(0.7, 0.6, 0.8), {}, 0.2, 9.0, 9.0, ONSET)


def report(verdict: Verdict) -> DriftReport:
    """A window, moved if it is judged so."""
    finding = SignalFinding("entropy", 0.4, 1e-9, 0.4, 0.1, verdict is not Verdict.STABLE)
    return DriftReport(
        model="support",
        version="v2",
        window_start=ONSET,
        window_end=NOW,
        n=500,
        verdict=verdict,
        reason="moved beyond the leeway",
        effect=0.4,
        findings=(finding,),
        estimated_accuracy=Interval(0.8, 0.7, 0.9),
        estimate_trustworthy=True,
        estimate_note="",
        realised_accuracy=None,
        labelled=0,
        calibration={},
    )


def readings(harm: Harm = Harm.UNKNOWN, **changes: Any) -> Readings:
    """A quiet tick, but for the changes."""

    def harm_since(onset: datetime) -> HarmFinding:
        assert onset == ONSET
        return HarmFinding(harm, "as measured")

    quiet = Readings("v2", "support@2", 2000, 0.9, 0.03, 0.001, None, None, (), 0, harm_since, NO_LABELS, frozenset())
    return replace(quiet, **changes)


def alert(name: str, version: str = "v2", **detail: Any) -> Alert:
    """An open episode."""
    known = {"version": version, "onset_at": ONSET.isoformat()} | detail
    return Alert(f"{name} of {version}", "support", name, Severity.WARNING, "", known, ONSET, None)


@pytest.mark.parametrize(
    ("tick", "fired"),
    [
        (readings(), []),
        (readings(reports=[report(Verdict.STABLE)]), []),
        (readings(reports=[report(Verdict.NOTICE)]), []),
        (readings(reports=[report(Verdict.INCONCLUSIVE)]), []),
        (readings(alarm=ALARM), [("drift", Severity.WARNING)]),
        (readings(Harm.NONE, alarm=ALARM), [("drift", Severity.INFO)]),
        (readings(Harm.SHOWN, alarm=ALARM), [("drift", Severity.CRITICAL)]),
        (readings(reports=[report(Verdict.DRIFT), report(Verdict.STABLE)]), [("drift", Severity.WARNING)]),
        (readings(labels=replace(LOSS, log_e_miscalibrated=0.0)), [("quality", Severity.CRITICAL)]),
        (readings(labels=replace(LOSS, log_e_loss=0.0)), [("calibration", Severity.WARNING)]),
        (readings(labels=replace(LOSS, log_e_loss=6.0, log_e_miscalibrated=6.0)), []),
    ],
)
def test_an_episode_begins_once_and_as_loud_as_its_harm(tick: Readings, fired: list[tuple[str, Severity]]) -> None:
    changes = alerts_to_change(tick, [])
    assert [(firing.name, firing.severity) for firing in changes.fire] == fired
    already_open = [replace(alert(name), severity=severity) for name, severity in fired]
    assert alerts_to_change(tick, already_open).fire == ()
    for firing in changes.fire:
        assert firing.detail["version"] == firing.version == "v2"
        assert datetime.fromisoformat(firing.detail.get("onset_at", ONSET.isoformat())) == ONSET
        json.dumps(firing.detail, allow_nan=False)


def test_the_detector_speaks_before_the_window() -> None:
    [firing] = alerts_to_change(readings(alarm=ALARM, reports=[report(Verdict.DRIFT)]), []).fire
    assert (firing.detail["detector"], firing.detail["n_seen"]) == ("sequential", 1234)
    assert firing.detail["verdict"] is Verdict.DRIFT
    assert "seen in entropy after 1234 predictions" in firing.summary
    [firing] = alerts_to_change(readings(reports=[report(Verdict.DRIFT)]), []).fire
    assert (firing.detail["detector"], firing.detail["signal"], firing.detail["n_seen"]) == ("window", "entropy", 2000)


@pytest.mark.parametrize(
    ("tick", "episode", "reason"),
    [
        (readings(), alert("drift"), None),
        (readings(quiet_windows=2), alert("drift"), None),
        (readings(quiet_windows=3), alert("drift"), "3 windows in a row were like the baseline"),
        (readings(quiet_windows=3), alert("quality"), None),
        (readings(recovered=frozenset({"quality"})), alert("quality"), "labels since then show that all is well again"),
        (readings(recovered=frozenset({"quality"})), alert("calibration"), None),
        (readings(), alert("drift", "v1"), "the model was replaced"),
        (readings(), alert("quality", "v1"), "the model was replaced"),
        (readings(quiet_windows=3), alert("approval_waiting", "v1"), None),
    ],
)
def test_an_episode_ends_for_a_named_reason(tick: Readings, episode: Alert, reason: str | None) -> None:
    changes = alerts_to_change(tick, [episode])
    assert [change.reason for change in changes.resolve] == ([] if reason is None else [reason])
    assert changes.fire == ()


def test_the_new_versions_episode_may_follow_the_old_ones_at_once() -> None:
    changes = alerts_to_change(readings(alarm=ALARM), [alert("drift", "v1")])
    assert [change.alert.name for change in changes.resolve] == ["drift"]
    assert [firing.version for firing in changes.fire] == ["v2"]


@pytest.mark.parametrize("severity", [Severity.INFO, Severity.WARNING])
def test_drift_that_turns_out_harmful_becomes_a_louder_episode(severity: Severity) -> None:
    notice = replace(alert("drift", n_seen=7), severity=severity)
    changes = alerts_to_change(readings(Harm.SHOWN), [notice])
    assert [change.reason for change in changes.resolve] == ["it costs accuracy by now: a louder episode follows"]
    [firing] = changes.fire
    assert (firing.severity, firing.detail["n_seen"], firing.detail["harm"]) == (Severity.CRITICAL, 7, Harm.SHOWN)
    told = replace(notice, severity=firing.severity, detail=firing.detail)
    assert alerts_to_change(readings(Harm.SHOWN), [told]) == AlertChanges((), ())
    for harm in (Harm.NONE, Harm.UNKNOWN):
        assert alerts_to_change(readings(harm), [notice]) == AlertChanges((), ())
    over = alerts_to_change(readings(Harm.SHOWN, quiet_windows=3), [notice])
    assert (len(over.resolve), over.fire) == (1, ())


def waiting(version: str) -> ModelVersion:
    return ModelVersion(version, "support", 2, Stage.AWAITING_APPROVAL, "", "", (), {}, {}, NOW)


def job(state: JobState) -> TrainingJob:
    return TrainingJob("j", "support", RetrainCause.DRIFT, state, "", {}, {}, 3, 1, NOW, NOW)


def rollout(phase: RolloutPhase) -> Rollout:
    return Rollout("r", "support", "v2", "v1", phase, Stage.AB_TEST, 0, 0.1, "s", 1, "no verdict", {}, NOW, NOW, None)


@pytest.mark.parametrize(
    ("state", "fired"),
    [
        ({}, []),
        ({"waiting": [waiting("v2")]}, ["approval_waiting"]),
        ({"rollout": rollout(RolloutPhase.RUNNING)}, []),
        ({"rollout": rollout(RolloutPhase.INCONCLUSIVE)}, ["rollout_inconclusive"]),
        ({"last_job": job(JobState.SUCCEEDED)}, []),
        ({"last_job": job(JobState.FAILED)}, ["retrain_failed"]),
    ],
)
def test_what_asks_for_a_person_is_an_alert_as_long_as_it_asks(state: dict[str, Any], fired: list[str]) -> None:
    nothing: dict[str, Any] = {"waiting": [], "rollout": None, "last_job": None}
    changes = standing_alerts([], **(nothing | state))
    assert [firing.name for firing in changes.fire] == fired
    standing = [alert(firing.name, **firing.detail) for firing in changes.fire]
    assert standing_alerts(standing, **(nothing | state)) == replace(changes, fire=())
    assert [change.alert for change in standing_alerts(standing, **nothing).resolve] == standing


def test_a_recalibration_that_failed_is_not_called_a_retraining() -> None:
    failed = replace(job(JobState.FAILED), cause=RetrainCause.CALIBRATION)
    [firing] = standing_alerts([], waiting=[], rollout=None, last_job=failed).fire
    assert firing.summary == "recalibrating support (calibration) failed after 3 attempts"


def test_another_candidate_that_waits_is_another_episode() -> None:
    old = alert("approval_waiting", about="v1")
    changes = standing_alerts([old, alert("drift")], waiting=[waiting("v2")], rollout=None, last_job=None)
    assert [change.alert for change in changes.resolve] == [old]
    assert [firing.detail["about"] for firing in changes.fire] == ["v2"]


@pytest.mark.parametrize(
    ("suspected", "onset"),
    [
        (None, ONSET),
        (ONSET + timedelta(minutes=6), ONSET + timedelta(minutes=6)),
        (ONSET - timedelta(minutes=1), ONSET),
        (NOW + timedelta(minutes=1), ONSET),
    ],
)
def test_a_window_takes_its_onset_from_the_detectors_suspicion_within_it(
    suspected: datetime | None, onset: datetime
) -> None:
    asked = []

    def harm_since(moment: datetime) -> HarmFinding:
        asked.append(moment)
        return HarmFinding(Harm.SHOWN, "as measured")

    tick = readings(suspected_at=suspected, reports=[report(Verdict.DRIFT)], harm_since=harm_since)
    [firing] = alerts_to_change(tick, []).fire
    assert datetime.fromisoformat(firing.detail["onset_at"]) == onset
    assert asked == [onset]


@pytest.mark.parametrize(("gap", "said"), [(0.494, "overconfident"), (-0.03, "underconfident")])
def test_a_gap_in_accuracy_is_told_in_points(gap: float, said: str) -> None:
    evidence = replace(LOSS, log_e_loss=0.0, gap=gap)
    [firing] = alerts_to_change(readings(labels=evidence), []).fire
    than = "49.4 points more" if gap > 0 else "3.0 points less"
    assert firing.summary.endswith(f"become {said}; its confidences promise an accuracy {than} than labels show")
