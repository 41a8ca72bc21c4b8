"""All that is known of one version in a span of time, gathered for its report, and the span judged as one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection

from monitoring.baseline import Baseline
from monitoring.budget import alarm_budget
from monitoring.calibration import MAX_LABELS
from monitoring.core.errors import InvalidInput, LeewayError, NotReady
from monitoring.core.ledger import alerts, baselines, jobs, labels, profiles, verdicts, versions
from monitoring.core.ledger.baselines import BaselineChange
from monitoring.core.ledger.profiles import KeptProfile
from monitoring.core.lifecycle import OPEN_JOBS
from monitoring.core.registry import Registry
from monitoring.core.settings import MonitorSettings
from monitoring.core.types import (
    Alert,
    DriftReport,
    LabelSource,
    ModelVersion,
    Outcome,
    RetrainCause,
    SignalFinding,
    Stage,
    Variant,
)
from monitoring.episodes import DRIFT
from monitoring.in_force import load_baseline
from monitoring.profiles import profile_spec, span_findings, unpack
from monitoring.stats.profile import WindowProfile

MAX_WINDOWS = 120
MAX_ALERTS = 40
USUAL_SPAN = timedelta(days=7)
EARLIEST, LATEST = datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 12, 30, tzinfo=UTC)  # a day is added to an end


@dataclass(frozen=True)
class Found:
    """What the ledger knows of one version in a span of time: newest MAX_WINDOWS reports, oldest first, and the rest.

    `outcomes`: outcome-blind ones, the newest MAX_LABELS by prediction time.
    `change`: of its baseline, the newest; `asked`: somebody gave the span; `meaning`: what it is, in words;
    `elsewhere`: predictions by name of the model's other versions in it.
    """

    version: ModelVersion
    since: datetime
    until: datetime
    meaning: str
    reports: Sequence[DriftReport]
    kept: Sequence[KeptProfile]
    elsewhere: Mapping[str, int]
    alerts: Sequence[Alert]
    outcomes: Sequence[Outcome]
    waiting: Sequence[ModelVersion]
    retraining: bool
    gauges: Mapping[str, Any]
    asked: bool = False
    change: BaselineChange | None = None


@dataclass(frozen=True)
class Span:
    """The windows of a span as one: what was merged, how it differs from the baseline, and what could not be merged.

    `alpha`: the level of its tests, all together.
    """

    start: datetime
    end: datetime
    windows: int
    foreign: int
    profile: WindowProfile
    alpha: float
    findings: Sequence[SignalFinding]

    def as_json(self) -> dict[str, Any]:
        """Plain values; times in ISO 8601, nothing for what is not a number."""
        return {
            "since": self.start.isoformat(),
            "until": self.end.isoformat(),
            "windows": self.windows,
            "predictions": self.profile.n,
            "of_other_baselines": self.foreign,
            "findings": [
                {name: None if value != value else value for name, value in vars(finding).items()}
                for finding in self.findings
            ],
        }


def version_named(connection: Connection, name: str) -> ModelVersion:
    """The version `support@2`, or the champion of the model `support`. Raises NotFound or NotReady."""
    if "@" in name:
        return versions.get(connection, name)
    production = versions.model_state(connection, name).production
    if production is None:
        raise NotReady(f"{name} has no production version to report on; `leeway candidates` lists what waits")
    return versions.get(connection, production)


def span_of(since: datetime | None, until: datetime | None) -> tuple[datetime | None, datetime | None]:
    """A span that a person gave, in UTC; a day without a time, as its end, is part of it. Raises InvalidInput."""
    begin = None if since is None else since.replace(tzinfo=UTC)
    end = None if until is None else until.replace(tzinfo=UTC)
    if end is not None and not EARLIEST <= end <= LATEST:
        raise InvalidInput(
            f"until is {end:%Y-%m-%d %H:%M}: give a day from {EARLIEST:%Y-%m-%d} to {LATEST:%Y-%m-%d}", field="until"
        )
    if end is not None and (end.hour, end.minute) == (0, 0):
        end += timedelta(days=1)
    if begin is not None and end is not None and begin >= end:
        raise InvalidInput(f"the span from {begin:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} UTC is empty", field="since")
    return begin, end


def read_baseline(registry: Registry, found: Found) -> tuple[Baseline | None, str | None]:
    """The version's baseline; None, with the reason, where its bundle is gone: most of the page does without."""
    try:
        return load_baseline(registry, found.version, found.change), None
    except LeewayError as error:
        return None, error.message


