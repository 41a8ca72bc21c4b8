"""A page on one version, for people: what it is worth now, what moved, and what to do. Self-contained, to be mailed."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from sqlalchemy import Connection

from monitoring.advice import Advice, Situation, advise
from monitoring.baseline import Baseline, calibration_of
from monitoring.charts.shapes import distribution_chart, effect_bar, reliability_chart, shares_chart
from monitoring.charts.svg import BLUE, GREEN, GREY, ORANGE, RED, finite
from monitoring.charts.time import Line, Stretch, heat_chart, line_chart, timeline
from monitoring.core.errors import NotReady
from monitoring.core.ledger import alerts, jobs, labels, profiles, verdicts, versions
from monitoring.core.ledger.profiles import KeptProfile
from monitoring.core.lifecycle import OPEN_JOBS
from monitoring.core.settings import MonitorSettings
from monitoring.core.types import (
    Alert,
    DriftReport,
    Interval,
    ModelVersion,
    Outcome,
    Severity,
    SignalFinding,
    Stage,
    Variant,
    Verdict,
)
from monitoring.detect import alarm_budget
from monitoring.pages import effects_by_signal, render
from monitoring.profiles import profile_spec, span_findings, unpack, usual_counts
from monitoring.quality import blind_outcomes
from monitoring.stats.calibration import reliability_bins
from monitoring.stats.profile import WindowProfile

MAX_WINDOWS = 120
MAX_ALERTS = 40
MAX_CLASSES = 12
MAX_WORDS = 12
MAX_EXAMPLES = 8
USUAL_SPAN = timedelta(days=7)
KNOWN_PARTS = frozenset({"classes", "words", "length", "examples"})


@dataclass(frozen=True)
class Found:
    """What the ledger knows of one version in a span of time: newest MAX_WINDOWS reports, oldest first, and the rest.

    `asked`: whether somebody named the span; `elsewhere`: predictions by name of the model's other versions in it.
    """

    version: ModelVersion
    since: datetime
    until: datetime
    asked: bool
    reports: Sequence[DriftReport]
    kept: Sequence[KeptProfile]
    elsewhere: Mapping[str, int]
    alerts: Sequence[Alert]
    outcomes: Sequence[Outcome]
    waiting: Sequence[ModelVersion]
    retraining: bool
    gauges: Mapping[str, Any]


@dataclass(frozen=True)
class Span:
    """The windows of a span as one: what was merged, how it differs from the baseline, and what could not be merged."""

    start: datetime
    end: datetime
    windows: int
    foreign: int
    profile: WindowProfile
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


def find(
    connection: Connection, version: ModelVersion, *, since: datetime | None, until: datetime | None, now: datetime
) -> Found:
    """Gather what is known of `version` between the two; by default its newest windows, and a week of its traffic."""
    asked = since is not None or until is not None
    end = now if until is None else until
    reports = [report for _, report in verdicts.reports(connection, version.model, version=version.id, limit=5_000)]
    reports = [
        report
        for report in reversed(reports)
        if report.window_start < end and (since is None or report.window_end > since)
    ][-MAX_WINDOWS:]
    newest = reports[-1].window_end if reports else end
    begin = since if since is not None else (reports[0].window_start if asked and reports else newest - USUAL_SPAN)
    others = profiles.versions_within(connection, version.model, begin, end)
    gauges = {kept: values for _, kept, values, _ in verdicts.load_gauges(connection)}
    return Found(
        version=version,
        since=begin,
        until=end,
        asked=asked,
        reports=reports,
        kept=profiles.find(connection, version.id, since=begin, until=end),
        elsewhere={versions.get(connection, name).name: n for name, n in others.items() if name != version.id},
        alerts=[
            alert
            for alert in alerts.find(connection, model=version.model, limit=MAX_ALERTS)
            if alert.started_at < end and (since is None or alert.resolved_at is None or alert.resolved_at > since)
        ],
        outcomes=[
            outcome
            for outcome in labels.find_outcomes(
                connection, version=version.id, since=since, variants=[Variant.PRODUCTION]
            )
            if outcome.predicted_at < end
        ],
        waiting=versions.find(connection, model=version.model, stages=[Stage.AWAITING_APPROVAL]),
        retraining=any(job.state in OPEN_JOBS for job in jobs.find(connection, model=version.model)),
        gauges=gauges.get(version.id, {}),
    )


def judge_span(found: Found, baseline: Baseline, settings: MonitorSettings) -> Span | None:
    """The kept windows of the span as one, at the level of one window; None where there is none of this baseline.

    Windows that were counted against another baseline do not merge with these: they are numbered, and left out.
    """
    spec = profile_spec(baseline)
    own = [kept for kept in found.kept if kept.baseline == spec.digest]
    if not own:
        return None
    merged = unpack(spec, [kept.state for kept in own])
    return Span(
        start=min(kept.window_start for kept in own),
        end=max(kept.window_end for kept in own),
        windows=sum(kept.windows for kept in own),
        foreign=sum(kept.windows for kept in found.kept) - sum(kept.windows for kept in own),
        profile=merged,
        findings=span_findings(baseline, merged, leeway=settings.leeway, alpha=alarm_budget(settings).window_alpha),
    )


def render_report(
    found: Found,
    baseline: Baseline | None,
    settings: MonitorSettings,
    *,
    made_at: datetime,
    rival: Mapping[str, Any] | None = None,
) -> str:
    """The page on what was `found`; distributions are drawn where the `baseline` can be read.

    `rival`: another tool's verdict (`evidently_export`), shown beside ours.
    """
    reports = found.reports
    span = None if baseline is None else judge_span(found, baseline, settings)
    times = [report.window_end for report in reports]
    accuracy = _accuracy_lines(reports, found.gauges.get("baseline_accuracy"))
    blind = blind_outcomes(found.outcomes)
    moved = _moved(reports)
    return render(
        "report.html",
        version=found.version,
        advice=advice_on(found, settings),
        latest=reports[-1] if reports else None,
        found=found,
        reports=reports,
        span=span,
        signals=[] if span is None or baseline is None else _signals(span, baseline),
        classes=[] if span is None or baseline is None else _classes(span, baseline),
        shares_chart=shares_chart,
        effect_bar=effect_bar,
        accuracy=accuracy,
        accuracy_chart=line_chart(
            times, accuracy, marks=[i for i, report in enumerate(reports) if report.verdict is Verdict.DRIFT]
        ),
        effect_chart=heat_chart(
            times,
            effects_by_signal([{f.signal: f.effect for f in report.findings} for report in reports]),
            full=2 * settings.leeway,
        ),
        alert_chart=timeline(times, [_stretch(alert) for alert in reversed(found.alerts)]) if times else None,
        leeway=settings.leeway,
        labelled=len(blind),
        reliability_chart=_reliability(blind) if blind else None,
        calibration=_calibration(blind) if blind else {},
        moved=moved,
        rival=rival,
        made_at=made_at,
    )


def advice_on(found: Found, settings: MonitorSettings) -> Advice:
    """The verdict in plain words."""
    return advise(
        Situation(
            name=found.version.name,
            latest=found.reports[-1] if found.reports else None,
            baseline_accuracy=found.gauges.get("baseline_accuracy"),
            tolerated_loss=settings.tolerated_loss,
            window_size=settings.window_size,
            seen=int(found.gauges.get("seen") or 0),
            open_alerts=tuple(alert.name for alert in found.alerts if alert.resolved_at is None),
            waiting=tuple(version.name for version in found.waiting),
            retraining=found.retraining,
        )
    )


def _signals(span: Span, baseline: Baseline) -> list[dict[str, Any]]:
    """Each signal with its finding and, where it has bins, its plot: those that moved most come first."""
    usual = usual_counts(baseline, span.profile.spec)
    return [
        {
            "finding": finding,
            "chart": distribution_chart(
                span.profile.spec.edges[finding.signal],
                usual[finding.signal],
                span.profile.bin_counts[finding.signal],
                name=finding.signal,
            )
            if finding.signal in usual
            else None,
        }
        for finding in sorted(span.findings, key=lambda item: -item.effect if finite(item.effect) else 1.0)
    ]


def _classes(span: Span, baseline: Baseline) -> list[dict[str, Any]]:
    """The classes whose share moved most for the size of its chance variation, by how much they grew or shrank."""
    n, usual_n = max(int(span.profile.class_counts.sum()), 1), max(int(baseline.class_counts.sum()), 1)
    rows = []
    for name, usual, now in zip(
        (*baseline.classes, "any other"), [*baseline.class_counts.tolist(), 0], span.profile.class_counts, strict=True
    ):
        pooled = (usual + now + 1.0) / (usual_n + n + 2.0)
        moved = float(now) / n - usual / usual_n
        deviations = abs(moved) / math.sqrt(pooled * (1.0 - pooled) * (1.0 / n + 1.0 / usual_n))
        rows.append({"class": name, "baseline": usual / usual_n, "now": float(now) / n, "sure": deviations})
    strongest = sorted((row for row in rows if row["sure"] > 3.0), key=lambda row: -row["sure"])[:MAX_CLASSES]
    return sorted(strongest, key=lambda row: row["baseline"] - row["now"])


def _moved(reports: Sequence[DriftReport]) -> dict[str, Any]:
    """What moved in the windows shown: words by the texts that use them, the newest examples and whatever else."""
    texts: dict[str, int] = defaultdict(int)
    rates: dict[str, list[tuple[float, float]]] = defaultdict(list)
    examples: list[Mapping[str, Any]] = []
    latest: Mapping[str, Any] = {}
    for report in reports:
        if not report.moved:
            continue
        latest = report.moved
        for item in report.moved.get("words", ()):
            texts[item["word"]] += item["texts"]
            rates[item["word"]].append((item["baseline_per_10k"], item["per_10k"]))
        examples = [*report.moved.get("examples", ()), *examples]
    words = sorted(texts, key=lambda word: (-texts[word], word))[:MAX_WORDS]
    return {
        "words": [
            {
                "word": word,
                "texts": texts[word],
                "windows": len(rates[word]),
                "baseline": float(np.mean([usual for usual, _ in rates[word]])),
                "now": float(np.mean([now for _, now in rates[word]])),
            }
            for word in words
        ],
        "examples": examples[:MAX_EXAMPLES],
        "length": latest.get("length"),
        "tables": {
            name: rows
            for name, rows in latest.items()
            if name not in KNOWN_PARTS and isinstance(rows, list) and rows and isinstance(rows[0], Mapping)
        },
    }


def _accuracy_lines(reports: Sequence[DriftReport], baseline: float | None) -> list[Line]:
    estimated = [report.estimated_accuracy for report in reports]
    realised = [report.realised_accuracy for report in reports]
    lines = [
        _interval_line("estimated without labels", BLUE, estimated),
        _interval_line("realised, by labels", GREEN, realised),
    ]
    if baseline is not None:
        lines.append(Line("baseline", GREY, [baseline] * len(reports), dashed=True))
    return lines


def _interval_line(name: str, colour: str, intervals: Sequence[Interval | None]) -> Line:
    def column(bound: str) -> list[float | None]:
        return [None if interval is None else getattr(interval, bound) for interval in intervals]

    return Line(name, colour, column("value"), column("low"), column("high"))


def _stretch(alert: Alert) -> Stretch:
    colour = {Severity.CRITICAL: RED, Severity.WARNING: ORANGE}.get(alert.severity, BLUE)
    return Stretch(alert.name.replace("_", " "), alert.started_at, alert.resolved_at, colour, alert.summary)


def _reliability(blind: Sequence[Outcome]) -> str:
    confidence = np.array([outcome.confidence for outcome in blind])
    return reliability_chart(reliability_bins(confidence, np.array([outcome.correct for outcome in blind]), bins=10))


def _calibration(blind: Sequence[Outcome]) -> Mapping[str, float]:
    return calibration_of(
        np.array([outcome.confidence for outcome in blind]), np.array([outcome.correct for outcome in blind])
    )
