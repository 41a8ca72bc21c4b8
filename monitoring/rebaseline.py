"""Another baseline for a version in production: its own answers of a span that somebody vouches for.

They are out of training by construction. What is usual changes; what is good enough does not: the accuracy that is to
be kept, what a confidence is worth, and what the estimate learnt from labels stay those of the hold-out. So a span in
which accuracy was low already cannot be declared normal. Bins and directions that were frozen apart from the hold-out
stay, too: they are just as apart from this traffic. Detector, windows and slices start anew at the change.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import numpy as np
from sqlalchemy import Connection

from monitoring.baseline import MAX_SAMPLE, Baseline
from monitoring.core import bundle as bundles
from monitoring.core.errors import Conflict, InvalidInput, NotReady
from monitoring.core.ledger import alerts, baselines, verdicts, versions
from monitoring.core.ledger.baselines import BaselineChange
from monitoring.core.ledger.database import Ledger
from monitoring.core.prediction_log import PredictionLog
from monitoring.core.registry import Registry
from monitoring.core.settings import Settings
from monitoring.core.types import ModelState, ModelVersion, Verdict
from monitoring.detect import worth_of
from monitoring.episodes import DRIFT
from monitoring.in_force import load_baseline
from monitoring.intake import Reign, read_span
from monitoring.signals import Traffic
from monitoring.weekly import with_rows_of

LEAST_ROWS = 300
"""Fewer answers, or what so many by few clients are worth, are no measure."""
MOST_REPORTS = 10_000
A_WEEK = timedelta(days=7)


@dataclass(frozen=True)
class Changed:
    """What came of it: the version, its baseline, and what whoever asked should know."""

    version: ModelVersion
    change: BaselineChange
    notes: tuple[str, ...]


def reign_of(version: ModelVersion, state: ModelState, change: BaselineChange | None) -> Reign:
    """What is judged by the present baseline: answers since the promotion, and since the baseline was changed."""
    promoted = state.promoted_at or version.created_at
    return Reign(version.id, promoted if change is None else max(promoted, change.set_at))


def change_baseline(
    ledger: Ledger,
    log: PredictionLog,
    registry: Registry,
    settings: Settings,
    model: str,
    *,
    since: datetime,
    until: datetime,
    actor: str,
    reason: str,
    accept_drift: bool = False,
    now: datetime,
) -> Changed:
    """Make the champion's answers from `since` to before `until` its baseline.

    Raises NotReady without a champion; InvalidInput where the span lies before it, or holds too little; Conflict where
    it holds drift that `accept_drift` does not accept, or where another champion came meanwhile.
    """
    if not reason.strip():
        raise InvalidInput("reason is empty: say in a few words why, for the audit trail", field="reason")
    with ledger.read() as connection:
        state = versions.model_state(connection, model)
        if state.production is None:
            raise NotReady(f"{model} has no production version: there is no baseline to change")
        version = versions.get(connection, state.production)
        before = baselines.newest(connection, version.id)
        drifted = _drift_within(connection, version, since, until)
    promoted = state.promoted_at or version.created_at
    if since < promoted:
        raise InvalidInput(
            f"the span begins before {version.name} went into production, {promoted:%Y-%m-%d %H:%M:%S} UTC: another "
            "version's answers are no baseline for it",
            field="since",
        )
    if drifted is not None and not accept_drift:
        raise Conflict(f"{drifted}: choose a span without, or accept it with --accept-drift if that is the new normal")
    old = load_baseline(registry, version, before)
    made, clients = _of_span(old, _traffic(log, settings, version, since, min(until, now)), settings.monitor.seed)
    content = made.to_bytes()
    digest = hashlib.sha256(content).hexdigest()
    uri = registry.storage.put_bytes(f"baselines/{model}/{digest[:20]}.npz", content)
    with ledger.begin() as connection:
        if versions.model_state(connection, model) != state or baselines.newest(connection, version.id) != before:
            raise Conflict(f"{model} was promoted or given another baseline meanwhile: look again, then repeat it")
        done = baselines.change(
            connection,
            version,
            uri=uri,
            sha256=digest,
            since=since,
            until=min(until, now),
            n=made.n,
            old=f"{version.bundle_uri}/{bundles.BASELINE}" if before is None else before.uri,
            actor=actor,
            reason=reason.strip(),
            now=now,
        )
    return Changed(version, done, tuple(_notes(made, clients, done, drifted)))


def _traffic(log: PredictionLog, settings: Settings, version: ModelVersion, since: datetime, end: datetime) -> Traffic:
    kept = settings.log.text == "store"
    traffic = read_span(log, Reign(version.id, since), since, end, until_commit=log.last_commit(), texts_kept=kept)
    rows = 0 if traffic is None else len(traffic)
    if traffic is None or rows < LEAST_ROWS:
        raise InvalidInput(
            f"the span holds {rows} answers of {version.name} that count, and a baseline needs {LEAST_ROWS}: "
            "choose a longer one",
            field="since",
        )
    return traffic


def _of_span(old: Baseline, traffic: Traffic, seed: int) -> tuple[Baseline, float]:
    """The `old` baseline with the rows of the span, and how many independent rows one of them is worth."""
    worth = worth_of(traffic, old.strangeness(traffic.signals))
    if worth * len(traffic) < LEAST_ROWS:
        raise InvalidInput(
            f"the {len(traffic)} answers of the span come from so few clients that they are worth "
            f"{worth * len(traffic):.0f}, and a baseline needs {LEAST_ROWS}: choose a longer one",
            field="since",
        )
    rng = np.random.default_rng(seed)
    some = np.sort(rng.choice(len(traffic), size=min(MAX_SAMPLE, len(traffic)), replace=False))
    sample = traffic.projected[some].astype(np.float16)
    return replace(with_rows_of(old, traffic), sample=sample, worth=worth), worth


def _drift_within(connection: Connection, version: ModelVersion, since: datetime, until: datetime) -> str | None:
    """What of the span was called drift, in words; None where nothing was."""
    found = verdicts.reports(
        connection, version.model, version=version.id, since=since, until=until, limit=MOST_REPORTS
    )
    windows = [report for _, report in found if report.verdict is Verdict.DRIFT]
    if windows:
        first = min(report.window_start for report in windows)
        return f"{len(windows)} windows of the span were judged DRIFT, the first from {first:%Y-%m-%d %H:%M} UTC"
    for alert in alerts.find(connection, model=version.model):
        ended = alert.resolved_at or until
        if alert.name == DRIFT and alert.detail.get("version") == version.id:
            onset = datetime.fromisoformat(alert.detail["onset_at"])
            if onset < until and ended > since:
                return f"drift was alarmed within the span, since about {onset:%Y-%m-%d %H:%M} UTC"
    return None


def _notes(made: Baseline, worth: float, change: BaselineChange, drifted: str | None) -> list[str]:
    told = ["accuracy, confidences and the estimate are still held against the version's hold-out"]
    if worth < 1.0:
        told.append(f"its rows come from returning clients and count as {worth * made.n:,.0f}")
    if change.until - change.since < A_WEEK:
        told.append("it is shorter than a week: hours and weekdays that it lacks will seem unusual at first")
    if np.isnan(made.signals["vocabulary"]).all():
        told.append("the log keeps no texts, so that words are not compared")
    return told if drifted is None else [f"accepted: {drifted}", *told]
