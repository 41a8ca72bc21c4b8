"""The watch after a promotion: the replaced version stays warm, and labels may prove the promotion a mistake.

It raises an alert and leaves the rollback to a person, since the comparison is with the past and the traffic may have
changed meanwhile.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection

from monitoring.core.ledger import alerts, labels, rollouts, versions
from monitoring.core.plain import plain
from monitoring.core.settings import RolloutSettings
from monitoring.core.types import ModelState, RolloutPhase, Severity, Variant
from monitoring.stats.comparison import Interval
from service.analysis import accuracy_of, proven_worse

ALERT = "promotion_regressed"


@dataclass(frozen=True)
class Reading:
    """Accuracy of the champion `version` since its promotion, and of the version it replaced during their rollout."""

    version: str
    champion: Interval
    replaced: Interval


def read_watch(
    connection: Connection, state: ModelState, *, settings: RolloutSettings, now: datetime
) -> Reading | None:
    """What labels say about a promotion that is being watched; None where none is."""
    if state.production is None or state.previous is None or state.promoted_at is None:
        return None
    promotion = next(
        (
            rollout
            for rollout in rollouts.find(connection, model=state.model)
            if rollout.phase is RolloutPhase.SUCCESSFUL and rollout.candidate == state.production
        ),
        None,
    )
    if promotion is None:
        return None
    since = labels.find_outcomes(
        connection, version=state.production, since=state.promoted_at, variants=[Variant.PRODUCTION]
    )
    before = labels.find_outcomes(connection, version=state.previous, rollout=promotion.id)
    maturation = timedelta(seconds=settings.maturation_seconds)
    alpha = settings.alpha / 2  # two intervals share the error
    return Reading(
        state.production,
        accuracy_of(since, maturation=maturation, now=now, alpha=alpha),
        accuracy_of(before, maturation=maturation, now=now, alpha=alpha),
    )


def keep_watch(connection: Connection, model: str, reading: Reading | None, *, now: datetime) -> None:
    """End the watch when its time has come; raise the alert on proven loss; close it when the watch has ended."""
    state = versions.model_state(connection, model)
    if state.watch_until is not None and now >= state.watch_until:
        versions.end_watch(connection, state, now=now)
        state = versions.model_state(connection, model)
    for alert in alerts.find(connection, model=model, open_only=True):
        if alert.name == ALERT and (state.previous is None or alert.detail["version"] != state.production):
            alerts.resolve(connection, alert, reason="the watch after that promotion has ended", now=now)
    watched = reading is not None and state.previous is not None and reading.version == state.production
    if reading is not None and watched and proven_worse(reading.champion, reading.replaced):
        alerts.fire(
            connection,
            model=model,
            version=reading.version,
            name=ALERT,
            severity=Severity.CRITICAL,
            summary=f"{model}: by the labels the champion is right in {reading.champion.value:.1%} of cases since its "
            f"promotion, the one it replaced was in {reading.replaced.value:.1%}; `leeway rollback {model}` undoes it",
            detail=plain(reading),
            now=now,
        )
