"""Whether to retrain, and why, or why not yet. Pure; each answer names its reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from monitoring.core.settings import RetrainSettings
from monitoring.core.types import RetrainCause
from monitoring.harm import Harm, HarmFinding
from monitoring.label_queue import HOW_TO_ASK


class Action(StrEnum):
    """What to do about retraining."""

    RETRAIN = "retrain"
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
    """An open episode of drift or lost quality, and its harm.

    `retrained_at`: when the last retraining within it was asked for; `new_labels`: predictions since the
    onset that were labelled since then. Where a retraining did not cure the episode, another one needs more labels.
    """

    alert: str
    onset_at: datetime
    new_labels: int
    harm: HarmFinding
    retrained_at: datetime | None = None


@dataclass(frozen=True)
class RetrainState:
    """All that the decision to retrain depends on.

    `new_labels`: labelled predictions since the champion's data were gathered; `open_causes`: of unfinished jobs;
    `last_finished`: when the last job of each cause ended; `undecided`: the name of a version between training and its
    verdict; `schedule_due`: the cron schedule asks now.
    """

    episode: Episode | None
    new_labels: int
    schedule_due: bool
    open_causes: frozenset[RetrainCause]
    last_finished: Mapping[RetrainCause, datetime]
    undecided: str | None
    now: datetime


def retrain_decision(state: RetrainState, settings: RetrainSettings) -> Decision:
    """Whether to retrain now: drift with harm first, then label volume, then the schedule."""
    wanted = (_for_drift(state, settings), _for_volume(state, settings), _for_schedule(state))
    decisions = [_unless_held_back(decision, state, settings) for decision in wanted]
    for action in (Action.RETRAIN, Action.WAIT):
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
        reason = f"waiting for labels: {have} ({HOW_TO_ASK}); {harm.reason}"
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


def _unless_held_back(decision: Decision, state: RetrainState, settings: RetrainSettings) -> Decision:
    """A retraining that is called for waits for one under way, for a version not decided yet, and for the cooldown."""
    if decision.action is not Action.RETRAIN or decision.cause is None:
        return decision
    last = state.last_finished.get(decision.cause)
    cooled = None if last is None else last + timedelta(hours=settings.cooldown_hours)
    if decision.cause in state.open_causes:
        reason = f"a training job for {decision.cause} is under way"
    elif state.undecided is not None:
        reason = f"{state.undecided} is not decided yet"
    elif cooled is not None and state.now < cooled:
        reason = f"cooling down until {cooled:%Y-%m-%d %H:%M:%S} UTC"
    else:
        return decision
    return Decision(Action.WAIT, decision.cause, reason)