def find(
    connection: Connection, version: ModelVersion, *, since: datetime | None, until: datetime | None, now: datetime
) -> Found:
    """Gather what is known of `version` between the two.

    By default its newest windows, and of its traffic what came since its drift began, or else the last week's.
    """
    end = now if until is None else until
    newest = verdicts.reports(connection, version.model, version=version.id, since=since, until=end, limit=MAX_WINDOWS)
    reports = [report for _, report in reversed(newest)]
    open_alerts = alerts.find(connection, model=version.model, open_only=True)
    if since is not None or until is not None:
        begin = since or (reports[0].window_start if reports else end - USUAL_SPAN)
        meaning = "the span that was asked for"
    else:
        begin, meaning = _usual_span(reports, open_alerts, version, end)
    others = profiles.versions_within(connection, version.model, begin, end)
    gauges = {kept: values for _, kept, values, _ in verdicts.load_gauges(connection)}
    return Found(
        version=version,
        since=begin,
        until=end,
        meaning=meaning,
        reports=reports,
        kept=profiles.find(connection, version.id, since=begin, until=end),
        elsewhere={versions.get(connection, name).name: n for name, n in others.items() if name != version.id},
        alerts=[
            alert
            for alert in alerts.find(connection, model=version.model, limit=MAX_ALERTS)
            if alert.started_at < end and (since is None or alert.resolved_at is None or alert.resolved_at > since)
        ],
        outcomes=labels.find_outcomes(
            connection,
            version=version.id,
            since=since,
            until=end,
            variants=[Variant.PRODUCTION],
            sources=[source for source in LabelSource if source.outcome_blind],
            newest=MAX_LABELS,
        ),
        waiting=versions.find(connection, model=version.model, stages=[Stage.AWAITING_APPROVAL]),
        retraining=any(
            job.state in OPEN_JOBS and job.cause is not RetrainCause.CALIBRATION
            for job in jobs.find(connection, model=version.model)
        ),
        gauges=gauges.get(version.id, {}),
        asked=since is not None or until is not None,
        change=baselines.newest(connection, version.id, at=end),
    )


def _usual_span(
    reports: Sequence[DriftReport], open_alerts: Sequence[Alert], version: ModelVersion, end: datetime
) -> tuple[datetime, str]:
    """From when on, and what that is: the windows that lie mostly after the open drift began, of at most a week."""
    week = (reports[-1].window_end if reports else end) - USUAL_SPAN
    for alert in open_alerts:
        onset = alert.detail.get("onset_at")
        if reports and alert.name == DRIFT and alert.detail.get("version") == version.id and onset is not None:
            began = datetime.fromisoformat(onset)
            after = [r.window_start for r in reports if r.window_end - began > began - r.window_start]
            start = after[0] if after else reports[-1].window_start
            return max(start, week), f"since the drift began, about {began:%Y-%m-%d %H:%M} UTC"
    return week, f"the last {USUAL_SPAN.days} days of traffic"


def judge_span(found: Found, baseline: Baseline, settings: MonitorSettings) -> Span | None:
    """The kept windows of the span as one, at the level of one window; None where there is none of this baseline.

    Windows that were counted against another baseline do not merge with these: they are numbered, and left out.
    """
    spec = profile_spec(baseline)
    own = [kept for kept in found.kept if kept.baseline == spec.digest]
    if not own:
        return None
    merged = unpack(spec, [kept.state for kept in own])
    alpha = alarm_budget(settings).window_alpha
    return Span(
        start=min(kept.window_start for kept in own),
        end=max(kept.window_end for kept in own),
        windows=sum(kept.windows for kept in own),
        foreign=sum(kept.windows for kept in found.kept) - sum(kept.windows for kept in own),
        profile=merged,
        alpha=alpha,
        findings=span_findings(baseline, merged, leeway=settings.leeway, alpha=alpha),
    )
