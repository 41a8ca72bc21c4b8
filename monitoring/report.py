"""A page on one version, for people: what it is worth now, what moved, and what to do. Self-contained, to be mailed."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np

from monitoring.advice import Advice, Situation, advise
from monitoring.baseline import Baseline
from monitoring.calibration import MEASURES, read_calibration
from monitoring.charts.shapes import distribution_chart, effect_bar, reliability_chart, shares_chart
from monitoring.charts.svg import BLUE, GREEN, GREY, ORANGE, RED, finite
from monitoring.charts.time import Line, Stretch, heat_chart, line_chart, timeline
from monitoring.core.settings import MonitorSettings
from monitoring.core.types import Alert, DriftReport, Interval, Outcome, Severity, Verdict
from monitoring.dossier import Found, Span, judge_span
from monitoring.pages import effects_by_signal, render
from monitoring.profiles import usual_counts
from monitoring.quality import blind_outcomes
from monitoring.stats.calibration import reliability_bins

MAX_CLASSES = 12
MAX_WORDS = 12
MAX_EXAMPLES = 8
SEED = 0
"""The same labels make the same page."""


def render_report(
    found: Found,
    baseline: Baseline | None,
    settings: MonitorSettings,
    *,
    made_at: datetime,
    problem: str | None = None,
    rival: Mapping[str, Any] | None = None,
) -> str:
    """The page on what was `found`; distributions are drawn where the `baseline` can be read, else its `problem` told.

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
            effects_by_signal(
                [{f.signal: f.effect for f in report.findings} for report in reports],
                [{f.signal for f in report.findings if f.significant} for report in reports],
            ),
            full=2 * settings.leeway,
        ),
        alert_chart=timeline(times, [_stretch(alert) for alert in reversed(found.alerts)]) if times else None,
        leeway=settings.leeway,
        labelled=len(blind),
        reliability_chart=_reliability(blind) if blind else None,
        calibration=read_calibration(found.outcomes, rng=np.random.default_rng(SEED)),
        calibration_names=MEASURES,
        moved=moved,
        problem=problem,
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
            window_size=settings.window_size,
            seen=int(found.gauges.get("seen") or 0),
            open_alerts={
                alert.name: alert.summary.removeprefix(f"{found.version.name}: ")
                for alert in found.alerts
                if alert.resolved_at is None
            },
            waiting=tuple(version.name for version in found.waiting),
            retraining=found.retraining,
            span=f"{found.since:%Y-%m-%d %H:%M} to {found.until:%Y-%m-%d %H:%M} UTC" if found.asked else None,
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
    """Words and phrases that moved in any window shown, the newest examples, and the rest of the newest that moved."""
    windows = [report for report in reports if report.moved]
    latest = windows[-1].moved if windows else {}
    examples = [item for report in reversed(windows) for item in report.moved.get("examples", ())]
    return {
        "until": windows[-1].window_end if windows else None,
        "words": _frequent([item for report in windows for item in report.moved.get("words", ())], "word"),
        "phrases": _frequent([item for report in windows for item in report.moved.get("phrases", ())], "phrase"),
        "examples": examples[:MAX_EXAMPLES],
        "length": latest.get("length"),
        "clusters": latest.get("clusters", ()),
        "slices": latest.get("slices", ()),
    }


def _frequent(found: Sequence[Mapping[str, Any]], what: str) -> list[dict[str, Any]]:
    """Those that most texts use, with their mean rates in the windows in which they stood out."""
    texts: dict[str, int] = defaultdict(int)
    rates: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for item in found:
        texts[item[what]] += item["texts"]
        rates[item[what]].append((item["baseline_per_10k"], item["per_10k"]))
    most = sorted(texts, key=lambda name: (-texts[name], name))[:MAX_WORDS]
    means = {name: np.mean(rates[name], axis=0).tolist() for name in most}
    return [{"name": name, "baseline": means[name][0], "now": means[name][1]} for name in most]


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
