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
    episode=None,
    new_labels=0,
    schedule_due=False,
    open_causes=frozenset(),
    last_finished={},
    undecided=None,
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
            "(ask for labels with `leeway labels queue MODEL --out FILE`); as measured",
        ),
        (
            replace(QUIET, episode=replace(episode(labels=199), retrained_at=NOW)),
            Action.WAIT,
            DRIFT,
            "waiting for labels: 199 of 200 since the last retraining "
            "(ask for labels with `leeway labels queue MODEL --out FILE`); as measured",
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
