"""The decision to retrain, as a truth table."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from monitoring.core.settings import RetrainSettings
from monitoring.core.types import RetrainCause
from monitoring.harm import Harm, HarmFinding
from monitoring.policy import Action, Episode, RetrainState, retrain_decision
from tests.unit.monitoring.synthetic import NOW

SETTINGS = RetrainSettings(min_new_labels=200, label_volume=1000, cooldown_hours=24.0)
QUIET = RetrainState(
    model="support",
    episode=None,
    calibration=None,
    new_labels=0,
    schedule_due=False,
    open_causes=frozenset(),
    last_finished={},
    undecided=None,
    recalibrated=None,
    now=NOW,
)


def episode(harm: Harm = Harm.SHOWN, labels: int = 200) -> Episode:
    """An episode that calls for retraining, unless told otherwise."""
    return Episode("alert", NOW - timedelta(hours=1), labels, HarmFinding(harm, "as measured"))


DRIFTING = replace(QUIET, episode=episode())
DRIFT, SCHEDULE, VOLUME = RetrainCause.DRIFT, RetrainCause.SCHEDULE, RetrainCause.LABEL_VOLUME


@pytest.mark.parametrize(
    ("state", "action", "cause", "reason"),
    [
        (QUIET, Action.NONE, None, "nothing calls for retraining"),
        (DRIFTING, Action.RETRAIN, DRIFT, "drift with harm: as measured"),
        (
            replace(QUIET, episode=episode(labels=199)),
            Action.WAIT,
            DRIFT,
            "waiting for labels: 199 of 200 since the drift began "
            "(ask for labels with `leeway labels queue support --out queue.csv`); as measured",
        ),
        (
            replace(QUIET, episode=replace(episode(labels=199), retrained_at=NOW)),
            Action.WAIT,
            DRIFT,
            "waiting for labels: 199 of 200 since the last retraining "
            "(ask for labels with `leeway labels queue support --out queue.csv`); as measured",
        ),
        (replace(QUIET, episode=episode(Harm.NONE)), Action.WAIT, DRIFT, "drift without shown harm: as measured"),
        (replace(QUIET, episode=episode(Harm.UNKNOWN)), Action.WAIT, DRIFT, "drift without shown harm: as measured"),
        (replace(QUIET, new_labels=999), Action.NONE, None, "nothing calls for retraining"),
        (replace(QUIET, new_labels=1000), Action.RETRAIN, VOLUME, "1000 new labels have come"),
        (replace(QUIET, schedule_due=True), Action.RETRAIN, SCHEDULE, "the schedule asks for it"),
        (replace(DRIFTING, new_labels=1000, schedule_due=True), Action.RETRAIN, DRIFT, "drift with harm: as measured"),
        (
            replace(DRIFTING, open_causes=frozenset({DRIFT})),
            Action.WAIT,
            DRIFT,
            "a training job for drift is under way",
        ),
        (
            replace(DRIFTING, open_causes=frozenset({RetrainCause.MANUAL})),
            Action.RETRAIN,
            DRIFT,
            "drift with harm: as measured",
        ),
        (replace(DRIFTING, undecided="support@4"), Action.WAIT, DRIFT, "support@4 is not decided yet"),
        (
            replace(DRIFTING, last_finished={DRIFT: NOW - timedelta(hours=23)}),
            Action.WAIT,
            DRIFT,
            "cooling down until 2026-01-05 13:00:00 UTC",
        ),
        (
            replace(DRIFTING, last_finished={DRIFT: NOW - timedelta(hours=24)}),
            Action.RETRAIN,
            DRIFT,
            "drift with harm: as measured",
        ),
        (
            replace(DRIFTING, schedule_due=True, last_finished={DRIFT: NOW}),
            Action.RETRAIN,
            SCHEDULE,
            "the schedule asks for it",
        ),
        (
            replace(QUIET, schedule_due=True, episode=episode(Harm.UNKNOWN)),
            Action.RETRAIN,
            SCHEDULE,
            "the schedule asks for it",
        ),
    ],
)
def test_the_decision_names_its_cause_and_reason(
    state: RetrainState, action: Action, cause: RetrainCause | None, reason: str
) -> None:
    decision = retrain_decision(state, SETTINGS)
    assert (decision.action, decision.cause, decision.reason) == (action, cause, reason)


def test_label_volume_is_off_unless_set() -> None:
    settings = RetrainSettings(label_volume=None)
    assert retrain_decision(replace(QUIET, new_labels=10**9), settings).action is Action.NONE


UNCALIBRATED = replace(QUIET, calibration=episode(Harm.NONE))
CALIBRATION = RetrainCause.CALIBRATION


@pytest.mark.parametrize(
    ("state", "action", "cause", "reason"),
    [
        (
            UNCALIBRATED,
            Action.RECALIBRATE,
            CALIBRATION,
            "calibration is lost, and no loss of accuracy is shown: as measured",
        ),
        (
            replace(QUIET, calibration=episode(Harm.UNKNOWN)),
            Action.RECALIBRATE,
            CALIBRATION,
            "calibration is lost, and no loss of accuracy is shown: as measured",
        ),
        (
            replace(QUIET, calibration=episode(Harm.SHOWN)),
            Action.WAIT,
            CALIBRATION,
            "calibration is lost, but accuracy is too: as measured",
        ),
        (
            replace(QUIET, calibration=episode(Harm.NONE, labels=199)),
            Action.WAIT,
            CALIBRATION,
            "waiting for labels to recalibrate with: 199 of 200 outcome-blind ones since calibration was lost",
        ),
        # drift that costs nothing leaves the cheap cure; drift that costs, or may, does not
        (
            replace(UNCALIBRATED, episode=episode(Harm.NONE)),
            Action.RECALIBRATE,
            CALIBRATION,
            "calibration is lost, and no loss of accuracy is shown: as measured",
        ),
        (
            replace(UNCALIBRATED, episode=episode(Harm.UNKNOWN)),
            Action.WAIT,
            DRIFT,
            "drift without shown harm: as measured",
        ),
        (replace(UNCALIBRATED, episode=episode()), Action.RETRAIN, DRIFT, "drift with harm: as measured"),
        # a retraining calibrates as well
        (replace(UNCALIBRATED, schedule_due=True), Action.RETRAIN, SCHEDULE, "the schedule asks for it"),
        (
            replace(UNCALIBRATED, open_causes=frozenset({VOLUME})),
            Action.WAIT,
            CALIBRATION,
            "a training job for label_volume is under way",
        ),
        (
            replace(UNCALIBRATED, open_causes=frozenset({CALIBRATION})),
            Action.WAIT,
            CALIBRATION,
            "a training job for calibration is under way",
        ),
        (replace(UNCALIBRATED, undecided="support@4"), Action.WAIT, CALIBRATION, "support@4 is not decided yet"),
        (replace(UNCALIBRATED, recalibrated="support@5"), Action.WAIT, CALIBRATION, "support@5 is not decided yet"),
        (
            replace(UNCALIBRATED, last_finished={CALIBRATION: NOW - timedelta(hours=23)}),
            Action.WAIT,
            CALIBRATION,
            "cooling down until 2026-01-05 13:00:00 UTC",
        ),
        # the cheap cure never stands in the way of the dear one
        (
            replace(DRIFTING, recalibrated="support@5", open_causes=frozenset({CALIBRATION})),
            Action.RETRAIN,
            DRIFT,
            "drift with harm: as measured",
        ),
    ],
)
def test_recalibration_is_the_cheap_cure_for_confidences_alone(
    state: RetrainState, action: Action, cause: RetrainCause | None, reason: str
) -> None:
    decision = retrain_decision(state, SETTINGS)
    assert (decision.action, decision.cause, decision.reason) == (action, cause, reason)
