"""Whether to retrain or to recalibrate, and why, or why not yet. Pure; each answer names its reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from monitoring.core.settings import RetrainSettings
from monitoring.core.types import RetrainCause
from monitoring.harm import Harm, HarmFinding
from monitoring.label_queue import how_to_ask


class Action(StrEnum):
    """What to do about retraining. RECALIBRATE: fit the temperature anew, the cheap cure, and leave the rest."""

    RETRAIN = "retrain"
    RECALIBRATE = "recalibrate"
    WAIT = "wait"
    NONE = "none"


@dataclass(frozen=True)
class Decision:
    """What is done about retraining, for which cause, and why."""

    action: Action
    cause: RetrainCause | None
    reason: str


@dataclass(frozen=True)
class Episode:
    """An open episode, and its harm.

    `retrained_at`: when the last cure of its kind was asked for within it; `new_labels`: predictions since the onset
    that were labelled since then. Where a cure did not help, another one needs more labels. Of lost calibration only
    the outcome-blind labels are counted: no others may fit or judge a temperature.
    """

    alert: str
    onset_at: datetime
    new_labels: int
    harm: HarmFinding
    retrained_at: datetime | None = None


@dataclass(frozen=True)
class RetrainState:
    """All that the decision to retrain `model` depends on.

    `episode`: of drift or lost quality; `calibration`: of lost calibration. `new_labels`: labelled predictions since
    the champion's data were gathered, labelled since the last retraining that ran, even if its gates refused what came
    of it; `open_causes`: of unfinished jobs; `last_finished`: when the last job of each cause ended; `undecided`: the
    name of a version between training and its verdict; `recalibrated`: the same of a recalibration, which holds nothing
    back but another one; `schedule_due`: the cron schedule asks now.
    """

    model: str
    episode: Episode | None
    calibration: Episode | None
    new_labels: int
    schedule_due: bool
    open_causes: frozenset[RetrainCause]
    last_finished: Mapping[RetrainCause, datetime]
    undecided: str | None
    recalibrated: str | None
    now: datetime


def retrain_decision(state: RetrainState, settings: RetrainSettings) -> Decision:
    """Whether to retrain now: drift with harm first, then label volume, then the schedule; else to recalibrate.

    A retraining calibrates as well, so where one is called for, nothing else is.
    """
    wanted = (
        _for_drift(state, settings),
        _for_volume(state, settings),
        _for_schedule(state),
        _for_calibration(state, settings),
    )
    decisions = [_unless_held_back(decision, state, settings) for decision in wanted]
    for action in (Action.RETRAIN, Action.RECALIBRATE, Action.WAIT):
        for decision in decisions:
            if decision.action is action:
                return decision
    return Decision(Action.NONE, None, "nothing calls for retraining")


def _for_drift(state: RetrainState, settings: RetrainSettings) -> Decision:
    if state.episode is None:
        return Decision(Action.NONE, None, "no drift")
    harm, labels = state.episode.harm, state.episode.new_labels
    if harm.harm is not Harm.SHOWN:
        return Decision(Action.WAIT, RetrainCause.DRIFT, f"drift without shown harm: {harm.reason}")
    if labels < settings.min_new_labels:
        since = "the drift began" if state.episode.retrained_at is None else "the last retraining"
        have = f"{labels} of {settings.min_new_labels} since {since}"
        reason = f"waiting for labels: {have} ({how_to_ask(state.model)}); {harm.reason}"
        return Decision(Action.WAIT, RetrainCause.DRIFT, reason)
    return Decision(Action.RETRAIN, RetrainCause.DRIFT, f"drift with harm: {harm.reason}")


def _for_volume(state: RetrainState, settings: RetrainSettings) -> Decision:
    if settings.label_volume is None or state.new_labels < settings.label_volume:
        return Decision(Action.NONE, None, "not enough new labels")
    return Decision(Action.RETRAIN, RetrainCause.LABEL_VOLUME, f"{state.new_labels} new labels have come")


def _for_schedule(state: RetrainState) -> Decision:
    if not state.schedule_due:
        return Decision(Action.NONE, None, "not scheduled")
    return Decision(Action.RETRAIN, RetrainCause.SCHEDULE, "the schedule asks for it")


def _for_calibration(state: RetrainState, settings: RetrainSettings) -> Decision:
    """Recalibrate where confidences alone went wrong: no temperature gives lost accuracy back."""
    if state.calibration is None:
        return Decision(Action.NONE, None, "calibrated")
    cause, lost = RetrainCause.CALIBRATION, state.calibration
    if lost.harm.harm is Harm.SHOWN:
        return Decision(Action.WAIT, cause, f"calibration is lost, but accuracy is too: {lost.harm.reason}")
    if state.episode is not None and state.episode.harm.harm is not Harm.NONE:
        reason = f"calibration is lost, but so may accuracy be: {state.episode.harm.reason}"
        return Decision(Action.WAIT, cause, reason)
    if lost.new_labels < settings.min_new_labels:
        since = "calibration was lost" if lost.retrained_at is None else "the last recalibration"
        have = f"{lost.new_labels} of {settings.min_new_labels} outcome-blind ones since {since}"
        reason = f"waiting for labels to recalibrate with: {have}"
        return Decision(Action.WAIT, cause, reason)
    return Decision(
        Action.RECALIBRATE, cause, f"calibration is lost, and no loss of accuracy is shown: {lost.harm.reason}"
    )


def _unless_held_back(decision: Decision, state: RetrainState, settings: RetrainSettings) -> Decision:
    """What is called for waits for a job under way, for a version not decided yet, and for the cooldown."""
    if decision.cause is None or decision.action not in (Action.RETRAIN, Action.RECALIBRATE):
        return decision
    recalibrates = decision.action is Action.RECALIBRATE
    last = state.last_finished.get(decision.cause)
    cooled = None if last is None else last + timedelta(hours=settings.cooldown_hours)
    in_the_way = state.open_causes if recalibrates else state.open_causes & {decision.cause}
    undecided = state.undecided or (state.recalibrated if recalibrates else None)
    if in_the_way:
        reason = f"a training job for {min(in_the_way)} is under way"
    elif undecided is not None:
        reason = f"{undecided} is not decided yet"
    elif cooled is not None and state.now < cooled:
        reason = f"cooling down until {cooled:%Y-%m-%d %H:%M:%S} UTC"
    else:
        return decision
    return Decision(Action.WAIT, decision.cause, reason)
